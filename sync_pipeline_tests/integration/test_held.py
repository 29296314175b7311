"""Records that wait for their parent: none is lost, however late the parent comes and whoever else writes meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from psycopg import AsyncConnection

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import TransactionConflict
from sync_pipeline.kernel.feed import RawRecord
from sync_pipeline.ledger.apply import TIMES, Ledger
from sync_pipeline.sessions.replay import Quarantine, QuarantineFilter
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import ThingContract, landed_page, rows, target, thing

CHILD = ThingContract(parent_feed="parents")
CHILDREN = target(CHILD, "children", handoff=True, handoff_feeds=("children",))
PARENTS = target(feed="parents", handoff_feeds=("children",))
TARGETS = [CHILDREN, PARENTS]
STORED = "select vendor_id, size from canon.thing where feed = 'children'"
HELD = "select vendor_id, parent_id, modified_at - '2026-01-01' from sync.held"
LETTERS = "select vendor_id, status, times_seen from sync.quarantine where kind = 'dead_letter'"
HANDED = "select vendor_id, extract(epoch from modified_at - '2026-01-01')::integer from sync.outbox order by id"

WAITS = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'"


async def children(ledger: Ledger, database: Database, *records: RawRecord, fetched: float | None = None) -> Counts:
    page = await landed_page(database, records, CHILD, "children", fetched=fetched)
    return (await ledger.apply(CHILDREN, [page])).counts[0]


async def parents(ledger: Ledger, database: Database, *names: str) -> int:
    page = await landed_page(database, [thing(name) for name in names], feed="parents")
    return (await ledger.apply(PARENTS, [page])).released


async def expired(ledger: Ledger) -> int:
    return await ledger.expire_held(TARGETS, ttl_s=-1)


async def test_an_orphan_is_applied_when_its_parent_comes_after_all(ledger: Ledger, database: Database) -> None:
    await children(ledger, database, thing("c", parent="p", size=3))
    assert await expired(ledger) == 1
    assert await rows(database, LETTERS) == [("c", "open", 1)]
    assert await parents(ledger, database, "p") == 1
    assert await rows(database, STORED) == [("c", 3)]
    assert await rows(database, LETTERS) == [("c", "replayed", 1)]
    assert await rows(database, HANDED) == [("c", 0)]
    assert await rows(database, HELD) == []


async def test_nobody_is_an_orphan_while_the_parents_cannot_be_read(ledger: Ledger, database: Database) -> None:
    await children(ledger, database, thing("c", parent="p"))
    await rows(database, "update sync.held set held_at = held_at - interval '1 hour' returning 1")
    await rows(
        database,
        "insert into sync.feed_state (connection, feed, caught_up_at)"
        " values ('shop', 'parents', now() - interval '50 minutes') returning 1",
    )
    quarter = 900.0
    assert await ledger.expire_held(TARGETS, ttl_s=quarter) == 0, (
        "its quarter of an hour was not over when they were read"
    )
    await rows(database, "update sync.feed_state set caught_up_at = null returning 1")
    assert await ledger.expire_held(TARGETS, ttl_s=quarter) == 0, "they were never read to the end"
    await rows(database, "update sync.feed_state set caught_up_at = now() - interval '44 minutes' returning 1")
    assert await ledger.expire_held(TARGETS, ttl_s=quarter) == 1


async def test_who_moves_to_another_parent_waits_anew(ledger: Ledger, database: Database) -> None:
    await rows(
        database,
        "insert into sync.feed_state (connection, feed, caught_up_at) values ('shop', 'parents', now()) returning 1",
    )
    aged = "update sync.held set held_at = held_at - interval '20 minutes' returning 1"
    await children(ledger, database, thing("moves", parent="p"), thing("stays", parent="p"))
    await rows(database, aged)
    await children(ledger, database, thing("moves", when=5, parent="q"), thing("stays", when=5, parent="p"))
    assert await ledger.expire_held(TARGETS, ttl_s=900) == 1
    assert await rows(database, LETTERS) == [("stays", "open", 1)]
    await rows(database, aged)
    assert await ledger.expire_held(TARGETS, ttl_s=900) == 1
    assert sorted(await rows(database, LETTERS)) == [("moves", "open", 1), ("stays", "open", 1)]


async def test_an_orphan_is_one_dead_letter_a_version(ledger: Ledger, database: Database) -> None:
    await children(ledger, database, thing("c", parent="p"))
    assert await expired(ledger) == 1
    assert await expired(ledger) == 0
    await children(ledger, database, thing("c", parent="p"))
    assert await expired(ledger) == 0, "shown again unchanged"
    quarantine = Quarantine(database, ledger)
    await quarantine.discard(QuarantineFilter(code="ORPHAN"))
    assert await expired(ledger) == 0
    await children(ledger, database, thing("c", parent="p", when=5, size=5))
    assert await expired(ledger) == 1, "the vendor changed it"
    assert await rows(database, LETTERS) == [("c", "open", 2)]


async def test_a_dead_letter_ends_when_the_orphan_itself_is_applied(ledger: Ledger, database: Database) -> None:
    await children(ledger, database, thing("c", parent="p"), thing("d", parent="p"))
    await expired(ledger)
    await parents(ledger, database, "q")
    assert await children(ledger, database, thing("c", parent="q", when=5, size=5)) == Counts(1, applied=1)
    assert sorted(await rows(database, LETTERS)) == [("c", "superseded", 1), ("d", "open", 1)]
    assert [name for name, *_ in await rows(database, HELD)] == ["d"]


async def test_a_parent_committed_beside_its_child_is_found_at_the_end(ledger: Ledger, database: Database) -> None:
    async with await psycopg.AsyncConnection.connect(database.url) as other:
        await other.execute(
            "insert into canon.thing values ('shop', 'parents', 'p', 'n', 1, '2026-01-01', '', 1, '1', now())"
        )
        assert await children(ledger, database, thing("c", parent="p", size=3)) == Counts(1, held=1)
        await other.commit()
    assert await expired(ledger) == 0
    assert await rows(database, STORED) == [("c", 3)]
    assert await rows(database, HANDED) == [("c", 0)]
    assert await rows(database, LETTERS) == []


async def test_orphans_can_be_replayed(ledger: Ledger, database: Database) -> None:
    """The parent's row came by other ways than its feed, as after a restore."""
    setup = cast(Setup, SimpleNamespace(connection=SimpleNamespace(name="shop"), targets=lambda: TARGETS))
    await children(ledger, database, thing("c", parent="p", size=3), thing("d", parent="nobody"))
    await expired(ledger)
    await rows(
        database,
        "insert into canon.thing values ('shop', 'parents', 'p', 'n', 1, '2026-01-01', '', 1, '1', now()) returning 1",
    )
    quarantine, chosen = Quarantine(database, ledger), QuarantineFilter(code="ORPHAN")
    assert (await quarantine.replay(setup, chosen, dry_run=True)).tried == 0
    done = await quarantine.replay(setup, chosen)
    assert (done.tried, done.passing, done.failing) == (2, 1, Counter(ORPHAN=1))
    assert await rows(database, STORED) == [("c", 3)]


