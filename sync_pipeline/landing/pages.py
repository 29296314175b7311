"""The landing transaction: pages registered and the cursor moved together, or neither."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from sync_pipeline.kernel.clock import Clock, SystemClock
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import ConfigurationError, Deferred, Fenced, SyncError
from sync_pipeline.kernel.feed import Cursor, FeedId, Reply
from sync_pipeline.landing.owners import is_gone
from sync_pipeline.landing.shown import instants_shown
from sync_pipeline.polling.cursors import from_json, to_json
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move one feed's cursor. `fence` grows with every holder; a stale one writes nothing."""

    feed: FeedId
    owner: str
    fence: int
    ttl_s: float


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page in the object store, not yet registered. `cursor` is the one it was asked from."""

    object_key: str
    sha256: bytes
    size: int
    fetched_at: datetime
    cursor: Cursor
    audit_id: int | None
    yields: tuple[str, ...]
    """Feeds that the page carries records of; none when the page is empty and need not be kept."""
    asked_at: datetime
    """When the request was sent, by the worker's clock."""

    @classmethod
    def of(cls, reply: Reply, object_key: str, cursor: Cursor, yields: tuple[str, ...]) -> FetchedPage:
        return cls(
            object_key,
            reply.sha256,
            len(reply.body),
            reply.received_at,
            cursor,
            reply.audit_id,
            yields,
            asked_at=reply.sent_at,
        )


@dataclass(frozen=True, slots=True)
class LandedPage:
    """`shown_at`: when the vendor was asked for it, by the database's clock: what it shows may be as old as that."""

    id: int
    feed: FeedId
    source_feed: str
    object_key: str
    fetched_at: datetime
    cursor: Cursor
    shown_at: datetime


def encode(cursor: Cursor) -> Jsonb:
    return as_jsonb(to_json(cursor))


def as_jsonb(value: Any) -> Jsonb:
    return Jsonb(value, dumps=lambda value: orjson.dumps(value).decode())


