"""Which feeds are due, and why: a pure plan under the quota that is left.

First form: the interval follows what polls find, between a floor and a ceiling, and never asks for more calls than the
quota can pay until its ceiling. Each decision explains itself in one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

SHRINK = 0.5
GROW = 1.5


@dataclass(frozen=True, slots=True)
class FeedState:
    """What the plan knows of a feed. Intervals in seconds."""

    feed: str
    last_poll_at: datetime | None
    next_due: datetime | None
    deferred_until: datetime | None
    deferred_reason: str | None
    window_open: bool
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    feed: str
    due: bool
    at: datetime
    """When the feed is, or was, due."""
    why: str


def plan(states: Sequence[FeedState], now: datetime) -> list[Decision]:
    """One decision a feed, the most overdue first."""
    return sorted((_decide(state, now) for state in states), key=lambda decision: (not decision.due, decision.at))


def _decide(state: FeedState, now: datetime) -> Decision:
    if state.paused:
        return Decision(state.feed, False, datetime.max.replace(tzinfo=now.tzinfo), "paused by an operator")
    if state.deferred_until is not None and state.deferred_until > now:
        why = f"waiting for quota until {state.deferred_until:%H:%M:%SZ}: {state.deferred_reason or 'deferred'}"
        return Decision(state.feed, False, state.deferred_until, why)
    if state.last_poll_at is None:
        return Decision(state.feed, True, now, "due: never polled")
    if state.window_open:
        return Decision(state.feed, True, state.last_poll_at, "due: its window is open and goes on where it stopped")
    if state.next_due is None or state.next_due <= now:
        due = state.next_due or state.last_poll_at
        return Decision(state.feed, True, due, f"due since {due:%H:%M:%SZ}")
    return Decision(state.feed, False, state.next_due, f"not due before {state.next_due:%H:%M:%SZ}")


def next_interval(previous_s: float, *, changes: int, floor_s: float, ceiling_s: float) -> float:
    """Seconds until the next poll: shorter after a poll that found changes, longer after an empty one."""
    factor = SHRINK if changes else GROW
    return min(ceiling_s, max(floor_s, previous_s * factor))


def next_due(now: datetime, interval_s: float, *, jitter: float) -> datetime:
    """`jitter` in [0, 1): up to a tenth of the interval earlier, so that feeds do not move in step."""
    return now + timedelta(seconds=interval_s * (1 - 0.1 * jitter))
