"""What a contract makes of a record: a canonical row, or a rejection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import repeat
from typing import NamedTuple, Protocol

from sync_pipeline.kernel.feed import RawRecord

HASH_BYTES = 16


def instant_text(moment: datetime) -> str:
    """The one written form of an instant: UTC, microseconds. Texts of it sort as the instants do."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


class Canonical(NamedTuple):
    """A valid record. `Canonical.of` makes one from its values.

    `row`: the values of the contract's `columns`, in their order, in the text form of PostgreSQL's COPY.
    `modified_at`: in the form of `instant_text`. Version = (modified_at, content_hash); the hash covers the row, so a
    mapping that changes is seen as a change. `parent`: vendor id in the contract's `parent_feed` that must be applied
    before this record is (else it is held).
    """

    vendor_id: str
    modified_at: str
    content_hash: bytes
    row: bytes
    parent: str | None = None

    @classmethod
    def of(
        cls, vendor_id: str, modified_at: str, values: tuple[str | None, ...], parent: str | None = None
    ) -> Canonical:
        """`values`: text that Postgres reads for each column's type, None for NULL."""
        row = copy_fields(values).encode()
        return cls(vendor_id, modified_at, blake2b(row, digest_size=HASH_BYTES).digest(), row, parent)

    @classmethod
    def many(
        cls,
        vendor_ids: Iterable[str],
        modified_at: Iterable[str],
        columns: Sequence[Sequence[str]],
        documents: Sequence[bytes],
        parents: Iterable[str | None],
    ) -> list[Canonical]:
        """The same of many records, their values given as columns. `documents`: the last column, in UTF-8. Raises TypeError when
        a value is None."""
        rows = copy_rows(columns, documents)
        hashes = [blake2b(row, digest_size=HASH_BYTES).digest() for row in rows]
        # (past the Python function that a named tuple is made by)
        return list(map(tuple.__new__, repeat(cls), zip(vendor_ids, modified_at, hashes, rows, parents, strict=True)))


NULL = "\\N"
ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_fields(values: tuple[str | None, ...]) -> str:
    """Values in the text form of COPY, separated by tabs (PostgreSQL manual, COPY, "Text Format").

    Written here rather than by the driver: the values are text already, and a driver that asks each one for its type
    spends more time on a row than Postgres does.
    """
    try:
        line = "\t".join(values)  # type: ignore[arg-type]
    except TypeError:
        return _one_by_one(values)
    if "\n" in line or "\r" in line or line.count("\t") != len(values) - 1:
        return _one_by_one(values)
    return line.replace("\\", "\\\\") if "\\" in line else line


def copy_rows(columns: Sequence[Sequence[str]], documents: Sequence[bytes]) -> list[bytes]:
    """`copy_fields` of many rows at once, given as columns; `documents` are the last one, in UTF-8. Raises TypeError when a
    value is None."""
    rows = list(map("\t".join, zip(*columns, strict=True)))
    text = "\n".join(rows)
    lines = text.encode().split(b"\n")
    last = b"".join(documents)
    plain = not ("\\" in text or "\r" in text or b"\n" in last or b"\r" in last or b"\t" in last)
    if not plain or len(lines) != len(rows) or text.count("\t") != len(rows) * (len(columns) - 1):
        return [
            _one_by_one((*values, document.decode())).encode()
            for *values, document in zip(*columns, documents, strict=True)
        ]
    if b"\\" in last:
        documents = [document.replace(b"\\", b"\\\\") for document in documents]
    return list(map(b"\t".join, zip(lines, documents, strict=True)))


def _one_by_one(values: tuple[str | None, ...]) -> str:
    return "\t".join([NULL if value is None else value.translate(ESCAPES) for value in values])


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

    def check(self, records: Sequence[RawRecord]) -> Sequence[Canonical | Rejection]:
        """What becomes of each record of a page, in their order."""

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
