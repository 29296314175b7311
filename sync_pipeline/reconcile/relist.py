"""A window listed again at the vendor, beside the live cursor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from sync_pipeline.kernel.errors import CursorExpired, PermanentError, TransientError
from sync_pipeline.kernel.feed import Cursor, Feed, Lane, PageRead, Reply
from sync_pipeline.polling import cursors
from sync_pipeline.sessions.walk import READ_ATTEMPTS, Sender

LANE: Lane = "P3"


async def relist(
    feed: Feed, gateway: Sender, *, since: datetime | None, now: datetime, correlation_id: str
) -> AsyncIterator[tuple[Cursor, Reply, PageRead]]:
    """All pages of what changed since `since`. A spent token starts the list again: records may come twice."""
    cursor = Cursor(since=since, opened_at=now)
    restarts = 0
    while cursor.is_open:
        try:
            reply, read = await _page(feed, gateway, cursor, correlation_id)
        except CursorExpired:
            restarts += 1
            if restarts > 3:
                raise PermanentError(f"{feed.name}: the vendor refused its own paging token {restarts} times") from None
            cursor = cursors.expired(cursor)
            continue
        yield cursor, reply, read
        cursor, _ = cursors.after_page(cursor, read, parts=feed.parts, page_received_at=reply.received_at)


async def _page(feed: Feed, gateway: Sender, cursor: Cursor, correlation_id: str) -> tuple[Reply, PageRead]:
    request = feed.request(cursor)
    for attempt in range(1, READ_ATTEMPTS + 1):
        reply = await gateway.send(request, feed=feed.name, correlation_id=correlation_id, lane=LANE)
        try:
            return reply, feed.read(cursor, reply)
        except TransientError:
            if attempt == READ_ATTEMPTS:
                raise
    raise AssertionError("unreachable")
