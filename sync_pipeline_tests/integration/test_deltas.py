"""A difference is one row from when it is found until it is gone, however often it is seen."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from sync_pipeline.ledger.compare import Comparer, Difference
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import START, rows, target

DAY = START.date()
OPEN = "select vendor_id, cause, found_at, last_seen from sync.delta where not verified order by 1, 2"


def difference(name: str, cause: str = "missing_at_vendor", *, days: int = 0) -> Difference:
    return Difference(name, cause, START + timedelta(days=days))


@pytest.fixture
def comparer(database: Database) -> Comparer:
    return Comparer(database)


async def record(comparer: Comparer, *found: tuple[Difference, str, bool], start: date = DAY, days: int = 1) -> None:
    await comparer.record(target(), found, start=start, end=start + timedelta(days=days))


async def test_an_open_difference_is_seen_again_not_found_again(comparer: Comparer, database: Database) -> None:
    ghost = (difference("a"), "review", False)
    seen: list[datetime] = []
    for _ in range(3):
        await record(comparer, ghost, (difference("b"), "review", False))
        [(_, _, found_at, last_seen), (name, *_)] = await rows(database, OPEN)
        seen += [found_at, last_seen]
        assert name == "b"
    assert len({*seen[0::2]}) == 1
    assert seen[1] < seen[3] < seen[5]


async def test_one_that_is_gone_is_settled_and_may_come_again(comparer: Comparer, database: Database) -> None:
    await record(comparer, (difference("a"), "review", False))
    await record(comparer)
    assert await rows(database, OPEN) == []
    await record(comparer, (difference("a"), "review", False))
    assert await rows(database, "select verified, count(*)::int from sync.delta group by 1 order by 1") == [
        (False, 1),
        (True, 1),
    ]


async def test_another_cause_of_the_same_record_is_another_row(comparer: Comparer, database: Database) -> None:
    await record(comparer, (difference("a"), "review", False))
    await record(comparer, (difference("a", "stale_in_store"), "repaired", False))
    assert [row[:2] for row in await rows(database, OPEN)] == [("a", "stale_in_store")]


async def test_days_that_were_not_listed_stay_open(comparer: Comparer, database: Database) -> None:
    await record(comparer, (difference("a", days=3), "review", False), days=5)
    await record(comparer, (difference("b"), "review", False))
    assert [row[0] for row in await rows(database, OPEN)] == ["a", "b"]


async def test_what_was_repaired_is_kept_each_time(comparer: Comparer, database: Database) -> None:
    for _ in range(2):
        await record(comparer, (difference("a", "stale_in_store"), "repaired", True))
    assert await rows(database, "select count(*)::int from sync.delta where verified") == [(2,)]


async def test_one_that_was_left_open_and_is_repaired_later_is_counted_once(
    comparer: Comparer, database: Database
) -> None:
    stale = difference("a", "stale_in_store")
    await record(comparer, (stale, "review", False), (difference("b", "stale_in_store"), "repaired", False))
    [(_, _, found_at, seen), _] = await rows(database, OPEN)
    await record(comparer, (stale, "repaired", True), (difference("b"), "review", False))
    kept = "select vendor_id, cause, action, verified, found_at = %s, last_seen > %s, repaired_at > %s from sync.delta"
    assert await rows(database, f"{kept} where vendor_id = 'a'", found_at, seen, seen) == [
        ("a", "stale_in_store", "repaired", True, True, True, True)
    ]
    assert [row[:2] for row in await rows(database, OPEN)] == [("b", "missing_at_vendor")], (
        "another cause is another row"
    )
