"""What a vendor showed last decides whether a record is in quarantine, in whatever order the pages come to the ledger."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.feed import Lane, Reply, Request
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.reconcile.window import reconcile_days
from sync_pipeline.runtime import Runtime, build_setup, open_runtime
from sync_pipeline.sessions.reading import derive_again
from sync_pipeline.sessions.replay import Quarantine, QuarantineFilter
from sync_pipeline.sessions.session import SessionOptions
from sync_pipeline.sessions.verify import verify_store
from sync_pipeline.store.database import Database
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.things import ThingContract, landed_page, rows, target, thing

THINGS = "select vendor_id, size from canon.thing order by vendor_id"
QUARANTINE = "select vendor_id, status, page_id, resolved_at is null from sync.quarantine order by vendor_id"


async def test_a_repair_with_an_older_page_cures_nothing(ledger: Ledger, database: Database) -> None:
    bad = await landed_page(database, [thing("x", size="bad")], fetched=2)
    listed_before = await landed_page(database, [thing("x")], fetched=1)
    shown_again = await landed_page(database, [thing("x", size=3)], fetched=3)
    await ledger.apply(target(), [bad])
    await ledger.apply(target(), [listed_before])
    assert await rows(database, QUARANTINE) == [("x", "open", bad.page_id, True)]
    [row] = await Quarantine(database, ledger).find(QuarantineFilter())
    assert row.page_id < listed_before.page_id
    await ledger.apply(target(), [shown_again])
    assert await rows(database, QUARANTINE) == [("x", "superseded", bad.page_id, False)]


@pytest.mark.parametrize("seen_bad_before", [False, True])
@pytest.mark.parametrize("held", [False, True])
async def test_a_repair_with_an_older_page_reopens_nothing(
    ledger: Ledger, database: Database, seen_bad_before: bool, held: bool
) -> None:
    contract = ThingContract(parent_feed="parents")
    if seen_bad_before:
        await ledger.apply(target(contract), [await landed_page(database, [thing("x", size="bad")], fetched=0)])
    parent = {"parent": "p"} if held else {}
    good = await landed_page(database, [thing("x", size=2, **parent)], contract, fetched=2)
    listed_before = await landed_page(database, [thing("x", size="bad")], contract, fetched=1)
    await ledger.apply(target(contract), [good])
    assert (await ledger.apply(target(contract), [listed_before])).counts == [Counts(1, quarantined=1)]
    assert await rows(database, QUARANTINE) == [("x", "superseded", listed_before.page_id, False)]
    shown_after = await landed_page(database, [thing("x", size="worse")], contract, fetched=3)
    await ledger.apply(target(contract), [shown_after])
    assert await rows(database, QUARANTINE) == [("x", "open", shown_after.page_id, True)]


async def test_an_older_rejection_leaves_a_newer_one_as_it_is(ledger: Ledger, database: Database) -> None:
    newer = await landed_page(database, [thing("x", size="worse")], fetched=2)
    older = await landed_page(database, [thing("x", size="bad")], fetched=1)
    quarantine = Quarantine(database, ledger)
    await ledger.apply(target(), [newer])
    await ledger.apply(target(), [older])
    [row] = await quarantine.find(QuarantineFilter())
    assert row.page_id == newer.page_id
    assert b"worse" in (await quarantine.raw(row.key) or b"")
    await quarantine.discard(QuarantineFilter(keys=(row.key,)))
    await ledger.apply(target(), [older], count=False)
    assert await quarantine.find(QuarantineFilter()) == []


async def test_within_one_stamp_the_page_fetched_later_wins(ledger: Ledger, database: Database) -> None:
    live = await landed_page(database, [thing("x", size=2)], fetched=2)
    listed_before = await landed_page(database, [thing("x", size=1)], fetched=1)
    await ledger.apply(target(), [live])
    assert (await ledger.apply(target(), [listed_before])).counts == [Counts(1, superseded=1)]
    assert await rows(database, THINGS) == [("x", 2)]


@pytest.mark.parametrize("likely_new", [False, True])
async def test_a_record_mended_within_a_group_is_not_left_in_quarantine(
    ledger: Ledger, database: Database, likely_new: bool
) -> None:
    bad = await landed_page(database, [thing("x", size="bad"), thing("y", size="bad"), thing("z")])
    good = await landed_page(database, [thing("x", when=5), thing("y", when=5)])
    again = await landed_page(database, [thing("y", size="worse")])
    done = await ledger.apply(target(), [bad, good, again], likely_new=likely_new)
    assert done.counts == [Counts(3, applied=1, quarantined=2), Counts(2, applied=2), Counts(1, quarantined=1)]
    state = [("x", "superseded", bad.page_id, False), ("y", "open", again.page_id, True)]
    assert await rows(database, QUARANTINE) == state
    await ledger.apply(target(), [bad, good, again], count=False)
    assert await rows(database, QUARANTINE) == state


@pytest.mark.parametrize("likely_new", [False, True])
async def test_within_a_page_the_later_place_decides(ledger: Ledger, database: Database, likely_new: bool) -> None:
    records = [thing("x", size="bad"), thing("y"), thing("x"), thing("y", size="bad")]
    page = await landed_page(database, records)
    await ledger.apply(target(), [page], likely_new=likely_new)
    assert await rows(database, QUARANTINE) == [
        ("x", "superseded", page.page_id, False),
        ("y", "open", page.page_id, True),
    ]


shown = st.lists(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.sampled_from([1, 2, "bad"])), max_size=4),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=shown, first=st.integers(1, 4), again=st.integers(1, 4), likely_new=st.booleans())
async def test_the_last_showing_decides_however_pages_are_grouped(
    ledger: Ledger,
    database: Database,
    pages: list[list[tuple[str, int, object]]],
    first: int,
    again: int,
    likely_new: bool,
) -> None:
    for table in ("canon.thing", "sync.quarantine"):
        await rows(database, f"delete from {table} returning 1")
    checked = [await landed_page(database, [thing(name, when=at, size=size) for name, at, size in p]) for p in pages]
    showings = [(name, size) for page in pages for name, _, size in page]
    ever = {name for name, size in showings if size == "bad"}
    expected = [(name, "open" if dict(showings)[name] == "bad" else "superseded") for name in sorted(ever)]
    for size, count in ((first, True), (again, False)):
        for start in range(0, len(checked), size):
            await ledger.apply(target(), checked[start : start + size], count=count, likely_new=likely_new)
        assert await rows(database, "select vendor_id, status from sync.quarantine order by 1") == expected


class Vendor:
    """A plain list of registrations. `after_first`: done once, after the first answer, before anyone reads it."""

    def __init__(self, rows: dict[str, dict[str, str]]) -> None:
        self.rows = rows
        self.after_first: Callable[[], Any] | None = None

    def left(self) -> None:
        return None

    def bears(self) -> None:
        return None

    async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply:
        now, since = datetime.now(UTC), dict(request.params).get("since", "")
        listed = [row for row in self.rows.values() if row["at"] >= str(since)]
        reply = Reply(200, {"date": format_datetime(now)}, orjson.dumps({"data": listed}), now, now)
        happens, self.after_first = self.after_first, None
        if happens is not None:
            await happens()
        return reply


SETUP = build_setup(
    ConnectionConfig.parse(
        {
            "name": "box",
            "vendor": "rest",
            "base_url": "http://127.0.0.1:1",
            "auth": {"kind": "none"},
            "limits": [{"name": "m", "limit": 10_000, "seconds": 60}],
            "feeds": [
                {
                    "name": "regs",
                    "contract": "sync_pipeline.contracts.mapped:MappedContract",
                    "contract_options": {
                        "fields": {"vendor_id": "id", "event_id": "event", "created_at": "at", "modified_at": "at"},
                        "status": "s",
                        "statuses": {"paid": "COMPLETED"},
                    },
                    "rest": {
                        "path": "/r",
                        "records": "data",
                        "modified": {"field": "at", "param": "since"},
                        "paging": {"kind": "none"},
                    },
                }
            ],
        },
        where="test",
    ),
    env={},
)


@pytest.fixture
async def runtime(database_url: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(url=database_url, objects=tmp_path / "objects", rng=random.Random(1)) as opened:
        yield opened


@pytest.mark.parametrize(("listed", "polled", "still_open"), [("paid", "??", 1), ("??", "paid", 0)])
async def test_a_poll_while_a_window_is_compared_has_the_last_word(
    runtime: Runtime, listed: str, polled: str, still_open: int
) -> None:
    """The window's pages are landed for a repair after the poll's, which were fetched later."""
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    vendor = Vendor({name: _row(name, f"{day}T00:00:00Z", "paid") for name in "xy"})

    async def poll() -> None:
        vendor.rows["x"] = _row("x", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), polled)
        await synced(runtime, vendor)

    await synced(runtime, vendor)
    await rows(
        runtime.database, "update registrations.registration set locale = 'zz' where vendor_id = 'y' returning 1"
    )
    vendor.rows["x"] = _row("x", f"{day}T00:00:01Z", listed)
    vendor.after_first = poll
    report = await reconcile_days(
        runtime, SETUP, "regs", vendor, start=day, end=day + timedelta(days=1), session="reconcile"
    )
    assert report.by_cause["altered_in_store", "repaired"] == 1
    assert report.by_cause["newer_in_quarantine", "review"] == still_open
    status = await rows(runtime.database, "select status from sync.quarantine where vendor_id = 'x'")
    assert status == [("open" if still_open else "superseded",)]
    findings = {one.name: one.number for one in await verify_store(runtime.database, runtime.objects)}
    assert findings["newer_in_quarantine"] == still_open
    before = await rows(runtime.database, QUARANTINE)
    await derive_again(SETUP, runtime.landing, runtime.ledger, runtime.objects, "regs")
    assert await rows(runtime.database, QUARANTINE) == before


async def synced(runtime: Runtime, vendor: Vendor) -> None:
    options = SessionOptions(max_seconds=5, until_horizon=True)
    await runtime.session(SETUP, cast(Gateway, vendor), options).run()


def _row(name: str, stamp: str, status: str) -> dict[str, str]:
    return {"id": name, "event": "e", "at": stamp, "s": status}
