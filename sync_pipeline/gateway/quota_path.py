"""What one kind of call is charged to, and how old a grant for it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from sync_pipeline.gateway.quota import LEASE_S, Node, Pace, lease_size
from sync_pipeline.kernel.feed import Lane
from sync_pipeline.store.database import text_array


@dataclass(frozen=True, slots=True)
class Ages:
    """How old a grant may be, in seconds since before the store was asked for it. All of it is of the shortest slack, within
    which granted calls have to reach the vendor."""

    answer_s: float
    """When the store's answer is read."""
    hand_s: float
    """When a token is taken from hand."""
    sent_s: float
    """When the call is written. The rest of the slack is for its way."""

    @classmethod
    def within(cls, slack: float) -> Ages:
        answer_s = max(min(0.85 * slack, 2 * LEASE_S), slack - 2 * LEASE_S)
        sent_s = max(min(0.9 * slack, 3 * LEASE_S), slack - LEASE_S)
        return cls(answer_s, min(LEASE_S, sent_s / 2), sent_s)


@dataclass(frozen=True, slots=True)
class Path:
    """The nodes that one kind of call is charged to."""

    lane: Lane
    scopes: str
    """As Postgres reads them."""
    windows: tuple[tuple[str, str], ...] = field(compare=False)
    """(scope, window) in the order in which the store answers."""
    paces: tuple[Pace, ...] = field(compare=False)
    lease: int = field(compare=False)
    ages: Ages = field(compare=False)


class Paths:
    """Those of one connection, each made when it is first asked for."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._made: dict[tuple[Lane, str | None], Path] = {}

    def of(self, lane: Lane, endpoint: str | None) -> Path:
        path = self._made.get((lane, endpoint))
        if path is None:
            path = self._made[lane, endpoint] = self._make(lane, endpoint)
        return path

    def charged(self, endpoint: str | None) -> list[Node]:
        return [node for node in self._nodes if node.endpoint in (None, endpoint)]

    def own(self, endpoint: str | None) -> list[str]:
        """The scopes of those that connections of other accounts are not charged to."""
        return [node.scope for node in self.charged(endpoint) if not node.shared]

    def _make(self, lane: Lane, endpoint: str | None) -> Path:
        nodes = self.charged(endpoint)
        paces = tuple(pace for node in nodes for pace in node.paces)
        windows = tuple(sorted((node.scope, pace.name) for node in nodes for pace in node.paces))
        scopes = text_array([node.scope for node in nodes])
        return Path(lane, scopes, windows, paces, lease_size(paces), Ages.within(min(pace.slack for pace in paces)))