async def test_an_older_version_does_not_push_out_the_one_that_waits(ledger: Ledger, database: Database) -> None:
    await parents(ledger, database, "p1")
    assert await children(ledger, database, thing("c", parent="p2", when=2, size=2)) == Counts(1, held=1)
    assert await children(ledger, database, thing("c", parent="p1", when=1, size=1)) == Counts(1, applied=1)
    assert await rows(database, STORED) == [("c", 1)]
    await expired(ledger)
    await children(ledger, database, thing("c", parent="p1", when=1, size=1))
    assert await rows(database, LETTERS) == [("c", "open", 1)], "the newer version is not in the table yet"
    assert await parents(ledger, database, "p2") == 1
    assert await rows(database, STORED) == [("c", 2)]
    assert await rows(database, HANDED) == [("c", 1), ("c", 2)]
    assert await rows(database, HELD) == []
    assert await rows(database, LETTERS) == [("c", "replayed", 1)]


async def test_a_version_that_waits_does_not_overwrite_a_newer_one(ledger: Ledger, database: Database) -> None:
    await children(ledger, database, thing("c", parent="p", when=1, size=1))
    await rows(
        database,
        "insert into canon.thing values ('shop', 'children', 'c', 'n', 9, '2026-01-02', '', 1, '1', now()) returning 1",
    )
    await parents(ledger, database, "p")
    assert await rows(database, STORED) == [("c", 9)]
    assert await rows(database, HELD) == []


async def test_within_one_stamp_the_version_fetched_later_waits(ledger: Ledger, database: Database) -> None:
    await children(ledger, database, thing("c", parent="p", size=2), fetched=2)
    await children(ledger, database, thing("c", parent="p", size=1), fetched=1)
    await parents(ledger, database, "p")
    assert await rows(database, STORED) == [("c", 2)]