class Landing:
    """Leases, cursors and pages of one database. `clock`: the one that says when replies were asked for."""

    def __init__(self, database: Database, *, crash: CrashPlan | None = None, clock: Clock | None = None) -> None:
        self._db = database
        self._crash = crash or CrashPlan()
        self._clock = clock or SystemClock()
        self._shown: dict[FeedId, datetime] = {}
        """Of each feed, when the last page landed under its lease was shown, or the lease taken: no later page was before. How
        long an answer of the database takes differs, and two groups may be a few milliseconds apart."""

    async def acquire(self, feed: FeedId, *, owner: str, ttl_s: float) -> tuple[Lease, Cursor] | None:
        """Take the feed's lease, or None when another worker holds it."""
        names = {"connection": feed.connection, "feed": feed.feed}
        async with self._db.transaction() as conn:
            await conn.execute(SQL.ensure_feed, names)
            await self._bury_the_dead(conn, names)
            found = await conn.execute(SQL.acquire_lease, {**names, "owner": owner, "ttl": ttl_s})
            row = await found.fetchone()
        if row is None:
            return None
        self._shown[feed] = row[2]
        return Lease(feed, owner, row[0], ttl_s), from_json(row[1])

    @staticmethod
    async def _bury_the_dead(conn: AsyncConnection[Any], names: dict[str, Any]) -> None:
        """End the lease of a worker that was killed on this host; one on another host ends by its time."""
        holder = await (await conn.execute(SQL.lease_holder, names)).fetchone()
        if holder is not None and is_gone(holder[0]):
            await conn.execute(SQL.break_lease, {**names, "fence": holder[1]})

    async def renew(self, lease: Lease) -> bool:
        """Hold the lease on; False when another worker has taken it."""
        async with self._db.transaction() as conn:
            found = await conn.execute(
                SQL.renew_lease,
                {
                    "connection": lease.feed.connection,
                    "feed": lease.feed.feed,
                    "fence": lease.fence,
                    "ttl": lease.ttl_s,
                },
            )
            return await found.fetchone() is not None

    async def release(self, lease: Lease) -> None:
        async with self._db.transaction() as conn:
            await conn.execute(
                SQL.release_lease,
                {"connection": lease.feed.connection, "feed": lease.feed.feed, "fence": lease.fence},
            )

    async def land(
        self, lease: Lease, pages: Sequence[FetchedPage], after: Cursor, *, session: str, followers: Sequence[str] = ()
    ) -> list[LandedPage]:
        """Register `pages` and move the cursor to `after`, in one transaction.

        Raises Fenced, and writes nothing, when another worker holds the lease by now.
        """
        moved = {
            "connection": lease.feed.connection,
            "cursor": encode(after),
            "watermark": after.watermark,
            "closed": not after.is_open,
        }
        async with self._db.transaction() as conn:
            found = await conn.execute(
                SQL.move_cursor, {**moved, "feed": lease.feed.feed, "fence": lease.fence, "ttl": lease.ttl_s}
            )
            row = await found.fetchone()
            if row is None:
                raise Fenced(
                    f"{lease.feed}: another worker has taken this feed's lease (fence {lease.fence} is stale); "
                    "this worker stops and has written nothing"
                )
            shown = self._shown_at(lease.feed, pages, database_now=row[0])
            for follower in followers:
                await conn.execute(SQL.follow_cursor, {**moved, "feed": follower})
            landed = await self._register_all(conn, lease.feed, pages, session, shown)
            self._crash.reach(CrashPoint.LANDING_BEFORE_COMMIT)
        self._shown[lease.feed] = max(shown, default=self._shown.get(lease.feed, row[0]))
        self._crash.reach(CrashPoint.LANDING_AFTER_COMMIT)
        return landed

    def _shown_at(self, feed: FeedId, pages: Sequence[FetchedPage], *, database_now: datetime) -> list[datetime]:
        return instants_shown(
            [page.asked_at for page in pages],
            now=self._clock.now(),
            database_now=database_now,
            not_before=self._shown.get(feed, BEGINNING),
        )

    async def land_beside(
        self, source: FeedId, pages: Sequence[FetchedPage], *, session: str, began: datetime
    ) -> list[LandedPage]:
        """Register pages of a re-listing that `began` then, by the database's clock, without touching the cursor. What polls have
        asked for since then was shown later."""
        async with self._db.transaction() as conn:
            return await self._register_all(conn, source, pages, session, [began] * len(pages))

    @staticmethod
    async def _register_all(
        conn: AsyncConnection[Any],
        source: FeedId,
        pages: Sequence[FetchedPage],
        session: str,
        shown: Sequence[datetime],
    ) -> list[LandedPage]:
        """`shown`: when each page was."""
        landing = [(page, feed, at) for page, at in zip(pages, shown, strict=True) for feed in page.yields]
        if not landing:
            return []
        rows = [
            {
                "feed": feed,
                "sha256": page.sha256.hex(),
                "object_key": page.object_key,
                "bytes": page.size,
                "fetched_at": page.fetched_at,
                "cursor": to_json(page.cursor),
                "audit_id": page.audit_id,
                "shown_at": at,
            }
            for page, feed, at in landing
        ]
        named = {
            "connection": source.connection,
            "source_feed": source.feed,
            "session": session,
            "pages": as_jsonb(rows),
        }
        made = await (await conn.execute(SQL.insert_pages, named)).fetchall()
        return [
            LandedPage(
                i, FeedId(source.connection, feed), source.feed, page.object_key, page.fetched_at, page.cursor, at
            )
            for (i,), (page, feed, at) in zip(made, landing, strict=True)
        ]

    async def pending(self, connection: str, feeds: Sequence[str], *, limit: int = 50) -> list[LandedPage]:
        """Pages that a killed worker landed and did not apply, oldest first."""
        return await self._pages(
            connection, SQL.pending_pages, {"connection": connection, "feeds": list(feeds), "limit": limit}
        )

    async def landed(self, feed: FeedId, *, after: int = 0, limit: int = 50) -> list[LandedPage]:
        """All pages ever landed for a feed and not given up, by id."""
        return await self._pages(
            feed.connection,
            SQL.landed_pages,
            {"connection": feed.connection, "feed": feed.feed, "after": after, "limit": limit},
        )

    async def _pages(self, connection: str, sql: str, parameters: dict[str, Any]) -> list[LandedPage]:
        async with self._db.transaction() as conn:
            found = await conn.execute(sql, parameters)
            return [
                LandedPage(i, FeedId(connection, feed), source, key, fetched_at, from_json(cursor), shown_at)
                for i, feed, source, key, fetched_at, cursor, shown_at in await found.fetchall()
            ]

    async def scope(self, feed: FeedId) -> str | None:
        """What the feed's lists covered when its cursor was last moved; None when that was never written."""
        async with self._db.transaction() as conn:
            found = await conn.execute(SQL.feed_scope, {"connection": feed.connection, "feed": feed.feed})
            row = await found.fetchone()
            return None if row is None else row[0]

    async def enter_scope(
        self, lease: Lease, scope: str, *, restart: str | None, followers: Sequence[str] = ()
    ) -> None:
        """Keep the scope with the cursor. `restart`: why the cursor goes back to the beginning; None leaves it.

        Raises Fenced, and writes nothing, when another worker holds the lease by now.
        """
        names = {"connection": lease.feed.connection, "scope": scope}
        async with self._db.transaction() as conn:
            found = await conn.execute(SQL.enter_scope, {**names, "feed": lease.feed.feed, "fence": lease.fence})
            if await found.fetchone() is None:
                raise Fenced(
                    f"{lease.feed}: another worker has taken this feed's lease; this worker has written nothing"
                )
            if restart is not None:
                feeds = [lease.feed.feed, *followers]
                await conn.execute(SQL.restart_feeds, {**names, "feeds": feeds, "reason": restart})

    async def reset(
        self, feed: FeedId, *, since: datetime | None, given_up: Sequence[int] = (), skip: bool = False
    ) -> None:
        """Force the cursor back (None: to the beginning). Whoever holds the lease is fenced off.

        `given_up`: landed pages that will never be applied, since what was on them is listed again. `skip`: forward too, over
        changes that were not listed yet. Without it that raises ConfigurationError, and nothing is written.
        """
        names = {"connection": feed.connection, "feed": feed.feed}
        moved = {**names, "cursor": encode(Cursor(watermark=since)), "watermark": since, "skip": skip}
        async with self._db.transaction() as conn:
            await conn.execute(SQL.ensure_feed, names)
            if (await conn.execute(SQL.reset_cursor, moved)).rowcount == 0:
                row = await (await conn.execute(SQL.watermark, names)).fetchone()
                raise ConfigurationError(_forward(feed, row[0] if row else None))
            await conn.execute(SQL.give_up_pages, {**names, "pages": list(given_up)})

    async def record_error(self, connection: str, feeds: Sequence[str], error: SyncError) -> None:
        await self._note(
            SQL.record_error,
            {"connection": connection, "feeds": list(feeds), "error": f"{type(error).__name__}: {error}"},
        )

    async def record_deferral(self, connection: str, feeds: Sequence[str], deferred: Deferred) -> None:
        await self._note(
            SQL.record_deferral,
            {
                "connection": connection,
                "feeds": list(feeds),
                "until": deferred.until,
                "awaits": deferred.awaits,
                "reason": deferred.reason,
            },
        )

    async def schedule_next(
        self,
        connection: str,
        feeds: Sequence[str],
        next_due: datetime,
        *,
        why: str,
        estimate: Mapping[str, Any] | None,
        calls_a_poll: float,
    ) -> None:
        """When the feeds are due, why, and what is known of how often they change (None: as before)."""
        await self._note(
            SQL.schedule_next,
            {
                "connection": connection,
                "feeds": list(feeds),
                "next_due": next_due,
                "why": why,
                "estimate": None if estimate is None else Jsonb(dict(estimate)),
                "calls_a_poll": calls_a_poll,
            },
        )

    async def recall(self, feed: FeedId) -> tuple[Mapping[str, Any] | None, float | None]:
        """(estimate, calls a poll takes) as `schedule_next` stored them."""
        found = await self._db.statement(SQL.recall, {"connection": feed.connection, "feed": feed.feed})
        return (found[0][0], found[0][1]) if found else (None, None)

    async def _note(self, sql: str, parameters: dict[str, Any]) -> None:
        async with self._db.transaction() as conn:
            await conn.execute(sql, parameters)


def _forward(feed: FeedId, watermark: datetime | None) -> str:
    if watermark is None:
        return (
            f"{feed}: its history is not read to the end yet, and what is missing of it would never be listed; let "
            f"`sync-pipeline sync {feed.connection}` finish it, start with --from beginning, or add --skip to do without"
        )
    return (
        f"{feed}: its cursor stands at {watermark:%Y-%m-%dT%H:%M:%SZ}, and what changed between then and a later instant would "
        "never be listed; name an earlier instant, or add --skip to do without"
    )
