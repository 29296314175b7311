"""What one poll works with: the calls it may make, what it hands from step to step, and what it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.feed import Cursor, PageRead, Reply
from sync_pipeline.ledger.checked import CheckedPage


class Budget:
    """Calls this session may still make. Shared by its feeds."""

    def __init__(self, calls: int | None) -> None:
        self._left = calls

    def take(self) -> bool:
        if self._left is None:
            return True
        if self._left <= 0:
            return False
        self._left -= 1
        return True

    @property
    def spent(self) -> bool:
        return self._left is not None and self._left <= 0


@dataclass(slots=True)
class PollResult:
    """What one poll did. `cursor` is where the feed stands; the window is still open when the budget ran out."""

    cursor: Cursor
    requests: int = 0
    pages: int = 0
    released: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)

    def add(self, feed: str, counts: Counts) -> None:
        self.counts[feed] = self.counts.get(feed, Counts()) + counts


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page that was fetched and read. `after`: where the feed stands once it is landed."""

    cursor: Cursor
    reply: Reply
    read: PageRead
    after: Cursor


@dataclass(frozen=True, slots=True)
class Checked:
    """A page whose records went through their contracts, by feed; not yet landed. What was read of it is let go."""

    cursor: Cursor
    reply: Reply
    records: Mapping[str, CheckedPage]
    after: Cursor


@dataclass(frozen=True, slots=True)
class Landed:
    """Pages that were landed together, by feed, ready for the ledger."""

    pages: int
    size: int
    checked: Mapping[str, Sequence[CheckedPage]]
    after: Cursor
    backfill: bool
    """Read from the beginning of all time."""