class Paused(Ledger):
    """Stops before it commits, until it may `go_on`."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.settled, self.go_on = asyncio.Event(), asyncio.Event()

    async def _settle(self, *args: Any) -> int:
        released = await super()._settle(*args)
        self.settled.set()
        await self.go_on.wait()
        return released


@pytest.mark.parametrize(
    ("when", "counts", "size"),
    [(1, Counts(1, superseded=1), 2), (2, Counts(1, superseded=1), 2), (3, Counts(1, applied=1), 9)],
    ids=["older", "same stamp, shown before", "newer"],
)
async def test_what_a_parent_is_just_releasing_is_not_overwritten_by_an_older_version(
    ledger: Ledger, database: Database, when: int, counts: Counts, size: int
) -> None:
    # The child's transaction does not see a parent that is applied beside it: it is held until the next parent comes.
    first = Paused(database)
    applying = asyncio.create_task(parents(first, database, "p"))
    await first.settled.wait()
    assert await children(ledger, database, thing("k", when=2, size=2, parent="p")) == Counts(1, held=1)
    first.go_on.set()
    await applying
    second = Paused(database)
    applying = asyncio.create_task(parents(second, database, "q"))
    await second.settled.wait()
    other = asyncio.create_task(children(ledger, database, thing("k", when=when, size=9, parent="p"), fetched=1))
    async with asyncio.timeout(20):
        while not await rows(database, WAITS):
            assert not other.done()
    second.go_on.set()
    assert await applying == 1
    assert await other == counts
    assert await rows(database, STORED) == [("k", size)]
    assert await rows(database, HANDED) == ([("k", 2), ("k", 3)] if when == 3 else [("k", 2)])
    assert await rows(database, "select applied, superseded from sync.page where feed = 'children' order by id") == [
        (0, 0),
        (counts.applied, counts.superseded),
    ]
    assert await rows(database, HELD) == []


@pytest.mark.parametrize(("parent", "released"), [("p", [("k", 9)]), ("q", [])], ids=["newer", "moved away"])
async def test_what_a_child_has_just_replaced_is_released_as_it_is_now(
    ledger: Ledger, database: Database, parent: str, released: list[tuple[str, int]]
) -> None:
    await children(ledger, database, thing("k", size=1, parent="p"))
    child = Paused(database)
    replacing = asyncio.create_task(children(child, database, thing("k", when=2, size=9, parent=parent)))
    await child.settled.wait()
    applying = asyncio.create_task(parents(ledger, database, "p"))
    async with asyncio.timeout(20):
        while not await rows(database, WAITS):
            assert not applying.done()
    child.go_on.set()
    assert await replacing == Counts(1, held=1)
    assert await applying == len(released)
    assert await rows(database, STORED) == released
    assert [name for name, *_ in await rows(database, HELD)] == [name for name in ("k",) if not released]


async def test_children_and_the_parent_that_releases_them_lock_in_one_order(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_pipeline.ledger.apply.TIMES", 1)
    waiting = [thing(f"c{number:03}", parent="p") for number in range(400)]
    chosen = random.Random(1)
    for orders in range(8):
        await rows(database, "with held as (delete from sync.held) delete from canon.thing returning 1")
        await children(ledger, database, *waiting)
        others = waiting[::-1] if orders % 2 else chosen.sample(waiting, len(waiting))
        await asyncio.gather(children(ledger, database, *others), parents(ledger, database, "p"))


class Crossed(Ledger):
    """Locks a row, waits until the other one has locked its own, and wants that too: the database gives up one of the two."""

    def __init__(self, database: Database, rows: tuple[str, str], both: asyncio.Barrier) -> None:
        super().__init__(database)
        self.first, self.second = rows
        self.both, self.done = both, 0

    async def _begin(self, conn: AsyncConnection[Any], *args: Any, **more: Any) -> Any:
        self.done += 1
        lock = "update canon.thing set size = size where vendor_id = %s"
        await conn.execute("set local deadlock_timeout = '20ms'")
        if self.done == 1:
            await conn.execute(lock, (self.first,))
            await self.both.wait()
            async with conn.pipeline():
                await conn.execute(lock, (self.second,))
        return await super()._begin(conn, *args, **more)


async def test_a_transaction_that_a_deadlock_ended_is_done_again(ledger: Ledger, database: Database) -> None:
    await parents(ledger, database, "a", "b")
    both = asyncio.Barrier(2)
    one, other = Crossed(database, ("a", "b"), both), Crossed(database, ("b", "a"), both)
    once = asyncio.Event()

    async def before() -> None:
        assert not once.is_set(), "what it waits for is not done again"
        once.set()

    page = await landed_page(database, [thing("k", parent="a")], CHILD, "children")
    applied, number = await asyncio.gather(one.apply(CHILDREN, [page], after=before()), parents(other, database, "c"))
    assert (applied.counts, number) == ([Counts(1, applied=1)], 0)
    assert one.done + other.done == 3
    assert await rows(database, STORED) == [("k", 1)]


async def test_one_that_is_ended_each_time_is_no_lost_connection(ledger: Ledger, database: Database) -> None:
    class Ended(Ledger):
        done = 0

        async def _begin(self, conn: AsyncConnection[Any], *args: Any, **more: Any) -> Any:
            self.done += 1
            await conn.execute("do $$ begin raise exception using errcode = '40P01'; end $$")

    ended = Ended(database)
    with pytest.raises(TransactionConflict, match="gave up this transaction for another one") as caught:
        await parents(ended, database, "p")
    assert ended.done == TIMES
    assert caught.value.sqlstate == "40P01"
    assert await rows(database, "select status from sync.page") == [("landed",)]
