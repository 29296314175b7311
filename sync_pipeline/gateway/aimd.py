"""The rate for a vendor that publishes no limit: additive increase, multiplicative decrease (Chiu and Jain, 1989).

Times are seconds of any one clock; rates are calls a second. The caller sends at most `rate` calls a second, evenly
spaced, and tells each answer. The increase is set by how often a refusal is bearable, not by the rate itself: from one
refusal to the next the rate climbs back what the last one took in CYCLE_CALLS calls, and in no less than CYCLE_S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

DECREASE = 0.85
"""What a refusal leaves of the rate: its sawtooth then uses (1 + 0.85) / 2 = 92.5 % of a steady limit."""

START_DECREASE = 0.5
"""The same in slow start, which may have gone to twice the limit before it is told."""

CYCLE_CALLS = 600
"""One refusal in about as many calls, at a steady limit; where a long fixed window is used up early, a few at its end."""

CYCLE_S = 60.0
"""And in about as many seconds: the pause after a refusal (2 s when the vendor names none) then costs 3 %."""

START_CALLS = 50
"""In slow start the rate doubles in this many calls."""

START_S = 5.0
"""And in no less than this. Seconds."""

SILENCE_S = 300.0
"""After this long without an answer nothing is known of the limit any more: slow start again."""

USED = 0.5
"""Share of the rate that must be used for good answers to say anything about it (RFC 7661, congestion window validation)."""

_FAR_BACK = -math.inf


@dataclass(frozen=True, slots=True)
class Bounds:
    """An operator's: `floor` keeps the connection alive whatever is refused, `cap` is the mandatory budget. Raises
    ValueError unless 0 < floor <= start <= cap."""

    floor: float
    cap: float
    start: float

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.start <= self.cap < math.inf:
            raise ValueError("a rate needs 0 < floor <= start <= cap, all of them finite")


@dataclass(frozen=True, slots=True)
class Rate:
    """`threshold`: slow start ends there. `peak`: the rate at the last refusal, from which the increase is reckoned.
    `lowered_at`: the last decrease; `answered_at`: the last good answer, or refusal."""

    rate: float
    threshold: float
    peak: float
    lowered_at: float = _FAR_BACK
    answered_at: float = _FAR_BACK

    @property
    def phase(self) -> Literal["slow start", "probing"]:
        return "slow start" if self.rate < self.threshold else "probing"


def begin(bounds: Bounds) -> Rate:
    """Nothing is known: slow start, until the first refusal or the cap."""
    return Rate(bounds.start, bounds.cap, bounds.cap)


def resumed(state: Rate, bounds: Bounds, now: float) -> Rate:
    """Before a call: after SILENCE_S slow start begins again, and ends at the rate that held before."""
    # A rate so low that its calls are minutes apart is not silence.
    if now - state.answered_at < max(SILENCE_S, 3 * spacing(state)) or state.answered_at == _FAR_BACK:
        return state
    threshold = state.rate if state.phase == "probing" else state.threshold
    return replace(state, rate=min(bounds.start, state.rate), threshold=threshold, answered_at=now)


def accepted(state: Rate, bounds: Bounds, now: float) -> Rate:
    """After an answer that was no refusal. The rate rises only while it is used."""
    gap = now - state.answered_at
    state = resumed(state, bounds, now)
    rate = state.rate
    state = replace(state, answered_at=max(now, state.answered_at))
    if gap > 1 / (USED * rate):
        return state
    if state.phase == "slow start":
        risen = min(rate * 2 ** (1 / max(START_CALLS, START_S * rate)), state.threshold)
    else:
        # Always the same step from one refusal to the next: additive.
        risen = rate + (1 - DECREASE) * state.peak / max(CYCLE_CALLS, CYCLE_S * state.peak)
    return replace(state, rate=min(risen, bounds.cap))


def refused(state: Rate, bounds: Bounds, now: float, *, sent_at: float) -> Rate:
    """After a refusal (429, or what the vendor has for it) of a call sent at `sent_at`.

    Calls that were on their way when the rate was lowered say nothing about the lower one: once is enough.
    """
    state = replace(state, answered_at=max(now, state.answered_at))
    if sent_at <= state.lowered_at:
        return state
    left = state.rate * (START_DECREASE if state.phase == "slow start" else DECREASE)
    lowered = max(bounds.floor, left)
    return replace(state, rate=lowered, threshold=lowered, peak=max(state.rate, bounds.floor), lowered_at=now)


def spacing(state: Rate) -> float:
    """Seconds from one call to the next."""
    return 1 / state.rate
