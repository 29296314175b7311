"""Foreign use: calls that others make on the same key, seen as drops of `remaining` that our own calls do not explain.

What is booked is a lower bound, never a guess: calls of ours are counted when they are sent, so a call still on its way
looks like a missing drop and is settled by a later answer. Recoveries of a sliding window hide foreign calls; for those
`occupied` looks at the level instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sync_pipeline.kernel.feed import QuotaFeedback

MEMORY_S = 1800.0
"""What was seen this long ago counts 1/e. Seconds."""

PRIOR_S = 60.0
"""Seconds of silence believed in before anything is seen, so that one early burst is no rate; fades like all the rest."""

SLACK = 16
"""Most calls of ours that may be on their way at once, all workers together: `remaining` may jump about by as many."""

SETTLED = timedelta(seconds=1)
"""Resets that differ by no more are the same: a delay rounded to seconds lands on either side."""

SIGMAS = 1.64
"""Planned with are the calls that foreign use stays under 19 times out of 20 (normal approximation)."""

LEAST_SHARE = 0.1
"""Of its limit that a window keeps for us whatever others did: without a call of ours nothing would be learned."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """One window's foreign use. `booked`: calls in the vendor's present window; `balance`: drops not explained in it.

    `calls` in `exposure_s`: what the rate is made of, both fading with MEMORY_S. `dispersion`: variance over mean of the
    counts, 1 for independent calls and more for bursts. `pending_*`: seen, not yet folded in. `own`: our calls since the
    last answer that said how many are left.
    """

    at: datetime | None = None
    remaining: int = 0
    reset_at: datetime | None = None
    own: int = 0
    balance: int = 0
    booked: int = 0
    calls: float = 0.0
    exposure_s: float = PRIOR_S
    dispersion: float = 1.0
    pending_calls: int = 0
    pending_s: float = 0.0

    @property
    def rate(self) -> float:
        """Calls a second that others make."""
        return self.calls / self.exposure_s

    @property
    def rate_error(self) -> float:
        """Standard error of `rate`, calls a second."""
        return math.sqrt(self.dispersion * self.calls) / self.exposure_s


def observe(
    state: Foreign,
    feedback: QuotaFeedback,
    *,
    own_calls: int,
    now: datetime,
    kind: Literal["sliding", "fixed", "daily"] = "sliding",
    slack: int = SLACK,
    memory_s: float = MEMORY_S,
) -> tuple[Foreign, int]:
    """After an answer: the new state, and how many calls of others are booked by it (never negative).

    `own_calls`: weight of the calls of all our workers sent since the observation before, this one included.
    Only in a window that starts anew at a known instant (`kind` fixed or daily, and a reset that has passed and moved on)
    are the calls used since then known too; at any other reset the count begins again with nothing booked.
    """
    own = state.own + max(0, own_calls)
    if feedback.remaining is None:
        return replace(state, own=own), 0
    seen = replace(state, at=now, remaining=feedback.remaining, own=0)
    if feedback.reset_at is not None:
        seen = replace(seen, reset_at=feedback.reset_at)
    if state.at is None:
        return seen, 0
    turned = _turned(state, feedback, now)
    if turned or feedback.remaining > state.remaining + slack:
        fresh = 0
        if turned and kind != "sliding" and feedback.limit is not None and state.reset_at is not None:
            fresh = max(0, feedback.limit - feedback.remaining - own)
            seen = _learn(seen, fresh, (now - state.reset_at).total_seconds(), memory_s)
        return replace(seen, balance=fresh, booked=fresh), fresh
    balance = state.balance + state.remaining - feedback.remaining - own
    fresh = max(0, balance - state.booked)
    booked = state.booked + fresh
    seen = replace(seen, booked=booked, balance=max(balance, booked - slack))
    return _learn(seen, fresh, (now - state.at).total_seconds(), memory_s), fresh


def _turned(state: Foreign, feedback: QuotaFeedback, now: datetime) -> bool:
    """Whether the window that the last answer spoke of is over, by the vendor's word: a clock that runs ahead of the
    vendor's sees the reset pass while the old window still counts."""
    if state.reset_at is None or now < state.reset_at:
        return False
    return feedback.reset_at is not None and feedback.reset_at > state.reset_at + SETTLED


def _learn(state: Foreign, calls: int, seconds: float, memory_s: float) -> Foreign:
    """Fold counts into the rate, in pieces long enough that a count says something. Exact fading for a steady rate."""
    calls, seconds = state.pending_calls + calls, state.pending_s + max(0.0, seconds)
    if seconds < max(1.0, memory_s / 60):
        return replace(state, pending_calls=calls, pending_s=seconds)
    kept = math.exp(-seconds / memory_s)
    gained = memory_s * (1 - kept)
    expected = state.rate * seconds
    dispersion = state.dispersion
    if expected > 0 and state.exposure_s > 2 * PRIOR_S:
        dispersion = max(1.0, kept * dispersion + (1 - kept) * (calls - expected) ** 2 / expected)
    return replace(
        state,
        calls=state.calls * kept + calls * gained / seconds,
        exposure_s=state.exposure_s * kept + gained,
        dispersion=dispersion,
        pending_calls=0,
        pending_s=0.0,
    )


def expected(state: Foreign, seconds: float, *, sigmas: float = SIGMAS) -> int:
    """Calls to leave for others in the next `seconds`: the mean, and `sigmas` of what chance and ignorance add."""
    seconds = max(0.0, seconds)
    mean = state.rate * seconds
    return math.ceil(mean + sigmas * math.sqrt(state.dispersion * mean + (state.rate_error * seconds) ** 2))


def ours(state: Foreign, limit: int, seconds: float, *, sigmas: float = SIGMAS) -> int:
    """Of a window's `limit` in `seconds`, what we may plan with: between LEAST_SHARE of it and all of it."""
    least = min(limit, math.ceil(limit * LEAST_SHARE))
    return max(0, least, limit - expected(state, seconds, sigmas=sigmas))


def left(state: Foreign, remaining: int, now: datetime, until: datetime, *, sigmas: float = SIGMAS) -> int:
    """Of the calls that remain now, what is ours until the reset. Never negative; 0 when others will need them all."""
    return max(0, remaining - expected(state, (until - now).total_seconds(), sigmas=sigmas))


def occupied(limit: int, remaining: int, own_in_window: int) -> int:
    """Calls of others inside a sliding window at this moment: what is used and not ours. A lower bound while calls of
    ours are on their way."""
    return max(0, limit - remaining - own_in_window)
