"""A worker whose store is away keeps to what it was told last; what it sent meanwhile counts on the day on which it was sent."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway import quota_store
from sync_pipeline.gateway.quota_local import LOCAL_SHARE
from sync_pipeline.gateway.quota_store import LONGEST_WAIT_S, SQL, Quota
from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import Lane, QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.quota_setting import START, Fickle, Tree, quota
from sync_pipeline_tests.things import rows

MINUTE = QuotaWindow("minute", 600, 60, burst=600)
DAY = QuotaWindow("day", 100_000, 86_400, kind="daily")


async def test_a_spent_day_stays_spent_without_the_store(database: Database) -> None:
    store = Fickle(database)
    one = quota(store, DAY)
    await one.open()
    await rows(database, "update sync.quota set day = (now() at time zone zone)::date, used = 100000 returning 1")
    with pytest.raises(Deferred) as told:
        await one.acquire(lane="P0")
    store.away = True
    lanes: tuple[Lane, ...] = ("P0", "P4")
    for lane in lanes:
        with pytest.raises(Deferred, match="store cannot be reached") as kept:
            await one.acquire(lane=lane)
        assert kept.value.until == pytest.approx(told.value.until, abs=timedelta(seconds=1))


async def test_what_others_were_refused_for_is_kept_to_without_the_store(database: Database) -> None:
    """The vendor refused another worker. This one knows of it from the store's answer only."""
    store = Fickle(database)
    one, other = quota(store, MINUTE), quota(database, MINUTE)
    await one.open()
    await other.refused(timedelta(seconds=300))
    with pytest.raises(Deferred, match="left alone"):
        await one.acquire(lane="P4")
    store.away = True
    with pytest.raises(Deferred, match="store cannot be reached"):
        await one.acquire(lane="P0")


@pytest.mark.parametrize("left", [0, 2])
async def test_without_the_store_no_more_go_than_it_had_left(database: Database, left: int) -> None:
    store = Fickle(database)
    one = quota(store, MINUTE)
    await one.open()
    taken = await rows(
        database, "select granted from sync.quota_grant(array['shop'], 0, 1, %s)", MINUTE.limit - left - 1
    )
    assert taken == [(MINUTE.limit - left - 1,)]
    await one.acquire(lane="P0")
    assert one.left() == (left, 60)
    store.away = True
    for _ in range(left):
        await one.acquire(lane="P0")
    assert one.left() == (0, 60)
    with pytest.raises(Deferred, match="store cannot be reached"):
        await one.acquire(lane="P0")


def test_calls_made_without_the_store_after_midnight_count_on_the_new_day(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("day", 100, 86_400, kind="daily"))
    now = (datetime.now(UTC) - START).total_seconds()
    assert tree.ask(scope, at=now - 86_400).granted == 1
    tree.conn.execute(SQL.spend, {"scopes": [scope], "tokens": 10})
    assert tree.ask(scope, at=now, most=100).granted == 90


class Jumping:
    """A clock whose sleep takes no time and moves it on."""

    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        until = self.at + seconds
        await asyncio.sleep(0)
        self.at = max(self.at, until)


def apart(database: Fickle, clock: Jumping, window: QuotaWindow) -> Quota:
    node = QuotaNode("shop", (window,))
    return Quota(
        "shop", [node], database=database, clock=clock, monotonic=clock.monotonic, random=random.Random(1).random
    )  # type: ignore[arg-type]


async def test_callers_of_one_worker_wait_for_the_local_share_side_by_side(database: Database) -> None:
    """Each waited its turn and those of all before it, in one queue, and nobody was deferred: minutes."""
    clock, store = Jumping(), Fickle(database)
    one = apart(store, clock, QuotaWindow("minute", 100, 60))
    await one.open()
    store.away = True
    begun = clock.at
    share = LOCAL_SHARE * 61 / 100
    calls = [asyncio.create_task(one.acquire()) for _ in range(8)]
    done, waiting = await asyncio.wait(calls, timeout=5)
    assert not waiting
    granted = sorted(call.result().asked - begun for call in done if call.exception() is None)
    assert granted == pytest.approx([share * (turn + 1) for turn in range(int(LONGEST_WAIT_S // share))], rel=0.02)
    assert {type(call.exception()) for call in done} == {type(None), Deferred}


async def test_a_turn_of_the_local_share_that_a_refusal_overtakes_is_not_used(database: Database) -> None:
    store = Fickle(database)
    one = quota(store, QuotaWindow("minute", 6000, 60))
    await one.open()
    store.away = True
    call = asyncio.create_task(one.acquire())
    await asyncio.sleep(0.05)
    one.hold(timedelta(seconds=300))
    with pytest.raises(Deferred, match="left alone"):
        await call


@asynccontextmanager
async def locked(database: Database) -> AsyncIterator[None]:
    """Somebody holds the rows, and a statement that needs them waits."""
    async with database.transaction() as conn:
        await conn.execute("select from sync.quota for update")
        yield


async def test_a_store_that_hangs_is_one_that_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker waited for as long as it hung."""
    monkeypatch.setattr(quota_store, "STORE_PATIENCE_S", 0.5)
    one = quota(database, QuotaWindow("minute", 600, 60, burst=100))
    await one.open()
    async with asyncio.timeout(20), locked(database):
        begun = time.monotonic()
        await one.acquire()
        assert time.monotonic() - begun == pytest.approx(0.5 + LOCAL_SHARE * 0.102, abs=1)
        begun = time.monotonic()
        await one.refused(timedelta(seconds=1))
        assert time.monotonic() - begun == pytest.approx(0.5, abs=1)
    await asyncio.sleep(1)
    await one.acquire()
    assert await rows(database, "select used from sync.quota_now") == [(102,)], "two calls, and the burst"


async def test_callers_of_a_store_that_hangs_wait_for_each_other_no_longer_than_a_call_may(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota_store, "STORE_PATIENCE_S", 0.5)
    one = quota(database, QuotaWindow("minute", 6000, 60))
    await one.open()
    async with asyncio.timeout(20), locked(database):
        begun = time.monotonic()
        calls = (one.acquire(patience_s=1.5) for _ in range(12))
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert time.monotonic() - begun < 4, "not half a second for each of twelve"
    reasons = [str(each) for each in done if isinstance(each, Deferred)]
    assert len(reasons) >= 8
    assert all("the quota store is slow" in each or "cannot be reached" in each for each in reasons)


async def test_closing_while_the_store_is_away_is_no_error(database: Database) -> None:
    store = Fickle(database)
    one = quota(store, QuotaWindow("minute", 60_000, 60))
    await one.open()
    await one.acquire()
    store.away = True
    await one.close()
