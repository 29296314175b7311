"""Which feeds are due between sessions, and why, in one sentence each. Pure.

When a feed is next due was decided by the session that polled it last (sessions/planner.py); here it is read again, with
what is expected of the feed by now and what the quota has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sync_pipeline.kernel.clock import in_words
from sync_pipeline.kernel.errors import Awaited

if TYPE_CHECKING:  # numpy is for those who plan; a session that catches up starts without it
    from sync_pipeline.polling.estimate import RateEstimate


@dataclass(frozen=True, slots=True)
class FeedState:
    """What the plan knows of a feed. Intervals in seconds."""

    feed: str
    last_poll_at: datetime | None = None
    next_due: datetime | None = None
    deferred_until: datetime | None = None
    deferred_for: Awaited = "quota"
    deferred_reason: str | None = None
    window_open: bool = False
    paused: bool = False
    estimate: RateEstimate | None = None
    calls_a_poll: float = 1.0


@dataclass(frozen=True, slots=True)
class Left:
    """Calls left in the window that has the smallest part left; `span` names it in words ("this hour"). `per_s`: calls per
    second that what is left of daily windows bears until they are over; None without one."""

    calls: int
    span: str
    per_s: float | None = None


def span_of(seconds: float) -> str:
    """A window's length in words."""
    known = {1: "this second", 60: "this minute", 3600: "this hour", 86_400: "today"}
    return known.get(round(seconds), f"of each {in_words(seconds)}")


def waits(until: datetime, awaits: Awaited, reason: str | None) -> str:
    """What a deferred feed waits for. `sync-pipeline status` says the same in SQL (cli/queries.sql: status_feeds)."""
    what = awaits if awaits == "quota" else f"its {awaits}"
    return f"waiting for {what} until {until:%H:%M:%SZ}: {reason or 'deferred'}"


@dataclass(frozen=True, slots=True)
class Decision:
    feed: str
    due: bool
    at: datetime
    """When the feed is, or was, due."""
    why: str


def plan(states: Sequence[FeedState], now: datetime, left: Left | None = None) -> list[Decision]:
    """One decision a feed, the most overdue first."""
    return sorted((_decide(state, now, left) for state in states), key=lambda decision: (not decision.due, decision.at))


def _decide(state: FeedState, now: datetime, left: Left | None) -> Decision:
    if state.paused:
        return Decision(state.feed, False, datetime.max.replace(tzinfo=now.tzinfo), "paused by an operator")
    if state.deferred_until is not None and state.deferred_until > now:
        why = waits(state.deferred_until, state.deferred_for, state.deferred_reason)
        return Decision(state.feed, False, state.deferred_until, why)
    if state.last_poll_at is None:
        return Decision(state.feed, True, now, "due: never polled")
    if state.window_open:
        return Decision(state.feed, True, state.last_poll_at, "due: its window is open and goes on where it stopped")
    if state.next_due is None or state.next_due <= now:
        due = state.next_due or state.last_poll_at
        return Decision(state.feed, True, due, _worth(state, due, now, left))
    return Decision(state.feed, False, state.next_due, f"not due before {state.next_due:%H:%M:%SZ}")


def _worth(state: FeedState, due: datetime, now: datetime, left: Left | None) -> str:
    reason = f"due since {due:%H:%M:%SZ}"
    if state.estimate is not None and state.last_poll_at is not None:
        from sync_pipeline.polling.estimate import expected_changes

        expected = expected_changes(state.estimate, state.last_poll_at, now)
        reason = f"due: {expected:.1f} changes expected since {state.last_poll_at:%H:%M}"
    if left is not None:
        reason += f", costs {max(1, round(state.calls_a_poll))} of {left.calls} calls left {left.span}"
    return reason
