"""What a worker may send while the store cannot be asked: an even trickle of a fixed share, never an open gate."""

from __future__ import annotations

from collections.abc import Sequence

from sync_pipeline.gateway.quota import Pace
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

LOCAL_SHARE = 16
"""Without the store a worker keeps to a sixteenth of every window."""


class LocalShare:
    """Instants are those of `monotonic`."""

    def __init__(self) -> None:
        self._last = 0.0
        """The instant that was given away last."""
        self._unbooked = 0

    def next(self, paces: Sequence[Pace], weight: int, now: float) -> float:
        """When the next call of that weight may go."""
        return max(now, self._last) + max(pace.emission for pace in paces) * LOCAL_SHARE * weight

    def take(self, at: float) -> None:
        """That instant is somebody's, whether he goes or not."""
        self._last = at

    def went(self, weight: int) -> None:
        self._unbooked += weight

    async def book(self, database: Database, scopes: Sequence[str], *, patience_s: float) -> None:
        """What was sent without asking counts, and the burst as spent."""
        if booked := self._unbooked:
            await database.statement(SQL.spend, {"scopes": scopes, "tokens": booked}, patience_s=patience_s)
            self._unbooked -= booked  # (others may have gone meanwhile)
