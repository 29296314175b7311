"""One poll of one feed: its open window walked to the end, pages landed and applied while the next one is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sync_pipeline.kernel.crash import CrashPoint
from sync_pipeline.kernel.errors import CursorExpired, ExpansionFailed, PermanentError, TransientError
from sync_pipeline.kernel.feed import Cursor, Feed, Lane, PageRead, Reply, Request
from sync_pipeline.landing.pages import FetchedPage, Lease
from sync_pipeline.ledger.checked import CheckedPage, check_page
from sync_pipeline.polling import cursors
from sync_pipeline.sessions.effects import Effects
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.sessions.steps import Budget, Checked, Fetched, Landed, PollResult
from sync_pipeline.sessions.stream import Stream
from sync_pipeline.trust.logger import get_logger

POLL_REACH = timedelta(days=1)
"""A window that goes back further is a backfill."""

AHEAD = 24
"""Pages that may wait to be landed: bounds memory, and is the largest group committed together."""

NOT_LANDED = 0
"""Stands for a page's id until landing gives it one."""

LOG = get_logger(__name__)

READ_ATTEMPTS = 5
"""Times a page is asked again when a 200 answer is not this endpoint's (cut off, an HTML page)."""

EXPANSION_ATTEMPTS = 3
"""Times a page is asked for before what the vendor cannot add to its records is done without."""


