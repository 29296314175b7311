"""A window listed again at the vendor, beside the live cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

from sync_pipeline.kernel.errors import CursorExpired, ExpansionFailed, PermanentError, TransientError
from sync_pipeline.kernel.feed import Cursor, Feed, Lane, PageRead, Reply, Request
from sync_pipeline.polling import cursors
from sync_pipeline.sessions.effects import Sender
from sync_pipeline.sessions.walk import READ_ATTEMPTS

LANE: Lane = "P3"


async def relist(
    feed: Feed,
    gateway: Sender,
    *,
    since: datetime | None,
    now: datetime,
    correlation_id: str,
    until: datetime | None = None,
) -> AsyncIterator[tuple[Cursor, Reply, PageRead]]:
    """All pages of what changed since `since`. A spent token starts the list again: records may come twice.

    `until`: a list that is sorted by modification is left once it has come so far. Few vendors can bound it themselves.
    """
    cursor = cursors.from_start(Cursor(since=since, opened_at=now), parts=feed.parts)
    restarts = 0
    while cursor.is_open:
        try:
            reply, read = await ask(feed, gateway, feed.request(cursor), cursor, correlation_id)
        except CursorExpired:
            restarts += 1
            if restarts > 3:
                raise PermanentError(f"{feed.name}: the vendor refused its own paging token {restarts} times") from None
            cursor = cursors.from_start(cursor, parts=feed.parts)
            continue
        yield cursor, reply, read
        if until is not None and read.high is not None and read.high >= until:
            read = replace(read, next=None)
        cursor, _ = cursors.after_page(cursor, read, parts=feed.parts)


async def ask(
    feed: Feed, gateway: Sender, request: Request, cursor: Cursor, correlation_id: str
) -> tuple[Reply, PageRead]:
    """One page, asked again when the answer is not this endpoint's. A probe that is refused shows nothing."""
    for attempt in range(1, READ_ATTEMPTS + 1):
        try:
            reply = await gateway.send(request, feed=feed.name, correlation_id=correlation_id, lane=LANE)
        except ExpansionFailed:  # not done without: a record that lacks something would pass for a difference
            if attempt == READ_ATTEMPTS:
                raise
            continue
        if request.probe and reply.status == 403:
            return reply, PageRead({}, None)
        try:
            return reply, feed.read(cursor, reply)
        except TransientError:
            if attempt == READ_ATTEMPTS:
                raise
    raise AssertionError("unreachable")
