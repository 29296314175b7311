"""What a restart of Postgres costs: the work that was on its way, once; no report, no lease, and nothing of what comes after."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from sync_pipeline.kernel.errors import Deferred, SyncError, TransientError
from sync_pipeline.kernel.feed import Cursor, FeedId, Lane, Reply, Request
from sync_pipeline.landing.objects import LocalObjects
from sync_pipeline.landing.pages import FetchedPage, Landing, Lease
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import Target
from sync_pipeline.runtime import Runtime, open_runtime
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.test_one_feed_fails import HELD, LAST_ERROR, STORED, Vendor, session, ticket
from sync_pipeline_tests.things import rows

KILL = (
    "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)


@pytest.fixture
async def runtime(database_url: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(url=database_url, objects=tmp_path / "objects", rng=random.Random(1)) as opened:
        yield opened


async def warm(database: Database, connections: int = 4) -> None:
    """Its pools are full of connections, and a statement's is in hand."""
    await asyncio.gather(*(rows(database, "select pg_sleep(0.2)::text") for _ in range(connections)))
    await asyncio.gather(*(database.statement("select pg_sleep(0.2)::text", {}) for _ in range(2)))


async def restart(url: str) -> None:
    """As a client sees it: all connections end at once, and new ones are taken."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute(KILL)


class TestPools:
    @pytest.mark.parametrize("first", ["transaction", "statement"])
    async def test_one_failure_stands_for_all_idle_connections(
        self, database: Database, database_url: str, first: str
    ) -> None:
        async def finds_out() -> object:
            return await (rows(database, "select 1") if first == "transaction" else database.statement("select 1", {}))

        await warm(database)
        await restart(database_url)
        with pytest.raises(TransientError, match="connection was lost"):
            await finds_out()
        answers = await asyncio.gather(
            *(rows(database, "select 1") for _ in range(6)), *(database.statement("select 1", {}) for _ in range(4))
        )
        assert answers == [[(1,)]] * 10

    async def test_who_gives_up_while_they_are_looked_at_loses_none(
        self, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        looking = asyncio.Event()
        real = AsyncConnectionPool.check_connection

        async def slowly(conn: psycopg.AsyncConnection[Any]) -> None:
            looking.set()
            await asyncio.sleep(0.2)
            await real(conn)

        monkeypatch.setattr(AsyncConnectionPool, "check_connection", staticmethod(slowly))
        await warm(database)
        await restart(database_url)
        finds_out = asyncio.create_task(rows(database, "select 1"))
        await asyncio.wait_for(looking.wait(), 10)
        finds_out.cancel()
        with pytest.raises(asyncio.CancelledError):
            await finds_out
        for _ in range(3):
            async with asyncio.timeout(5):
                answers = await asyncio.gather(*(rows(database, "select pg_sleep(0.1)::text") for _ in range(4)))
            assert answers == [[("",)]] * 4

    async def test_a_caller_does_not_wait_long_for_connections_that_are_silent(
        self, database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        silent = asyncio.Event()

        async def never(conn: psycopg.AsyncConnection[Any]) -> None:
            await silent.wait()

        monkeypatch.setattr(AsyncConnectionPool, "check_connection", staticmethod(never))
        monkeypatch.setattr("sync_pipeline.store.database.LOOK_S", 0.2)
        await warm(database)
        await restart(database_url)
        since = time.monotonic()
        try:
            with pytest.raises(TransientError, match="connection was lost"):
                await asyncio.wait_for(rows(database, "select 1"), 10)
            assert time.monotonic() - since < 2
        finally:
            silent.set()


class TestSession:
    async def test_it_is_in_the_report_and_every_lease_is_given_back(self, runtime: Runtime) -> None:
        @dataclass
        class Restarting(Vendor):
            """While it answers the first request, the database is restarted."""

            done: bool = False

            async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply:
                if feed == "one" and not self.done:
                    self.done = True
                    await asyncio.sleep(0.5)
                    await restart(runtime.database.url)
                return await super().send(request, feed=feed, correlation_id=correlation_id, lane=lane)

        await warm(runtime.database, 6)
        vendor = Restarting({"one": [ticket("a")], "two": [ticket("z")]})
        report = await session(runtime, vendor)
        assert isinstance(report.feeds["one"].error, TransientError)
        assert report.feeds["two"].error is None
        assert await rows(runtime.database, HELD) == [(0,)]
        assert await rows(runtime.database, LAST_ERROR) == [("one", "TransientError"), ("two", None)]
        again = await session(runtime, vendor)
        assert [one.error for one in again.feeds.values()] == [None, None]
        assert await rows(runtime.database, STORED) == [("one", "a"), ("two", "z")]

    async def test_a_lease_that_cannot_be_taken_is_an_error_of_its_feed(self, runtime: Runtime) -> None:
        class Lost(Landing):
            async def acquire(self, feed: FeedId, *, owner: str, ttl_s: float) -> tuple[Lease, Cursor] | None:
                if feed.feed == "one":
                    raise TransientError("the connection was lost")
                return await super().acquire(feed, owner=owner, ttl_s=ttl_s)

        lost = replace(runtime, landing=Lost(runtime.database))
        report = await session(lost, Vendor({"one": [], "two": [ticket("z")]}))
        assert [str(one.error) for one in report.feeds.values()] == ["the connection was lost", "None"]
        assert await rows(runtime.database, STORED) == [("two", "z")]
        assert await rows(runtime.database, HELD) == [(0,)]

    @pytest.mark.parametrize(
        "ended", [TransientError("the vendor is away"), Deferred(datetime(2099, 1, 1, tzinfo=UTC), "no call to give")]
    )
    async def test_an_end_that_cannot_be_written_down_is_in_the_report(
        self, runtime: Runtime, ended: SyncError
    ) -> None:
        class Away(Landing):
            async def record_error(self, connection: str, feeds: Sequence[str], error: SyncError) -> None:
                raise TransientError("the store is away")

            async def record_deferral(self, connection: str, feeds: Sequence[str], deferred: Deferred) -> None:
                raise TransientError("the store is away")

        away = replace(runtime, landing=Away(runtime.database))
        report = await session(away, Vendor({"one": ended, "two": [ticket("z")]}))
        assert [one.error for one in report.feeds.values()] == [ended, None]
        assert await rows(runtime.database, STORED) == [("two", "z")]
        assert await rows(runtime.database, HELD) == [(0,)]

    async def test_a_lease_is_given_back_at_the_second_try(self, runtime: Runtime) -> None:
        class Once(Landing):
            """Of each lease the first try finds its connection lost."""

            tried: set[FeedId] = set()  # noqa: RUF012

            async def release(self, lease: Lease) -> None:
                if lease.feed not in self.tried:
                    self.tried.add(lease.feed)
                    raise TransientError("the connection was lost")
                await super().release(lease)

        report = await session(replace(runtime, landing=Once(runtime.database)), Vendor({"one": [], "two": []}))
        assert [one.error for one in report.feeds.values()] == [None, None]
        assert await rows(runtime.database, HELD) == [(0,)]

    async def test_a_lease_that_nobody_takes_back_is_waited_for_no_longer_than_it_lasts(
        self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Silent(Landing):
            async def release(self, lease: Lease) -> None:
                await asyncio.sleep(3600)

        monkeypatch.setattr("sync_pipeline.sessions.session.LEASE_TTL_S", 0.5)
        async with asyncio.timeout(20):
            report = await session(replace(runtime, landing=Silent(runtime.database)), Vendor({"one": [], "two": []}))
        assert [one.error for one in report.feeds.values()] == [None, None]

    async def test_what_is_done_once_a_session_hides_no_report(self, runtime: Runtime) -> None:
        class Away(Ledger):
            async def expire_held(self, targets: Sequence[Target], *, ttl_s: float) -> int:
                raise TransientError("the store is away")

        away = replace(runtime, ledger=Away(runtime.database))
        report = await session(away, Vendor({"one": [ticket("a")], "two": []}))
        assert report.dead_lettered == 0
        assert report.feeds["one"].counts["one"].applied == 1


class Slow(LocalObjects):
    """A far store."""

    def get(self, key: str) -> bytes:
        time.sleep(0.8)
        return super().get(key)


async def test_a_lease_is_held_while_pages_of_a_killed_worker_are_read(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes: else the next worker would take it, read as long, and lose it to the first."""
    monkeypatch.setattr("sync_pipeline.sessions.session.LEASE_TTL_S", 1.2)
    objects, feed = Slow(tmp_path / "far"), FeedId("box", "one")
    await session(runtime, Vendor({"one": [], "two": []}))
    now = datetime.now(UTC)
    replies = [Reply(200, {}, b'{"data": [%d]}' % number, now, now) for number in range(3)]
    pages = [
        FetchedPage.of(reply, key, Cursor(opened_at=now - timedelta(hours=1)), ("one",))
        for reply, key in zip(replies, objects.put(replies), strict=True)
    ]
    await runtime.landing.land_beside(feed, pages, session="killed", began=now)
    working = asyncio.create_task(session(replace(runtime, objects=objects), Vendor({"one": [], "two": []})))
    taken = []
    while not working.done():
        await asyncio.sleep(0.1)
        if await rows(runtime.database, "select 1 from sync.feed_state where feed = 'one' and lease_owner is not null"):
            taken.append(await runtime.landing.acquire(feed, owner="another", ttl_s=60))
    report = await working
    assert report.feeds["one"].error is None
    assert report.feeds["one"].recovered["one"].received == 3
    assert len(taken) > 15
    assert not any(taken)
