"""Quota arithmetic: how fast tokens come back, who may book them, and when a worker may hold some in hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import Lane, QuotaNode, QuotaWindow

LANES: tuple[Lane, ...] = get_args(Lane)

SLACK_S = 1.0
"""Longest time between a grant and the vendor seeing the request: a token in hand, a slow connection."""

SLACK_SHARE = 0.25
"""Slack of a short window, as a share of it."""

DAY_SLACK_S = 10.0
"""The same for a vendor's day, with what its clock may differ from ours at midnight."""

SLOTS = 200
"""Slots in which the store counts a window (migration 0006): what is granted leaves the count a slot too late at most."""

LEASE_S = 0.25
LEASE_TOKENS = 10
LEASE_RATE = 50.0
"""Tokens a second from which a worker takes several at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """One window as the store sees it.

    Sliding (and fixed: any aligned window is one of the sliding ones): requests granted in [t, t + slack] may all arrive at
    t + slack, so the store counts to `limit` over `seconds + slack`. Within that GCRA lets `burst` go at once, then one every
    `emission` seconds, which fills the count and no more.

    Daily counts to `limit` from one midnight of `zone` to the next; what is granted in the last `slack` seconds counts on
    both days.
    """

    name: str
    limit: int
    seconds: float
    kind: Literal["sliding", "daily"]
    burst: int
    emission: float
    slack: float
    zone: str
    resets: bool = True
    """The vendor's window starts anew at its reset (fixed, daily); a sliding one gives back call by call."""

    def passed_s(self, sent: datetime, now: datetime) -> float:
        """Seconds from `now` until what the vendor answered to a call of `sent` is over at the latest. It spoke of the day that
        its clock showed, which may be a slack behind ours."""
        if self.kind == "sliding":
            return self.seconds
        zone, slack = ZoneInfo(self.zone), timedelta(seconds=self.slack)
        tomorrow = (sent - slack).astimezone(zone).date() + timedelta(days=1)
        return max(0.0, (datetime.combine(tomorrow, time(), zone) + slack - now).total_seconds())

    @classmethod
    def of(cls, window: QuotaWindow) -> Pace:
        if window.kind == "daily":
            return cls(
                window.name,
                window.limit,
                86_400.0,
                "daily",
                window.limit,
                86_400 / window.limit,
                DAY_SLACK_S,
                window.zone,
            )
        burst = min(window.burst or max(1, window.limit // 4), window.limit)
        slack = min(SLACK_S, SLACK_SHARE * window.seconds)
        emission = (window.seconds + slack) * (1 + 1 / SLOTS) / window.limit
        return cls(
            window.name,
            window.limit,
            window.seconds,
            "sliding",
            burst,
            emission,
            slack,
            window.zone,
            window.kind == "fixed",
        )


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the tree with its windows; `endpoint`: only calls to it are charged here (None: all)."""

    scope: str
    paces: tuple[Pace, ...]
    endpoint: str | None = None
    shared: bool = False
    """Connections of other accounts are charged here too."""


def tree(name: str, nodes: Sequence[QuotaNode]) -> tuple[Node, ...]:
    """Raises ConfigurationError where there is no budget (none would mean unlimited, and that is never meant), and for a
    time zone that does not exist."""
    if not any(node.endpoint is None and node.windows for node in nodes):
        raise ConfigurationError(
            f"connection {name} has no limits; a budget is mandatory: write the vendor's limit, or the one you allow"
        )
    for window in (window for node in nodes for window in node.windows):
        try:
            ZoneInfo(window.zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ConfigurationError(
                f"connection {name}: limit {window.name} resets in the unknown time zone {window.zone!r}; write one like "
                "Europe/Berlin"
            ) from None
    return tuple(
        Node(node.scope, tuple(map(Pace.of, node.windows)), node.endpoint, node.shared)
        for node in nodes
        if node.windows
    )


def lease_size(paces: Sequence[Pace]) -> int:
    """Tokens to take at once: one, unless every window is generous enough that ten are no burst."""
    generous = all(1 / pace.emission >= LEASE_RATE and pace.burst >= 5 * LEASE_TOKENS for pace in paces)
    return LEASE_TOKENS if generous else 1


def cool_off(consecutive: int, jitter: float) -> float:
    """Seconds to leave a vendor alone after its `consecutive`-th refusal without `Retry-After`; jitter in [0, 1)."""
    return min(600.0, 2.0 * 2.0 ** min(consecutive - 1, 10)) * (0.75 + 0.5 * jitter)
