"""How often to ask each source, when the calls are few: the exact split of a budget, under floors and ceilings.

A source changes at `rate` (Poisson, per second) and is asked every T seconds, so y = rate * T changes are expected between
two polls. For the three losses below the marginal value of a poll is (weight / rate) * g(y); at the optimum it is the same
multiplier times the poll's cost for every source that no clamp holds (Karush-Kuhn-Tucker).

| objective | loss of a source | g(y) | source |
|---|---|---|---|
| lag | time each change waits to be seen | y^2/2, so T ~ 1/sqrt(weight * rate) | the square-root law |
| staleness | H(n) for n unseen changes (harmonic) | y - 1 + e^-y | Kolobov et al., NeurIPS 2019, for periodic polls |
| freshness | 1 while any change is unseen | 1 - e^-y (1 + y) | Cho & Garcia-Molina, TODS 28:390 (2003) |

Kolobov's own formula is for polls at random instants; ours come at even distances, and E[H(n)] for n ~ Poisson(u) has the
derivative (1 - e^-u)/u, whence the form above. Only `freshness` gives a source up: it abandons the busiest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Objective = Literal["lag", "staleness", "freshness"]

TINY = 1e-15
"""Changes per second below which a source counts as silent (one change in thirty million years)."""
SMALL = 1e-2
"""Below it g is taken from its series: the closed form loses its digits to cancellation."""
NEWTON_STEPS = 40
ROOT_STEPS = 200


@dataclass(frozen=True, slots=True)
class Sources:
    """Columns of equal length. `rate` in changes per second, `cost` in calls, `floor_s` <= interval <= `ceiling_s`."""

    rate: Floats
    weight: Floats
    cost: Floats
    floor_s: Floats
    ceiling_s: Floats

    def __post_init__(self) -> None:
        """Raises ValueError for columns that do not fit together or bounds that cross."""
        columns = (self.rate, self.weight, self.cost, self.floor_s, self.ceiling_s)
        if len({column.shape for column in columns}) != 1 or self.rate.ndim != 1:
            raise ValueError("the columns of sources differ in length")
        if any(bool(np.isnan(column).any()) for column in columns):
            raise ValueError("a source has a value that is not a number")
        if bool((self.rate < 0).any() or (self.weight < 0).any()):
            raise ValueError("rates and weights are never negative")
        if bool((self.cost <= 0).any() or (self.floor_s <= 0).any() or (self.floor_s > self.ceiling_s).any()):
            raise ValueError("a cost and a floor are positive, and no floor lies above its ceiling")


@dataclass(frozen=True, slots=True)
class Allocation:
    """`interval_s` a source. `multiplier`: what one call per second more would be worth; 0 when the floors stop it first.
    `spent`: calls per second. `stretched`: 1, or by how much the ceilings had to be overrun because they alone cost more
    than the budget."""

    interval_s: Floats
    multiplier: float
    spent: float
    stretched: float = 1.0

    @property
    def ceilings_exceed_budget(self) -> bool:
        return self.stretched > 1.0


def gain(y: Floats, objective: Objective) -> Floats:
    """g(y) of the table above, for y >= 0 expected changes unseen. Rises from 0."""
    if objective == "lag":
        return np.asarray(y * y / 2, dtype=np.float64)
    small = np.minimum(y, SMALL)
    if objective == "staleness":
        series = small**2 * (1 / 2 - small * (1 / 6 - small * (1 / 24 - small * (1 / 120 - small / 720))))
        closed = y + np.expm1(-y)
    else:
        series = small**2 * (1 / 2 - small * (1 / 3 - small * (1 / 8 - small * (1 / 30 - small / 144))))
        closed = 1 - np.exp(-y) * (1 + y)
    return np.where(y < SMALL, series, closed)


def inverse_gain(z: Floats, objective: Objective) -> Floats:
    """The y with g(y) = z, infinite where no y is enough. Newton from above on a convex function: it never overshoots."""
    if objective == "lag":
        return np.sqrt(2 * z)
    if objective == "staleness":
        finite = np.isfinite(z)
        target = np.where(finite, z, 1.0)
        y = target + np.sqrt(2 * target)
    else:
        # 1 - e^-y (1+y) = z is y - ln(1+y) = q, which is convex.
        finite = z < 1.0
        target = -np.log1p(-np.where(finite, z, 0.5))
        y = target + np.sqrt(2 * target)
    for _ in range(NEWTON_STEPS):
        if objective == "staleness":
            step = (gain(y, objective) - target) / np.maximum(-np.expm1(-y), 1e-300)
        else:
            small = np.minimum(y, SMALL)
            series = small**2 * (1 / 2 - small * (1 / 3 - small * (1 / 4 - small * (1 / 5 - small / 6))))
            value = np.where(y < SMALL, series, y - np.log1p(y))
            step = (value - target) * (1 + y) / np.maximum(y, 1e-300)
        y = np.maximum(y - step, 0.0)
        if bool((np.abs(step) <= 1e-14 * y + 1e-300).all()):
            break
    return np.where(finite, y, np.inf)


def intervals(sources: Sources, multiplier: float, objective: Objective) -> Floats:
    """Each source's best interval in seconds when a call costs `multiplier`, within its floor and ceiling."""
    rate = np.maximum(sources.rate, TINY)
    with np.errstate(divide="ignore", over="ignore"):
        z = np.where(sources.weight > 0, multiplier * sources.cost * rate / np.maximum(sources.weight, 1e-300), np.inf)
        free = inverse_gain(z, objective) / rate
    return np.clip(free, sources.floor_s, sources.ceiling_s)


