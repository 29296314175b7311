"""Which feeds to ask next under the calls that are left, and why: a pure plan with a sentence for each decision.

What a feed is worth comes from its estimate, weight, cost and hints (`index.py`); here states become columns, and the
choice becomes words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from sync_pipeline.kernel.clock import in_words
from sync_pipeline.polling import evidence
from sync_pipeline.polling.allocate import Objective
from sync_pipeline.polling.estimate import RateEstimate, as_rows
from sync_pipeline.polling.index import Choice, View, choose, solve, unseen_changes

HINT_COUNTS = 0.8
"""How much of a hint is believed before the feed's own recall and false hints are known."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """What the plan knows of a source. `weight`: value at risk per unseen change; `cost`: calls a poll takes; `hints`:
    webhook hints since the last poll; `jitter` in [0, 1), drawn by the caller once a poll; `blocked_until`: deferred,
    paused or leased until then, with its reason."""

    source: str
    estimate: RateEstimate
    last_poll_at: datetime | None
    floor_s: float
    ceiling_s: float
    weight: float = 1.0
    cost: float = 1.0
    hints: int = 0
    jitter: float = 0.0
    blocked_until: datetime | None = None
    blocked_reason: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """`calls`: grants that may be spent until the next plan (what is passed is spent, on the nearly due if no one else, so
    pass no more than that); `calls_per_s`: what the quota gives from here on; `left`: calls until the
    window named `window` ends, for the sentence; `lead_s`: seconds until the next plan at the latest."""

    calls: float
    calls_per_s: float
    left: int
    window: str = "this hour"
    lead_s: float = 60.0


@dataclass(frozen=True, slots=True)
class PollDecision:
    """`at`: when the source is, or will be, due if nothing new is learned. `expected`: changes expected unseen."""

    source: str
    due: bool
    at: datetime
    why: str
    expected: float
    interval_s: float


def plan(
    states: Sequence[SourceState], budget: Budget, now: datetime, objective: Objective = "staleness"
) -> list[PollDecision]:
    """One decision a source, those to ask now first and in their order. The due ones together cost no more than
    `budget.calls`. Raises ValueError for a budget without calls per second."""
    free = [state for state in states if state.blocked_until is None or state.blocked_until <= now]
    blocked = [state for state in states if not (state.blocked_until is None or state.blocked_until <= now)]
    decisions = [_blocked(state) for state in blocked]
    if free:
        view = look(free, now)
        allocation = solve(view, calls_per_s=budget.calls_per_s, objective=objective)
        choice = choose(view, allocation, calls=budget.calls, lead_s=budget.lead_s, objective=objective)
        decisions = _in_words(free, view, choice, budget, now) + decisions
    return decisions


def look(states: Sequence[SourceState], now: datetime) -> View:
    """The states as columns. The rate is the mean over the interval ahead, as long as the one behind: a call at night
    must not be priced as if the night never ended."""
    rows = as_rows([state.estimate for state in states])
    at = now.timestamp()
    last = np.array([at if s.last_poll_at is None else min(s.last_poll_at.timestamp(), at) for s in states])
    never = np.array([state.last_poll_at is None for state in states])
    ceiling = np.array([state.ceiling_s for state in states], dtype=np.float64)
    hints = np.array([state.hints for state in states], dtype=np.float64)
    mean, summed = evidence.mean_rate(rows), evidence.cumulative(evidence.profile(rows))
    instant = np.full(len(states), at)
    since = np.where(never, at - ceiling, last)
    ahead = np.clip(instant - since, evidence.HOUR, evidence.HOUR * evidence.WEEK_HOURS)
    rate = mean * evidence.exposure(summed, instant, instant + ahead) / ahead
    expected = mean * evidence.exposure(summed, since, instant)
    recall, false_rate = evidence.recall(rows), evidence.false_rate(rows)
    unseen = unseen_changes(expected, rate, hints, recall, false_rate)
    # A first hint from a feed that never had one is believed before it is measured.
    unseen = np.where((hints > 0) & (recall == 0), unseen + HINT_COUNTS * hints, unseen)
    return View(
        rate=rate,
        unseen=unseen,
        weight=np.array([state.weight for state in states], dtype=np.float64),
        cost=np.array([state.cost for state in states], dtype=np.float64),
        age_s=np.where(never, np.inf, at - last),
        floor_s=np.array([state.floor_s for state in states], dtype=np.float64),
        ceiling_s=ceiling,
        unheard=1.0 - recall,
        hinted_per_s=np.where(recall > 0, recall * mean + false_rate, 0.0),
        jitter=np.array([state.jitter for state in states], dtype=np.float64),
    )


def _in_words(
    states: Sequence[SourceState], view: View, choice: Choice, budget: Budget, now: datetime
) -> list[PollDecision]:
    left = budget.left
    chosen: list[PollDecision] = []
    for row in choice.order.tolist():
        state, expected = states[row], float(view.unseen[row])
        price = f"costs {_number(state.cost)} of {left} calls left {budget.window}"
        left = max(0, left - round(state.cost))
        if state.last_poll_at is None:
            why = f"due: never polled; {price}"
        elif bool(choice.deadline[row]):
            ceiling, last = in_words(state.ceiling_s), _clock(state.last_poll_at, now)
            why = f"due: its ceiling of {ceiling} is near, last polled {last}; {price}"
        else:
            heard = f", {state.hints} hinted" if state.hints else ""
            early = "" if bool(choice.wanting[row]) else "early, calls would lapse: "
            why = f"due: {early}{expected:.1f} changes expected since {_clock(state.last_poll_at, now)}{heard}, {price}"
        chosen.append(PollDecision(state.source, True, now, why, expected, float(choice.interval_s[row])))
    taken = set(choice.order.tolist())
    waiting: list[PollDecision] = []
    for row, state in enumerate(states):
        if row in taken:
            continue
        interval, expected = float(choice.interval_s[row]), float(view.unseen[row])
        at = now if state.last_poll_at is None else max(now, state.last_poll_at + timedelta(seconds=min(interval, 1e9)))
        if bool(choice.wanting[row]):
            why = f"waits for calls: {expected:.1f} changes expected, but others are worth the {_number(budget.calls)} now"
        elif view.age_s[row] < state.floor_s:
            why = f"not due: asked {in_words(float(view.age_s[row]))} ago, its floor is {in_words(state.floor_s)}"
        else:
            why = f"not due: {expected:.1f} changes expected unseen, asked every {in_words(interval)}"
        waiting.append(PollDecision(state.source, False, at, why, expected, interval))
    waiting.sort(key=lambda decision: decision.at)
    return chosen + waiting


def _blocked(state: SourceState) -> PollDecision:
    until = state.blocked_until
    assert until is not None
    why = f"waits until {until:%H:%M:%SZ}: {state.blocked_reason or 'deferred'}"
    return PollDecision(state.source, False, until, why, 0.0, state.ceiling_s)


def _clock(at: datetime, now: datetime) -> str:
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%d %b %H:%M}"


def _number(value: float) -> str:
    return f"{value:g}"
