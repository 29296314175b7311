"""Event simulation: planners spend the same calls on the same world, and every change's wait is measured, not modelled."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from sync_pipeline.polling import evidence
from sync_pipeline.polling.allocate import Allocation, Objective
from sync_pipeline.polling.estimate import Prior
from sync_pipeline.polling.evidence import Rows, Seen
from sync_pipeline.polling.index import View, choose, solve, unseen_changes
from sync_pipeline.polling.population import behind, learned
from sync_pipeline_tests.simulation import optimum
from sync_pipeline_tests.simulation.worlds import DAY, HOUR, MONDAY, SPACING, World

Floats = NDArray[np.float64]
Sight = Literal["changed", "count"]


@dataclass(frozen=True, slots=True)
class Setting:
    """`polls_per_day`: the quota. `step`: calls that come back from one choice to the next (less than one: a source can be
    asked when it is due, not only at the next call's turn). `saved`: calls that may be kept for later, as a window with room
    keeps them; the others lapse. Measured from `warm_days` on, and chosen in coarser steps before (`warm_step`) where thousands
    of sources would take long. `sight`: what a poll tells."""

    polls_per_day: float
    warm_days: float
    objective: Objective = "lag"
    sight: Sight = "changed"
    floor_s: float = 1.0
    ceiling_s: float = 7 * DAY
    step: float = 100
    saved: int = 0
    warm_step: float | None = None
    solve_every: int = 5
    seed: int = 1

    @property
    def per_s(self) -> float:
        return self.polls_per_day / DAY

    def step_at(self, now: float) -> float:
        return self.warm_step or self.step if now < self.warm_days * DAY else self.step


class Planner(Protocol):
    def next(self, now: float, calls: int) -> NDArray[np.int64]: ...

    def saw(self, rows: NDArray[np.int64], at: Floats, found: NDArray[np.int64], hints: NDArray[np.int64]) -> None: ...


@dataclass(frozen=True, slots=True)
class Measured:
    """`lag`, `staleness`, `freshness`: the three losses per unit of time, weighted (as in optimum.py). `stale_share`: the
    last one over the sum of weights. `delay_mean_s` ...: first unseen change to detection, weighted by value (hotel.md 6.3).
    `wait_mean_s`: each change's own wait."""

    lag: float
    staleness: float
    freshness: float
    stale_share: float
    wait_mean_s: float
    delay_mean_s: float
    delay_p50_s: float
    delay_p95_s: float
    polls: int
    oldest_s: float
    over_ceiling: int
    expected: float
    """The loss of the setting's objective that these polls have in expectation, at the true rates: what was measured,
    without the luck of when the changes fell. It holds where nobody hints: then a poll's instant knows nothing of what its
    own source did since the last one."""


def simulate(world: World, planner: Planner, setting: Setting) -> Measured:
    """Spend the quota evenly: each step's calls go out one after the other, in the planner's order."""
    n, end, begin = world.n, world.days * DAY, setting.warm_days * DAY
    sources, rhythms = np.arange(n), world.rhythms
    seen_until = np.searchsorted(world.changes, sources * SPACING)
    heard_until = np.searchsorted(world.hints, sources * SPACING)
    last = np.zeros(n)
    sums = {"lag": 0.0, "staleness": 0.0, "freshness": 0.0, "changes": 0.0}
    delays: list[Floats] = []
    delay_weights: list[Floats] = []
    polls, oldest, over, credit, expected = 0, 0.0, 0, 0.0, 0.0

    def expect(rows: NDArray[np.int64], at: Floats) -> float:
        rates, factors, weights = world.rates[rows], rhythms[rows], world.weights[rows]
        until = np.maximum(at, begin)
        lost = float(weights @ optimum.accrued(setting.objective, rates, factors, last[rows], until))
        early = last[rows] < begin
        if bool(early.any()):
            before = np.full(int(early.sum()), begin)
            lost -= float(
                weights[early]
                @ optimum.accrued(setting.objective, rates[early], factors[early], last[rows][early], before)
            )
        return lost

    def account(rows: NDArray[np.int64], at: Floats, real: bool) -> NDArray[np.int64]:
        """Measure what these polls reveal; how many changes each found."""
        upto = np.searchsorted(world.changes, rows * SPACING + at, side="right")
        found = upto - seen_until[rows]
        poll = np.repeat(np.arange(rows.shape[0]), found)
        nth = np.arange(poll.shape[0]) - np.repeat(np.cumsum(found) - found, found)
        changed_at = world.changes[np.repeat(seen_until[rows], found) + nth] - rows[poll] * SPACING
        waited = np.maximum(at[poll] - np.maximum(changed_at, begin), 0.0)
        weighted = world.weights[rows[poll]] * waited
        first = nth == 0
        sums["lag"] += float(weighted.sum())
        sums["staleness"] += float((weighted / (nth + 1)).sum())
        sums["freshness"] += float(weighted[first].sum())
        sums["changes"] += float(world.weights[rows[poll]][changed_at >= begin].sum())
        fair = first & (changed_at >= begin)
        if real and bool(fair.any()):
            delays.append(waited[fair])
            delay_weights.append(world.weights[rows[poll[fair]]])
        seen_until[rows] = upto
        return found

    now = 0.0
    while now < end - 1e-6:
        step = setting.step_at(now)
        length = min(step / setting.per_s, end - now)
        credit += length * setting.per_s
        rows = planner.next(now, int(credit + 1e-9))
        credit = min(credit - rows.shape[0], max(2.0 * step, setting.saved + 1.0))
        at = now + (np.arange(rows.shape[0]) + 1) * (length / max(rows.shape[0], 1))
        ages = at - last[rows]
        if now >= begin and rows.shape[0]:
            oldest = max(oldest, float(ages.max()))
            over += int(np.count_nonzero(ages > setting.ceiling_s))
            polls += rows.shape[0]
            expected += expect(rows, at)
        found = account(rows, at, real=True)
        hints = np.zeros_like(found)
        if world.hints.shape[0]:
            upto = np.searchsorted(world.hints, rows * SPACING + at, side="right")
            hints, heard_until[rows] = upto - heard_until[rows], upto
        planner.saw(rows, at, found, hints)
        last[rows] = at
        now += length
    account(sources, np.full(n, end), real=False)
    expected += expect(sources, np.full(n, end))
    over += int(np.count_nonzero(end - last > setting.ceiling_s))
    span = end - begin
    mean, p50, p95 = _weighted(np.concatenate(delays), np.concatenate(delay_weights))
    return Measured(
        lag=sums["lag"] / span,
        staleness=sums["staleness"] / span,
        freshness=sums["freshness"] / span,
        stale_share=sums["freshness"] / span / float(world.weights.sum()),
        wait_mean_s=sums["lag"] / max(sums["changes"], 1e-300),
        delay_mean_s=mean,
        delay_p50_s=p50,
        delay_p95_s=p95,
        polls=polls,
        oldest_s=oldest,
        over_ceiling=over,
        expected=expected / span,
    )


def _weighted(values: Floats, weights: Floats) -> tuple[float, float, float]:
    order = np.argsort(values)
    values, weights = values[order], weights[order]
    share = np.cumsum(weights) / weights.sum()
    at = np.minimum(np.searchsorted(share, [0.5, 0.95]), values.shape[0] - 1)
    return float(values @ weights / weights.sum()), float(values[at[0]]), float(values[at[1]])


class Cycle:
    """Round robin; with `shuffled`, a fixed-interval cron whose batch of all sources runs in any order each time."""

    def __init__(self, n: int, *, shuffled: bool = False, seed: int = 1) -> None:
        self._order, self._at, self._shuffled = np.arange(n), 0, shuffled
        self._rng = np.random.default_rng(seed)
        self._rng.shuffle(self._order)

    def next(self, now: float, calls: int) -> NDArray[np.int64]:
        del now
        # A batch never holds a source twice: the world measures a batch at once.
        taken = self._order[self._at : self._at + calls]
        self._at += taken.shape[0]
        if self._at >= self._order.shape[0]:
            self._at = 0
            if self._shuffled:
                self._rng.shuffle(self._order)
        return taken

    def saw(self, rows: NDArray[np.int64], at: Floats, found: NDArray[np.int64], hints: NDArray[np.int64]) -> None:
        """A fixed order learns nothing."""


class Adaptive:
    """The policy itself (index.py over evidence.py). `known`: the true rates and rhythm instead of learned ones.
    `pooled`: sources of one kind teach each other the prior, once a simulated day."""

    def __init__(
        self, world: World, setting: Setting, *, known: bool, prior: Prior | None = None, pooled: bool = True
    ) -> None:
        n = world.n
        self._world, self._set, self._known, self._pooled = world, setting, known, pooled
        prior = prior or Prior(rate=float(world.rates.mean()), shape=0.5)
        self._prior = prior
        self._rows = evidence.fresh(np.full(n, prior.shape), np.full(n, prior.rate))
        self._summed = evidence.cumulative(world.profiles if known else np.ones((n, 168)))
        self._rate = world.rates.copy() if known else evidence.mean_rate(self._rows)
        self._hinted = world.hints.shape[0] > 0
        self._recall, self._false = np.zeros(n), np.zeros(n)
        self._last = np.full(n, MONDAY - setting.ceiling_s)
        self._heard = np.searchsorted(world.hints, np.arange(n) * SPACING)
        self._never = np.ones(n, dtype=np.bool_)
        self._rng = np.random.default_rng(setting.seed)
        self._jitter = self._rng.random(n)
        self._steps, self._pooled_at = 0, 0.0
        self._allocation: Allocation | None = None

    def _view(self, now: float) -> View:
        n, at = self._world.n, np.full(self._world.n, now + MONDAY)
        age = at - self._last
        ahead = np.clip(age, HOUR, 168 * HOUR)
        rate = self._rate * evidence.exposure(self._summed, at, at + ahead) / ahead
        unseen = self._rate * evidence.exposure(self._summed, self._last, at)
        hinted = np.zeros(n)
        if self._hinted:
            upto = np.searchsorted(self._world.hints, np.arange(n) * SPACING + now, side="right")
            hints = (upto - self._heard).astype(np.float64)
            hinted = self._recall * self._rate + self._false
            unseen = unseen_changes(unseen, rate, hints, self._recall, self._false)
        constant = np.ones(n)
        return View(
            rate=rate, unseen=unseen, weight=self._world.weights, cost=constant,
            age_s=np.where(self._never, np.inf, age), floor_s=constant * self._set.floor_s,
            ceiling_s=constant * self._set.ceiling_s, unheard=1.0 - self._recall, hinted_per_s=hinted,
            jitter=self._jitter,
        )  # fmt: skip

    def next(self, now: float, calls: int) -> NDArray[np.int64]:
        view = self._view(now)
        if self._allocation is None or self._steps % self._set.solve_every == 0:
            self._allocation = solve(view, calls_per_s=self._set.per_s, objective=self._set.objective)
        self._steps += 1
        lead = 2 * self._set.step_at(now) / self._set.per_s
        choice = choose(view, self._allocation, calls=calls, lead_s=lead, objective=self._set.objective)
        due = int(np.count_nonzero(choice.wanting[choice.order]))
        return choice.order[: max(due, calls - self._set.saved)]

    def saw(self, rows: NDArray[np.int64], at: Floats, found: NDArray[np.int64], hints: NDArray[np.int64]) -> None:
        when = at + MONDAY
        never = self._never[rows]
        if not self._known and rows.shape[0]:
            # A first poll only sets the baseline: nothing is known of the time before it.
            poll = Seen(
                since=np.where(never, when, self._last[rows]),
                until=when,
                changed=found > 0,
                count=found.astype(np.float64) if self._set.sight == "count" else np.full(rows.shape[0], -1.0),
                hints=hints.astype(np.float64) if self._hinted else np.full(rows.shape[0], -1.0),
            )
            mine = _pick(self._rows, rows)
            known = evidence.learn(mine, poll)
            for item in fields(Rows):
                getattr(self._rows, item.name)[rows] = getattr(known, item.name)
            self._rate[rows] = evidence.mean_rate(known)
            self._summed[rows] = evidence.cumulative(evidence.profile(known))
            if self._hinted:
                self._recall[rows], self._false[rows] = evidence.recall(known), evidence.false_rate(known)
            if self._pooled and at[-1] - self._pooled_at > DAY:
                self._pooled_at = float(at[-1])
                self._rows = behind(learned(self._rows, self._prior), self._rows)
                self._rate = evidence.mean_rate(self._rows)
        elif self._known and self._hinted:
            told = self._world.hints.shape[0] / max(self._world.changes.shape[0], 1)
            self._recall[:], self._false[:] = 0.9 * told, 0.1 * told * self._world.rates
        self._last[rows] = when
        self._never[rows] = False
        self._heard[rows] += hints
        self._jitter[rows] = self._rng.random(rows.shape[0])


def _pick(rows: Rows, chosen: NDArray[np.int64]) -> Rows:
    return Rows(**{item.name: getattr(rows, item.name)[chosen] for item in fields(Rows)})
