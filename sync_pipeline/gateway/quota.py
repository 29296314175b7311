"""Quota arithmetic: how fast tokens come back, and when a worker may hold some in hand."""

from __future__ import annotations

from dataclasses import dataclass

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import QuotaWindow

SLACK_S = 2.0
"""Longest time between a grant and the vendor seeing the request: a token in hand, a slow connection."""

SLACK_SHARE = 0.25
"""Slack of a short window, as a share of it."""

LEASE_S = 0.25
LEASE_TOKENS = 10
LEASE_RATE = 50.0
"""Tokens a second from which a worker takes several at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """One window as GCRA sees it: `burst` at once, then one every `emission` seconds.

    Requests granted in [t, t + slack] may all arrive at t + slack, so a window of `seconds` at the vendor sees at most
    what was granted in `seconds + slack`: burst + (seconds + slack) / emission = limit.
    """

    name: str
    limit: int
    seconds: float
    burst: int
    emission: float

    @classmethod
    def of(cls, window: QuotaWindow) -> Pace:
        burst = min(window.burst or max(1, window.limit // 4), max(1, window.limit - 1))
        slack = min(SLACK_S, SLACK_SHARE * window.seconds)
        refill = max(1, window.limit - burst)
        if window.limit == 1:
            # One request a window: nothing may be in hand, and the next one waits for window and slack.
            return cls(window.name, 1, window.seconds, 1, window.seconds + slack)
        return cls(window.name, window.limit, window.seconds, burst, (window.seconds + slack) / refill)


def paces(scope: str, windows: tuple[QuotaWindow, ...]) -> tuple[Pace, ...]:
    """Raises ConfigurationError when there is no budget: none means unlimited, and that is never meant."""
    if not windows:
        raise ConfigurationError(
            f"connection {scope} has no limits; a budget is mandatory: write the vendor's limit, or the one you allow"
        )
    return tuple(Pace.of(window) for window in windows)


def lease_size(windows: tuple[Pace, ...]) -> int:
    """Tokens to take at once: one, unless every window is generous enough that ten are no burst."""
    generous = all(1 / pace.emission >= LEASE_RATE and pace.burst >= 5 * LEASE_TOKENS for pace in windows)
    return LEASE_TOKENS if generous else 1


def cool_off(consecutive: int, jitter: float) -> float:
    """Seconds to leave a vendor alone after its `consecutive`-th refusal without `Retry-After`; jitter in [0, 1)."""
    return min(600.0, 2.0 * 2.0 ** min(consecutive - 1, 10)) * (0.75 + 0.5 * jitter)