def allocate(sources: Sources, budget: float, objective: Objective = "staleness") -> Allocation:
    """The intervals that lose least for `budget` calls per second: clamped sources leave the pool and the rest share what
    remains. Never spends more than the budget. Raises ValueError for a budget that is not positive."""
    if not budget > 0:
        raise ValueError("a budget is mandatory, and positive")
    dearest = float(np.sum(sources.cost / sources.floor_s))
    if dearest <= budget:
        return Allocation(sources.floor_s.copy(), 0.0, dearest)
    cheapest = float(np.sum(sources.cost / sources.ceiling_s))
    if cheapest >= budget:
        stretched = cheapest / budget
        return Allocation(sources.ceiling_s * stretched, np.inf, budget, stretched)
    multiplier = _multiplier(sources, budget, objective)
    return _fit(sources, budget, multiplier, intervals(sources, multiplier, objective))


def _multiplier(sources: Sources, budget: float, objective: Objective) -> float:
    """The root of spent(multiplier) = budget on a logarithmic scale: bracketed, by the Illinois form of regula falsi."""

    def excess(log_multiplier: float) -> float:
        spent = float(np.sum(sources.cost / intervals(sources, float(np.exp(log_multiplier)), objective)))
        return float(np.log(spent / budget)) if spent > 0 else -700.0

    # The start is the square-root law's multiplier without clamps.
    pool = np.sqrt(sources.cost * sources.weight * np.maximum(sources.rate, TINY) / 2)
    low = high = 2 * float(np.log(max(float(np.sum(pool)) / budget, 1e-150)))
    above = below = excess(low)
    width = 1.0
    while above < 0 and low > -690:
        low, width = low - width, width * 2
        above = excess(low)
    width = 1.0
    while below > 0 and high < 690:
        high, width = high + width, width * 2
        below = excess(high)
    side = 0
    for step in range(ROOT_STEPS):
        if high - low < 1e-14 * max(1.0, abs(high)) or below == 0:
            break
        # Every third step halves the bracket, for functions with flat parts.
        middle = (low + high) / 2 if step % 3 == 2 or above == below else (low * below - high * above) / (below - above)
        middle = min(max(middle, low), high)
        value = excess(middle)
        if abs(value) < 1e-13:
            return float(np.exp(middle))
        if value > 0:
            low, above = middle, value
            below, side = (below / 2 if side == 1 else below), 1
        else:
            high, below = middle, value
            above, side = (above / 2 if side == -1 else above), -1
    return float(np.exp(high))


def _fit(sources: Sources, budget: float, multiplier: float, interval_s: Floats) -> Allocation:
    """Spend the last digits too, and never one more: the free sources are scaled onto what the clamped ones leave."""
    calls = sources.cost / interval_s
    free = (interval_s > sources.floor_s) & (interval_s < sources.ceiling_s)
    pooled = float(np.sum(calls[free]))
    left = budget - float(np.sum(calls[~free]))
    if pooled > 0 and left > 0:
        scaled = np.where(free, interval_s * (pooled / left), interval_s)
        interval_s = np.clip(scaled, sources.floor_s, sources.ceiling_s)
    return Allocation(interval_s, multiplier, float(np.sum(sources.cost / interval_s)))
