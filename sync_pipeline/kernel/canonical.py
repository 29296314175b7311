"""What a contract makes of a record: a canonical row, or a rejection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sync_pipeline.kernel.feed import RawRecord


@dataclass(frozen=True, slots=True)
class Canonical:
    """A valid record. `row` holds the values of the contract's `columns`, in their order.

    Version = (modified_at, content_hash); the hash covers the row, so a mapping that changes is seen as a change.
    `parent`: vendor id in the contract's `parent_feed` that must be applied before this record is (else it is held).
    """

    vendor_id: str
    modified_at: datetime
    content_hash: bytes
    row: tuple[Any, ...]
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a record was refused: a code and the path to the field. Never the value."""

    code: str
    path: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """A record that failed its contract. `vendor_id` when it could be read safely. `raw` is exact."""

    vendor_id: str | None
    problems: tuple[Problem, ...]
    raw: bytes


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    description: str
    personal: bool = False


class Contract(Protocol):
    """What a valid record of one feed is, and the table it becomes a row of."""

    @property
    def version(self) -> str:
        """Changes whenever the same raw record could come out differently (code or mapping)."""

    @property
    def table(self) -> str:
        """Schema-qualified canonical table; its key is (connection, feed, vendor_id)."""

    @property
    def columns(self) -> Sequence[Column]:
        """Columns of `Canonical.row`, without the key and the engine's own columns."""

    @property
    def parent_feed(self) -> str | None: ...

    def check(self, record: RawRecord) -> Canonical | Rejection: ...

    def drift(self) -> frozenset[str]:
        """Paths of fields seen that the contract does not know, since this object was made (names, never values)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of a page's records. Conservation: received is the sum of the five outcomes."""

    received: int = 0
    applied: int = 0
    unchanged: int = 0
    superseded: int = 0
    held: int = 0
    quarantined: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.received + other.received,
            self.applied + other.applied,
            self.unchanged + other.unchanged,
            self.superseded + other.superseded,
            self.held + other.held,
            self.quarantined + other.quarantined,
        )

    @property
    def conserved(self) -> bool:
        return self.received == self.applied + self.unchanged + self.superseded + self.held + self.quarantined
