"""When a session asks each of its feeds next: what polls taught, against what the quota gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sync_pipeline.kernel.clock import in_words
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.polling.schedule import Left

POLL_SHARE = 0.5
"""Of the limit that polls may spend; the rest is for webhooks, deadlines, reconciles and backfills."""

LEAST_PER_S = 1e-6
"""Of a day that is spent: the ceilings decide then."""

FRESH_COST = 0.2
"""How much the newest poll says about the calls that a poll takes."""

WEIGHT_LAG_S = 60.0
"""A feed whose wanted lag is a minute weighs 1; one that is wanted twice as fresh weighs 2."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an operator wants of one feed. Seconds."""

    target_lag_s: float
    """Freshness target: vendor change to canonical row."""
    floor_s: float
    """Shortest time between two polls."""
    ceiling_s: float
    """Longest time between two polls, whatever the change rate."""
    value: float = 1.0
    """Of an unseen change beside other feeds' (price at risk, tier); a deadline is a `target_lag_s`."""

    @property
    def weight(self) -> float:
        return self.value * WEIGHT_LAG_S / self.target_lag_s


@dataclass(frozen=True, slots=True)
class Seen:
    """What a poll found: `changes` since the poll before (None: it closed no window, or listed history). `calls` that it
    took besides those that full pages of changes take: these are needed sooner or later, however often the feed is asked."""

    changes: int | None
    since: datetime | None
    calls: int
    open: bool = False
    """The session's time or calls ended inside the window."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`due`: when the feed is asked next. `why` is one sentence. `estimate`: to be stored, None while nothing is known."""

    due: datetime
    interval_s: float
    why: str
    estimate: Mapping[str, Any] | None
    calls_a_poll: float


class Planner:
    """The feeds of one connection, as its session learns them."""

    def __init__(self, windows: tuple[QuotaWindow, ...], wishes: Mapping[str, Wishes]) -> None:
        self._wishes = wishes
        self._calls_per_s = POLL_SHARE * min((window.limit / window.seconds for window in windows), default=1.0)
        self._estimates: dict[str, Any] = {}
        self._costs: dict[str, float] = {}
        self._polled: dict[str, datetime] = {}
        self._prior: Any = None

    def recall(self, source: str, estimate: Mapping[str, Any] | None, calls_a_poll: float | None) -> None:
        """What earlier sessions stored."""
        if estimate:
            from sync_pipeline.polling.estimate import recalled

            if (known := recalled(estimate)) is not None:
                self._estimates[source] = known
        if calls_a_poll:
            self._costs[source] = calls_a_poll

    def after(self, source: str, seen: Seen, now: datetime, *, jitter: float, left: Left | None) -> Plan:
        """The next poll of `source`, after one that ended now. `jitter` in [0, 1)."""
        wish = self._wishes[source]
        self._polled[source] = now
        if seen.open:
            why = "its window is still open: it goes on where it stopped"
            return Plan(now, 0.0, why, None, self._costs.get(source, 1.0))
        if seen.changes is None or seen.since is None:
            # History says nothing about the present, and a session that only catches up needs no estimate.
            interval = max(wish.floor_s, min(wish.ceiling_s, wish.target_lag_s / 2))
            why = f"first look {in_words(interval)} after its history was read"
            return Plan(now + timedelta(seconds=interval), interval, why, None, self._costs.get(source, 1.0))
        from sync_pipeline.polling import estimate as estimates
        from sync_pipeline.polling.policy import Budget, SourceState, plan

        if self._prior is None:
            self._prior = self._teach()
        known = self._estimates.get(source) or estimates.RateEstimate.before_any_poll(self._prior)
        observation = estimates.Observation(seen.since, seen.changes > 0, seen.changes)
        learned = estimates.observe(known, observation, now)
        self._estimates[source] = learned
        cost = self._costs.get(source, float(seen.calls))
        self._costs[source] = cost + FRESH_COST * (seen.calls - cost)
        states = [
            SourceState(
                name,
                self._estimates.get(name) or estimates.RateEstimate.before_any_poll(self._prior),
                self._polled.get(name),
                each.floor_s,
                each.ceiling_s,
                weight=each.weight,
                cost=max(1.0, self._costs.get(name, 1.0)),
            )
            for name, each in self._wishes.items()
        ]
        budget = Budget(0, self._rate(left), left.calls if left else 0, left.span if left else "")
        [decided] = [each for each in plan(states, budget, now) if each.source == source]
        interval = max(wish.floor_s, min(wish.ceiling_s, decided.interval_s))
        spread = max(wish.floor_s, interval * (1 - 0.1 * jitter))
        due = now + timedelta(seconds=spread)
        expected = estimates.expected_changes(learned, now, due)
        price = f", costs {round(max(1.0, self._costs[source]))} of {left.calls} calls left {left.span}" if left else ""
        why = f"asked every {in_words(interval)}: {expected:.1f} changes expected by {due:%H:%M:%S}Z{price}"
        return Plan(due, interval, why, learned.to_json(), self._costs[source])

    def _rate(self, left: Left | None) -> float:
        """Calls per second for polls: of the limit, and of what is left of a day that others or a backfill have drawn on."""
        if left is None or left.per_s is None:
            return self._calls_per_s
        return max(LEAST_PER_S, min(self._calls_per_s, POLL_SHARE * left.per_s))

    def _teach(self) -> Any:
        """Let the feeds teach each other what earlier sessions learned, once a session; the prior of a new feed."""
        from sync_pipeline.polling.estimate import Prior
        from sync_pipeline.polling.population import shared

        taught, prior = shared(list(self._estimates.values()), Prior())
        self._estimates = dict(zip(self._estimates, taught, strict=True))
        return prior
