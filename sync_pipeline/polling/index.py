"""Who is worth the next calls: the allocation of `allocate.py` in its index form, for many sources at once.

A source's index is the value of asking it now, over the price of a call: (weight / (cost * rate)) * g(y) / multiplier with
y the changes expected unseen. At the best interval it is 1. Hints enter y, so nothing else need know of them. An index
never lets a silent source wait for ever: ceilings are deadlines, met earliest first at an even pace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sync_pipeline.polling.allocate import TINY, Allocation, Floats, Objective, Sources, allocate, gain

EARLY = 0.5
"""Calls that would lapse go to sources with at least this index (at 0.7 of their interval, by the square-root law)."""
SPREAD = 0.1
"""How much earlier than its best moment a source may be asked, at jitter 1 (hotel.md 6.4: 10 %)."""
PACE = 1.1
"""Ceilings are worked off a tenth faster than they come due, so that a wave flattens."""
LARGEST = 1e300
KEPT = 0.2
"""Share of the budget that hints cannot promise away."""


@dataclass(frozen=True, slots=True)
class View:
    """Columns of equal length. `rate`: changes per second in the time ahead; `unseen`: changes expected since the last
    poll, hints included; `age_s`: since the last poll, infinite if never; `unheard`: the share of changes no hint tells
    (1 without hints); `hinted_per_s`: hints expected per second, each a call; `jitter` in [0, 1)."""

    rate: Floats
    unseen: Floats
    weight: Floats
    cost: Floats
    age_s: Floats
    floor_s: Floats
    ceiling_s: Floats
    unheard: Floats
    hinted_per_s: Floats
    jitter: Floats


@dataclass(frozen=True, slots=True)
class Choice:
    """`order`: the sources to ask now, first first, all payable. `wanting`: worth a call, whether payable or not.
    `deadline`: asked for their ceiling's sake. `stretched`: as in `Allocation`."""

    order: NDArray[np.int64]
    wanting: NDArray[np.bool_]
    deadline: NDArray[np.bool_]
    index: Floats
    interval_s: Floats
    stretched: float


def unseen_changes(expected: Floats, rate: Floats, hints: Floats, recall: Floats, false_rate: Floats) -> Floats:
    """Changes expected unseen: those that no hint tells, and each hint at the probability that it is true. (hotel.md 6.2
    counts a hint as ln((nu + r d)/nu), which is right for the chance of any change; a loss per change wants their number.)
    """
    true = np.where(recall > 0, recall * rate / np.maximum(recall * rate + false_rate, 1e-300), 0.0)
    return np.asarray((1.0 - recall) * expected + hints * true, dtype=np.float64)


def solve(view: View, *, calls_per_s: float, objective: Objective) -> Allocation:
    """The interval and price of every source under `calls_per_s`, less what hints will ask for. It holds for minutes: a
    caller who chooses more often may keep it. Raises ValueError as `allocate` does."""
    promised = float(np.sum(view.cost * view.hinted_per_s))
    rate = np.maximum(view.rate, TINY)
    quiet = Sources(rate * view.unheard, view.weight * view.unheard, view.cost, view.floor_s, view.ceiling_s)
    return allocate(quiet, max(calls_per_s - promised, KEPT * calls_per_s), objective)


def choose(view: View, allocation: Allocation, *, calls: float, lead_s: float, objective: Objective) -> Choice:
    """The sources to ask with `calls` in hand. `lead_s`: how long until the next choice at the latest."""
    value = view.weight / (view.cost * np.maximum(view.rate, TINY)) * gain(view.unseen, objective)
    price = allocation.multiplier
    if 0 < price < np.inf:
        with np.errstate(over="ignore"):  # beside a source next to worthless, another is worth any price
            index = np.minimum(value / price, LARGEST)
    else:
        # No price: the floors (or the ceilings) decide alone; the index is how much of the interval has passed.
        index = np.where(view.weight > 0, np.minimum(view.age_s / allocation.interval_s, 1e9), 0.0)
    allowed = view.age_s >= view.floor_s
    ripe = allowed & (view.weight > 0)
    wanting = ripe & (index >= 1.0 - SPREAD * view.jitter)
    ceiling_s = view.ceiling_s * allocation.stretched
    deadline = _deadlines(view, ceiling_s, allocation.interval_s, lead_s) & allowed

    lapsing = ripe & (index >= EARLY)
    rank = np.where(deadline, 3, np.where(wanting, 2, np.where(lapsing, 1, 0)))
    urgency = np.where(deadline, np.minimum(view.age_s, 1e12) - ceiling_s, index)
    rows = np.flatnonzero(rank)
    rows = rows[np.lexsort((-view.weight[rows], -urgency[rows], -rank[rows]))]
    payable = np.cumsum(view.cost[rows]) <= calls + 1e-9
    return Choice(rows[payable], wanting | deadline, deadline, index, allocation.interval_s, allocation.stretched)


def _deadlines(view: View, ceiling_s: Floats, interval_s: Floats, lead_s: float) -> NDArray[np.bool_]:
    """Who must be asked now so that, at the pace at which ceilings come due anyway, all are met (earliest deadline
    first). Asking just as many as make the rest feasible again keeps a wave from taking every call at once."""
    slack = ceiling_s - np.minimum(view.age_s, 2 * ceiling_s) - lead_s
    bound = (interval_s >= ceiling_s * 0.999) | (slack <= 0)
    due = np.zeros(slack.shape, dtype=np.bool_)
    rows = np.flatnonzero(bound)
    if rows.size == 0:
        return due
    rows = rows[np.lexsort((-view.weight[rows], slack[rows]))]
    pace = PACE * float(np.sum(view.cost[rows] / ceiling_s[rows]))
    before = np.cumsum(view.cost[rows]) - view.cost[rows]
    backlog = float(np.max(before - pace * slack[rows]))
    due[rows[(before < backlog) | (slack[rows] <= 0)]] = True
    return due