class Walk:
    """Walks the windows of one source feed under one lease."""

    def __init__(self, setup: Setup, source: str, effects: Effects, *, session: str) -> None:
        self._setup = setup
        self._source = source
        self._feed: Feed = setup.connection.feeds[source]
        self._id = setup.connection.feed_id(source)
        self._effects = effects
        self._session = session
        self._unexpanded = 0
        """Pages whose records were taken alone."""

    async def poll(
        self, lease: Lease, result: PollResult, budget: Budget, *, ended: Callable[[], bool] = lambda: False
    ) -> None:
        """Walk the open window of `result.cursor` (or open the next one) until it is drained, the budget is spent or, asked
        before each page but the first, `ended` says so.

        What was fetched before the vendor or the network failed is landed and applied before the error is raised: `result`
        says at any time what was done.
        """
        cursor = result.cursor = self._entered(result.cursor)
        fetched = Stream[Fetched](1)
        checked = Stream[Checked](AHEAD)
        landed = Stream[Landed](1)
        async with (
            _running(self._fetch_window(cursor, budget, fetched, result, ended), fetched) as fetching,
            _running(self._check_all(fetched, checked), checked) as checking,
            _running(self._land_all(lease, checked, landed), landed) as landing,
        ):
            await self._apply_all(lease, landed, result)
            await landing
            await checking
            await fetching

    def _entered(self, cursor: Cursor) -> Cursor:
        """The cursor with an open window whose place is counted by the present settings."""
        parts, walk = self._feed.parts, self._feed.walk
        if not cursor.is_open:
            now = self._effects.clock.now()
            return cursors.open_window(cursor, now=now, overlap=self._feed.overlap, parts=parts, walk=walk)
        if cursor.walk == (walk or None):
            return cursor
        LOG.info(
            "the order of the events or the paging has changed: the open window is walked again from its start",
            correlation_id=self._session,
            connection=self._id.connection,
            feed=self._id.feed,
        )
        return cursors.from_start(cursor, parts=parts, walk=walk)

    async def _fetch_window(
        self,
        cursor: Cursor,
        budget: Budget,
        fetched: Stream[Fetched],
        result: PollResult,
        ended: Callable[[], bool],
    ) -> None:
        restarts, asked = 0, 0
        while cursor.is_open and not (asked and ended()) and budget.take():
            asked += 1
            # A vendor may refuse the paging token of a list with extras for the same list without them. If that is what
            # sends us back again and again, all of the window is taken without.
            alone = restarts > 1 and self._unexpanded > 0
            try:
                reply, read = await self._fetch(cursor, result, alone=alone)
            except CursorExpired:
                restarts += 1
                if restarts > 3:
                    raise PermanentError(
                        f"{self._id}: the vendor refused its own paging token {restarts} times in one window; "
                        "the window stays open and is walked again in the next session"
                    ) from None
                cursor = cursors.from_start(cursor, parts=self._feed.parts, walk=self._feed.walk)
                continue
            after, _ = cursors.after_page(cursor, read, parts=self._feed.parts)
            await fetched.put(Fetched(cursor, reply, read, after))
            del read  # who checks it lets it go, while it is at hand
            cursor = after

    async def _check_all(self, fetched: Stream[Fetched], checked: Stream[Checked]) -> None:
        """A page is checked while the vendor prepares the next one."""
        while pages := await fetched.take(1):
            await asyncio.sleep(0)  # the next request leaves first
            await checked.put(self._check(pages.pop()))

    def _check(self, page: Fetched) -> Checked:
        read = page.read
        records = {
            feed: check_page(NOT_LANDED, read.records[feed], self._setup.feeds[feed].contract)
            for feed in self._yields(read)
        }
        return Checked(page.cursor, page.reply, records, page.after)

    def _yields(self, read: PageRead) -> tuple[str, ...]:
        return tuple(feed for feed in self._feed.yields if read.records.get(feed))

    async def _fetch(self, cursor: Cursor, result: PollResult, *, alone: bool) -> tuple[Reply, PageRead]:
        request = self._feed.request(cursor)
        request = (request.plain or request) if alone else request
        unread = unexpanded = 0
        while True:
            self._effects.crash.reach(CrashPoint.REQUEST_GRANTED)
            result.requests += 1
            try:
                reply = await self._effects.gateway.send(
                    request,
                    feed=self._source,
                    correlation_id=self._session,
                    lane=_lane(cursor, self._effects.clock.now()),
                )
            except ExpansionFailed:
                if request.plain is None:
                    raise
                unexpanded += 1
                if unexpanded == EXPANSION_ATTEMPTS:
                    request = self._alone(request.plain)
            else:
                self._effects.crash.reach(CrashPoint.REPLY_RECEIVED)
                if reply.not_modified:
                    return reply, PageRead({}, None, validator=cursor.validator)
                try:
                    return reply, self._feed.read(cursor, reply)
                except TransientError:
                    unread += 1
                    if unread == READ_ATTEMPTS:
                        raise
            await self._effects.clock.sleep(self._effects.rng.uniform(0, 0.1 * 2 ** (unread + unexpanded)))

    def _alone(self, plain: Request) -> Request:
        """A page whose extras the vendor fails to add must not stop the feed: its records are judged as they come."""
        self._unexpanded += 1
        LOG.warning(
            "the vendor cannot add to the records of a page what was asked for beside them; they are taken alone, and those "
            "that need it are quarantined until they are listed again",
            correlation_id=self._session,
            connection=self._id.connection,
            feed=self._id.feed,
            endpoint=plain.endpoint,
        )
        return plain

    async def _land_all(self, lease: Lease, checked: Stream[Checked], landed: Stream[Landed]) -> None:
        while group := await checked.take(AHEAD):
            await landed.put(await self._land(lease, group))

    async def _land(self, lease: Lease, group: list[Checked]) -> Landed:
        """Keep the pages that hold records, register them and move the cursor; empty pages only move it."""
        first, after = group[0].cursor, group[-1].after
        full = [one for one in group if one.records]
        keys = await asyncio.to_thread(self._effects.objects.put, [one.reply for one in full]) if full else []
        self._effects.crash.reach(CrashPoint.OBJECT_WRITTEN)
        pages = [
            FetchedPage.of(one.reply, key, one.cursor, tuple(one.records)) for one, key in zip(full, keys, strict=True)
        ]
        landed = await self._effects.landing.land(
            lease, pages, after, session=self._session, followers=self._feed.yields[1:]
        )
        ids = iter(landed)
        records: dict[str, list[CheckedPage]] = {}
        for one in full:
            for feed, found in one.records.items():
                records.setdefault(feed, []).append(replace(found, page_id=next(ids).id))
        return Landed(len(pages), sum(page.size for page in pages), records, after, first.since is None)

    async def _apply_all(self, lease: Lease, landed: Stream[Landed], result: PollResult) -> None:
        """Groups are applied one after the other, but a group's records are sent to the database while the one before it
        is applied."""
        previous: asyncio.Task[None] | None = None
        current: asyncio.Task[None] | None = None
        try:
            while groups := await landed.take(1):
                previous, current = current, asyncio.create_task(self._apply(lease, groups[0], result, current))
                if previous is not None:
                    await previous
            if current is not None:
                await current
        finally:
            left = [task for task in (previous, current) if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _apply(
        self, lease: Lease, landed: Landed, result: PollResult, previous: asyncio.Task[None] | None
    ) -> None:
        for feed, pages in landed.checked.items():
            applied = await self._effects.ledger.apply(
                self._setup.target(feed),
                pages,
                fence=(lease.feed, lease.fence),
                after=None if previous is None else asyncio.shield(previous),
                likely_new=landed.backfill and _all_new(result),
            )
            result.released += applied.released
            for counts in applied.counts:
                result.add(feed, counts)
        if previous is not None:
            await asyncio.shield(previous)
        result.pages += landed.pages
        result.cursor = landed.after
        LOG.info(
            "pages landed and applied",
            correlation_id=self._session,
            connection=self._id.connection,
            feed=self._id.feed,
            cursor_position=_place(landed.after),
            pages=landed.pages,
            bytes=landed.size,
            records={feed: sum(page.received for page in pages) for feed, pages in landed.checked.items()},
        )
        if not landed.after.is_open:
            self._effects.crash.reach(CrashPoint.WINDOW_CLOSED)


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None], output: Stream[Any]) -> AsyncIterator[asyncio.Task[None]]:
    """Run a stage beside the block, its stream closed when it ends; it does not outlive the block."""

    async def stage() -> None:
        try:
            await work
        finally:
            output.close()

    task = asyncio.create_task(stage())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _place(cursor: Cursor) -> str:
    """Where a feed stands, for a log line. Never the vendor's token: it encodes the query."""
    watermark = cursor.watermark.isoformat() if cursor.watermark else "none"
    if not cursor.is_open:
        return f"watermark {watermark}, window closed"
    return f"watermark {watermark}, part {cursor.part}, position {cursor.position}, page {cursor.pages}"


def _all_new(result: PollResult) -> bool:
    """Whether the store knew nothing of what this poll applied so far."""
    return not any(counts.unchanged or counts.superseded or counts.held for counts in result.counts.values())


def _lane(cursor: Cursor, now: datetime) -> Lane:
    """History is read with what the polls leave."""
    return "P4" if cursor.since is None or now - cursor.since > POLL_REACH else "P2"
