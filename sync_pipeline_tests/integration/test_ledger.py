from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import Fenced, InvariantViolation, StoreRefused
from sync_pipeline.kernel.feed import FeedId, RawRecord
from sync_pipeline.landing.pages import Landing
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import CheckedPage
from sync_pipeline.sessions.replay import Quarantine, QuarantineFilter
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import ThingContract, landed_page, rows, target, thing

THINGS = "select vendor_id, name, size from canon.thing order by vendor_id"


async def apply(ledger: Ledger, database: Database, *records: RawRecord, **more: object) -> Counts:
    page = await landed_page(database, records)
    return (await ledger.apply(target(**more), [page])).counts[0]  # type: ignore[arg-type]


async def test_each_outcome_is_counted(ledger: Ledger, database: Database) -> None:
    assert await apply(ledger, database, thing("a"), thing("b")) == Counts(2, applied=2)
    assert await apply(ledger, database, thing("a"), thing("b", when=5, size=2)) == Counts(2, applied=1, unchanged=1)
    assert await apply(ledger, database, thing("b", when=1, size=9), thing("c", size="x")) == Counts(
        2, superseded=1, quarantined=1
    )
    assert await rows(database, THINGS) == [("a", "n", 1), ("b", "n", 2)]
    assert await rows(database, "select count(*) from sync.page where status = 'landed'") == [(0,)]


async def test_a_record_twice_in_one_page_keeps_the_newest(ledger: Ledger, database: Database) -> None:
    counts = await apply(
        ledger, database, thing("a", when=2, size=2), thing("a", when=1, size=1), thing("a", when=2, size=2)
    )
    assert counts == Counts(3, applied=1, unchanged=1, superseded=1)
    assert await rows(database, THINGS) == [("a", "n", 2)]


async def test_the_later_page_wins_within_one_instant(ledger: Ledger, database: Database) -> None:
    first = await landed_page(database, [thing("a", size=1)])
    second = await landed_page(database, [thing("a", size=2)])
    await ledger.apply(target(), [second])
    assert (await ledger.apply(target(), [first])).counts[0] == Counts(1, superseded=1)
    assert await rows(database, THINGS) == [("a", "n", 2)]


async def test_an_unchanged_row_is_not_rewritten(ledger: Ledger, database: Database) -> None:
    await apply(ledger, database, *(thing(str(number)) for number in range(50)))
    before = await rows(database, "select xmin::text, ctid::text from canon.thing order by vendor_id")
    counts = await apply(ledger, database, *(thing(str(number)) for number in range(50)))
    assert counts == Counts(50, unchanged=50)
    assert await rows(database, "select xmin::text, ctid::text from canon.thing order by vendor_id") == before


async def test_a_page_is_applied_once(ledger: Ledger, database: Database) -> None:
    page = await landed_page(database, [thing("a")])
    await ledger.apply(target(), [page])
    again = await ledger.apply(target(), [page])
    assert (again.skipped, list(again.counts)) == (1, [])


async def test_a_lost_record_aborts_the_page(ledger: Ledger, database: Database) -> None:
    class Forgetful(CheckedPage):
        @property
        def received(self) -> int:
            return len(self.valid) + len(self.rejected) + 1

    page = await landed_page(database, [thing("a")])
    with pytest.raises(InvariantViolation, match="stays landed"):
        await ledger.apply(target(), [Forgetful(page.page_id, page.valid, page.rejected)])
    assert await rows(database, THINGS) == []
    assert await rows(database, "select status from sync.page") == [("landed",)]


async def test_the_database_itself_refuses_unconserved_counts(ledger: Ledger, database: Database) -> None:
    await apply(ledger, database, thing("a"))
    with pytest.raises(StoreRefused, match="CheckViolation"):
        await rows(database, "update sync.page set received = received + 1 returning 1")


async def test_a_stale_fence_writes_nothing(ledger: Ledger, database: Database) -> None:
    feed = FeedId("shop", "things")
    landing = Landing(database)
    old = await landing.acquire(feed, owner="one", ttl_s=-1)
    new = await landing.acquire(feed, owner="two", ttl_s=60)
    assert old is not None
    assert new is not None
    page = await landed_page(database, [thing("a"), thing("b", size="bad")])
    with pytest.raises(Fenced):
        await ledger.apply(target(), [page], fence=(feed, old[0].fence))
    assert await rows(database, THINGS) == []
    assert await rows(database, "select count(*) from sync.quarantine") == [(0,)]
    await ledger.apply(target(), [page], fence=(feed, new[0].fence))
    assert await rows(database, THINGS) == [("a", "n", 1)]


