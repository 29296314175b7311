"""Cursors moved by pure functions: a window opens, pages move it, and it closes when the vendor's list is drained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sync_pipeline.kernel.feed import Cursor, NextPage, PageRead, Validator

INSTANTS = frozenset({"watermark", "since", "opened_at", "high", "vendor_now"})
EARLIEST = datetime.min.replace(tzinfo=UTC)
AHEAD = timedelta(minutes=1)
"""How far a vendor's clock is believed to be ahead of ours. A `Date` that is wrong once would carry the watermark past changes
that no later window asks for; a clock that is always further ahead only has more asked for twice."""


def open_window(
    cursor: Cursor, *, now: datetime, overlap: timedelta, parts: Sequence[str] = (), walk: str = ""
) -> Cursor:
    """Open the window that follows the watermark. It starts `overlap` earlier, so that what the vendor shows late, or
    stamps just before a page was made, is asked for again; its horizon is `now`."""
    since = None if cursor.watermark is None else cursor.watermark - min(overlap, cursor.watermark - EARLIEST)
    opened = Cursor(watermark=cursor.watermark, since=since, opened_at=now)
    return replace(from_start(opened, parts=parts, walk=walk), validator=cursor.validator)


def after_page(cursor: Cursor, read: PageRead, *, parts: Sequence[str] = ()) -> tuple[Cursor, bool]:
    """The cursor after a page, and whether the window is drained (then it is closed in the same step)."""
    whole = cursor.pages == 0 and read.next is None and len(parts) < 2
    following = read.next or NextPage(cursor.token, cursor.position, cursor.last_key)
    moved = replace(
        cursor,
        high=max((at for at in (cursor.high, read.high) if at is not None), default=None),
        vendor_now=cursor.vendor_now or read.vendor_now,
        pages=cursor.pages + 1,
        validator=read.validator if whole else None,
        token=following.token,
        position=following.position,
        last_key=following.last_key,
    )
    if read.next is not None:
        return moved, False
    part = cursor.part + 1
    if part < len(parts):
        return replace(moved, part=part, of=parts[part], token=None, position=0, last_key=None), False
    return close_window(moved), True


def close_window(cursor: Cursor) -> Cursor:
    """The watermark moves to the vendor's own clock when it told it, as far as that can be believed, else to the newest change
    seen, but never past the window's horizon; and never back.

    Without a change in the window the horizon itself is proven: the list was drained after it, and what the vendor
    shows later than that is what the overlap is for. With changes and no vendor clock, the newest stamp seen is the
    vendor's own time, so a difference between its clock and ours cannot carry the watermark past an unseen change.
    """
    opened_at = cursor.opened_at
    if opened_at is None:
        return cursor
    if cursor.vendor_now is not None:
        reached = min(opened_at + AHEAD, cursor.vendor_now)
    elif cursor.high is not None:
        reached = min(opened_at, cursor.high)
    else:
        reached = opened_at
    watermark = reached if cursor.watermark is None else max(cursor.watermark, reached)
    return Cursor(watermark=watermark, validator=cursor.validator)


def from_start(cursor: Cursor, *, parts: Sequence[str] = (), walk: str = "") -> Cursor:
    """At the start of the open window: it is new, or the place in it means nothing any more (the vendor does not know our
    token, or it is counted by other settings now)."""
    return replace(
        cursor,
        part=0,
        of=parts[0] if parts else None,
        walk=walk or None,
        position=0,
        token=None,
        last_key=None,
        pages=0,
        validator=None,
    )


def lag(cursor: Cursor, now: datetime) -> timedelta | None:
    """How far the feed stands behind `now`; None before its first window has closed."""
    return None if cursor.watermark is None else now - cursor.watermark


def to_json(cursor: Cursor) -> dict[str, Any]:
    """Only what differs from an empty cursor."""
    empty = Cursor()
    shown: dict[str, Any] = {}
    for name in (item.name for item in fields(Cursor)):
        value = getattr(cursor, name)
        if value != getattr(empty, name):
            shown[name] = _plain(value)
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return asdict(value) if isinstance(value, Validator) else value


def from_json(value: Mapping[str, Any]) -> Cursor:
    """Raises TypeError for a field that no version of the cursor had."""
    read: dict[str, Any] = {
        name: datetime.fromisoformat(field) if name in INSTANTS else field for name, field in value.items()
    }
    if kept := read.get("validator"):
        read["validator"] = Validator(**kept)
    return Cursor(**read)
