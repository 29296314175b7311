"""A worker whose store is away keeps to what it was told last; what it sent meanwhile counts on the day on which it was sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway.quota_store import SQL
from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import Lane, QuotaWindow
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