async def test_a_bad_record_is_one_quarantine_row_however_often_seen(ledger: Ledger, database: Database) -> None:
    for _ in range(3):
        assert await apply(ledger, database, thing("a", size="bad")) == Counts(1, quarantined=1)
    assert await rows(database, "select codes, status, times_seen from sync.quarantine") == [(["BAD_SIZE"], "open", 3)]
    assert await apply(ledger, database, thing("a", size=4, when=9)) == Counts(1, applied=1)
    assert await rows(database, "select status from sync.quarantine") == [("superseded",)]


async def test_a_discarded_record_stays_discarded_until_it_changes(ledger: Ledger, database: Database) -> None:
    quarantine = Quarantine(database, ledger)
    await apply(ledger, database, thing("a", size="bad"))
    assert await quarantine.discard(QuarantineFilter(code="BAD_SIZE"), dry_run=True) == 1
    assert await quarantine.discard(QuarantineFilter(code="BAD_SIZE")) == 1
    await apply(ledger, database, thing("a", size="bad"))
    assert await quarantine.find(QuarantineFilter()) == []
    await apply(ledger, database, thing("a", size="worse"))
    assert [row.codes for row in await quarantine.find(QuarantineFilter())] == [("BAD_SIZE",)]


async def test_a_child_waits_for_its_parent(ledger: Ledger, database: Database) -> None:
    child = ThingContract(parent_feed="parents")
    page = await landed_page(database, [thing("c", parent="p", size=3)], child, "children")
    held = await ledger.apply(target(child, "children", handoff=True), [page])
    assert held.counts[0] == Counts(1, held=1)
    assert await rows(database, THINGS) == []
    parent = await landed_page(database, [thing("p")], feed="parents")
    done = await ledger.apply(target(feed="parents", handoff_feeds=("children",)), [parent])
    assert done.released == 1
    assert await rows(database, THINGS) == [("c", "n", 3), ("p", "n", 1)]
    assert await rows(database, "select feed, vendor_id from sync.outbox") == [("children", "c")]
    assert await rows(database, "select count(*) from sync.held") == [(0,)]


async def test_a_child_whose_parent_never_comes_is_a_dead_letter(ledger: Ledger, database: Database) -> None:
    child = ThingContract(parent_feed="parents")
    page = await landed_page(database, [thing("c", parent="p")], child, "children")
    await ledger.apply(target(child, "children"), [page])
    assert await ledger.expire_held([target()], ttl_s=3600) == 0
    assert await ledger.expire_held([target()], ttl_s=-1) == 1
    assert await rows(database, "select kind, codes, vendor_id from sync.quarantine") == [
        ("dead_letter", ["ORPHAN"], "c")
    ]


async def test_applied_changes_go_to_the_outbox_in_order(ledger: Ledger, database: Database) -> None:
    await apply(ledger, database, thing("a"), thing("b"), handoff=True)
    await apply(ledger, database, thing("a"), thing("b", when=3, size=2), handoff=True)
    assert [row[0] for row in await rows(database, "select vendor_id from sync.outbox order by id")] == ["a", "b", "b"]


versions = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.sampled_from([1, 2, 3, -1, "bad"])), max_size=6
)


def _goes_back(pages: list[list[tuple[str, int, object]]]) -> bool:
    """Whether under one stamp a record is shown with what it had before something else. That it was seen again unchanged leaves
    no trace, since no row is rewritten for it: pages of such a record, applied in another order, may end with the other."""
    shown: dict[tuple[str, int], list[object]] = {}
    for name, when, size in (version for page in pages for version in page):
        before = shown.setdefault((name, when), [])
        if size in before and before[-1] != size:
            return True
        before.append(size)
    return False


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=st.lists(versions, min_size=1, max_size=5), order=st.randoms(use_true_random=False), group=st.booleans())
async def test_any_order_of_pages_converges_to_the_newest_versions(
    ledger: Ledger,
    database: Database,
    pages: list[list[tuple[str, int, object]]],
    order: object,
    group: bool,
) -> None:
    await rows(database, "delete from canon.thing returning 1")
    checked = [
        await landed_page(database, [thing(name, when=when, size=size) for name, when, size in page]) for page in pages
    ]
    assume(group or not _goes_back(pages))
    expected: dict[str, tuple[int, int, int, object]] = {}
    shuffled = list(checked)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    # The pages of a group are given in the order in which they were fetched; others say themselves when that was.
    fetched = shuffled if group else checked
    for page, content in zip(checked, pages, strict=True):
        for seq, (name, when, size) in enumerate(content):
            if isinstance(size, int) and size >= 0:
                expected[name] = max(expected.get(name, (-1, -1, -1, 0)), (when, fetched.index(page), seq, size))
    for part in [shuffled] if group else [[page] for page in shuffled]:
        applied = await ledger.apply(target(), part)
        for page, counts in zip(part, applied.counts, strict=True):
            assert counts.conserved
            assert counts.received == len(page.valid) + len(page.rejected)
    found = {name: size for name, _, size in await rows(database, THINGS)}
    assert found == {name: best[3] for name, best in expected.items()}
