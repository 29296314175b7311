"""Walking a list that is sorted by modification, while it changes: each page is asked from the last stamp seen.

The vendor lists by (stamp, then anything that stays the same for one version of a record) and can be asked for `stamp >= t`.
A page always starts at the head of such a list, so a record that goes away or moves to the end pulls no other one past us.
Only when a whole page has one single stamp must the walk count rows. Then each page begins at or before the last row seen,
the anchor: a page that shows the anchor goes on exactly behind it; one that does not makes the walk count from the stamp's
first row again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from sync_pipeline.kernel.errors import CursorExpired
from sync_pipeline.kernel.feed import Cursor, NextPage, RawRecord
from sync_pipeline.vendors.answers import instant

TIES = "tie:"
WIDEST = 50
"""Rows in a page of ties. Half of that up to that, so that some size always makes pages overlap by a row or more."""

RESTARTS = 5
"""Times that the ties of one stamp are counted anew before the whole window is."""


@dataclass(frozen=True, slots=True)
class Place:
    """What to ask for: `since` (None: everything), and which page of which size (None: the feed's own)."""

    since: datetime | None
    page: int = 1
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a page: `key` names this version of the record, `stamp` is its modification as the vendor wrote it."""

    key: str
    stamp: object


def place(cursor: Cursor) -> Place:
    """Where the cursor stands in the list."""
    since = reached(cursor)
    if not (in_ties(cursor) and cursor.position):
        return Place(since)
    number, size = overlapping(cursor.position)
    return Place(since, number, size)


def in_ties(cursor: Cursor) -> bool:
    return cursor.token is not None and cursor.token.startswith(TIES)


def reached(cursor: Cursor) -> datetime | None:
    """The stamp that the next page is asked from."""
    return instant(cursor.last_key) if cursor.last_key is not None else cursor.since


def overlapping(seen: int) -> tuple[int, int]:
    """(page number, page size) of the page that holds the last of `seen` rows and leads furthest behind it.

    >>> overlapping(50)
    (2, 49)
    """
    ends = [(-(-seen // size) * size, size) for size in range(WIDEST // 2 + 1, WIDEST + 1)]
    end, size = max(ends)
    return end // size, size


def rows_of(records: Sequence[RawRecord], fields: Sequence[str], stamp: str) -> list[Row]:
    """The page's distinct rows. `fields` identify a record; with its stamp they name the version that was listed."""
    found: dict[str, Row] = {}
    for record in records:
        value = record.value
        if isinstance(value, dict):
            key = "/".join(str(value.get(name)) for name in (*fields, stamp))
            row = Row(key, value.get(stamp))
        else:
            raw = record.raw if record.raw is not None else orjson.dumps(value)
            row = Row(hashlib.sha256(raw).hexdigest()[:16], None)
        found.setdefault(row.key, row)
    return list(found.values())


def after(cursor: Cursor, rows: Sequence[Row], *, more: bool, now: datetime) -> NextPage | None:
    """The page that follows, or None when the list is drained. `now`: no stamp can be later (the vendor's clock).

    Raises CursorExpired when the rows of one stamp cannot be counted because they never stand still.
    """
    ties = in_ties(cursor)
    counted, _, anchor = (cursor.token or "").removeprefix(TIES).partition(":") if ties else ("0", "", "")
    restarts = int(counted)
    if anchor and anchor not in {row.key for row in rows}:
        if restarts >= RESTARTS:
            raise CursorExpired(
                f"rows of one stamp moved {restarts} times while they were counted; the window is walked again"
            )
        return NextPage(token=f"{TIES}{restarts + 1}:", last_key=cursor.last_key)
    if not more or not rows:
        return None
    here, newest = reached(cursor), _last_stamp(rows, now)
    if newest is not None and (here is None or newest > here):
        return NextPage(last_key=newest.isoformat())
    asked = place(cursor)
    before = (asked.page - 1) * asked.size if asked.size is not None else 0
    return NextPage(token=f"{TIES}{restarts}:{rows[-1].key}", position=before + len(rows), last_key=cursor.last_key)


def _last_stamp(rows: Sequence[Row], now: datetime) -> datetime | None:
    """The stamp of the last row that has a believable one. An earlier row's is never above it: the list is sorted."""
    for row in reversed(rows):
        at = instant(row.stamp)
        if at is not None and at <= now:
            return at
    return None
