"""Records of which the store knows nothing go straight into their table: what comes of them is the same as by the stage."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.feed import RawRecord
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.copying import copy_new
from sync_pipeline.ledger.statements import Statements
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import ThingContract, landed_page, rows, target, thing

WAYS = {"new": True, "staged": False}

records = st.tuples(
    st.sampled_from(["a", "b", "c", "d\\n", "é\t"]),
    st.integers(0, 3),
    st.sampled_from([1, 2, "bad"]),
    st.sampled_from([None, None, "p", "nobody"]),
)
histories = st.lists(st.lists(st.lists(records, max_size=4), min_size=1, max_size=3), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories)
async def test_both_ways_come_to_the_same(
    ledger: Ledger, database: Database, history: list[list[list[tuple[str, int, object, str | None]]]]
) -> None:
    for table in ("canon.thing", "sync.quarantine", "sync.outbox", "sync.held", "sync.page"):
        await rows(database, f"delete from {table} returning 1")
    await ledger.apply(target(feed="parents"), [await landed_page(database, [thing("p")], feed="parents")])
    contract = ThingContract(parent_feed="parents")
    outcomes: dict[str, list[Any]] = {way: [] for way in WAYS}
    for group in history:
        for way, likely_new in WAYS.items():
            pages = [await landed_page(database, [_thing(*one) for one in page], contract, way) for page in group]
            done = await ledger.apply(target(contract, way, handoff=True), pages, likely_new=likely_new)
            outcomes[way].append((done.counts, done.released, done.skipped))
            assert all(one.conserved for one in done.counts)
    assert outcomes["new"] == outcomes["staged"]
    assert await _kept(database, "new") == await _kept(database, "staged")


def _thing(name: str, when: int, size: object, parent: str | None) -> RawRecord:
    return thing(name, when=when, size=size, **({} if parent is None else {"parent": parent}))


async def _kept(database: Database, feed: str) -> list[list[tuple[Any, ...]]]:
    return [
        await rows(database, query, feed)
        for query in (
            "select vendor_id, name, size, modified_at, content_hash, contract_version, applied_at is null"
            " from canon.thing where feed = %s order by vendor_id",
            "select vendor_id, status, codes, times_seen from sync.quarantine where feed = %s order by vendor_id",
            "select vendor_id, modified_at, content_hash, table_name, count(*) from sync.outbox where feed = %s"
            " group by 1, 2, 3, 4 order by 1, 2, 3",
            "select vendor_id, parent_id, modified_at from sync.held where feed = %s order by vendor_id",
            "select status, received, applied, unchanged, superseded, held, quarantined from sync.page where feed = %s"
            " order by id",
        )
    ]


async def copied(database: Database, contract: ThingContract, *names: str, **more: Any) -> bool:
    page = await landed_page(database, [thing(name, **more) for name in names], contract)
    goal = target(contract)
    async with database.transaction() as conn:
        return await copy_new(conn, goal, Statements.of(goal), [page.shown])


async def test_only_what_is_unknown_in_every_way_goes_straight(ledger: Ledger, database: Database) -> None:
    contract = ThingContract(parent_feed="parents")
    assert await copied(database, contract, "a", "b")
    assert not await copied(database, contract, "c", "b"), "b has a row"
    await ledger.apply(target(contract), [await landed_page(database, [thing("bad", size="x")], contract)])
    assert not await copied(database, contract, "bad"), "its quarantine row would stay open"
    child = await landed_page(database, [thing("child", parent="p")], contract)
    assert (await ledger.apply(target(contract), [child], likely_new=True)).counts[0] == Counts(1, held=1)
    await ledger.apply(target(contract), [await landed_page(database, [thing("kept", parent="p")], contract)])
    assert not await copied(database, contract, "kept"), "it is held"
    assert [name for (name,) in await rows(database, "select vendor_id from canon.thing order by 1")] == ["a", "b"]


async def test_a_row_that_comes_between_the_look_and_the_copy_is_judged_by_its_version(
    ledger: Ledger, database: Database
) -> None:
    page = await landed_page(database, [thing("a", size=1), thing("b")])
    waits = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'transactionid'"
    async with await psycopg.AsyncConnection.connect(database.url) as other:
        await other.execute(
            "insert into canon.thing values ('shop', 'things', 'a', 'n', 9, '2027-01-01', '', 99, '1', now())"
        )
        applying = asyncio.create_task(ledger.apply(target(), [page], likely_new=True))
        async with asyncio.timeout(20):
            while not await rows(database, waits):
                assert not applying.done()
        await other.commit()
    assert (await applying).counts[0] == Counts(2, applied=1, superseded=1)
    assert await rows(database, "select vendor_id, size from canon.thing order by 1") == [("a", 9), ("b", 1)]
