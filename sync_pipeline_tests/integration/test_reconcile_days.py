"""What a reconcile asks a vendor for, and what it makes of a record that the lists no longer show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from sync_pipeline.kernel.feed import Reply, Request
from sync_pipeline.reconcile import absent
from sync_pipeline.reconcile.unstamped import CYCLE
from sync_pipeline.reconcile.window import WindowReport, reconcile_days
from sync_pipeline.sessions.verify import verify_store
from sync_pipeline.telemetry.verdicts import parity
from sync_pipeline.vendors.pretix import PAGE_SIZE
from sync_pipeline_tests.integration.pretix_setting import AheadClock, Between, Pretix, Watched
from sync_pipeline_tests.integration.simulator_setting import Setting, setting

MISSING = {("missing_at_vendor", "review"): 1}


@pytest.fixture
def world() -> Iterator[Setting]:
    with setting(max_commit_lag_s=0, pretix_per_minute=None, pretix_orders=240, eventbrite_orders=0) as running:
        yield running


async def reconciled(
    pretix: Pretix, feed: str, start: date, *, ahead: int = 0, between: Between | None = None, **settings: Any
) -> WindowReport:
    async def nothing(request: Request, reply: Reply) -> None: ...

    runtime, setup = replace(pretix.runtime, clock=AheadClock(days=ahead)), pretix.setup(**settings)
    async with runtime.gateway(setup) as gateway:
        return await reconcile_days(
            runtime,
            setup,
            feed,
            Watched(gateway, between or nothing),
            start=start,
            end=start + timedelta(days=1),
            session="reconcile",
        )


def by_day(world: Setting) -> dict[date, list[str]]:
    """Orders by the day they were last modified, oldest day first."""
    found: dict[date, list[str]] = {}
    for key, row in sorted(world.rows("pretix/orders").items(), key=lambda item: str(item[1]["modified_at"])):
        if not row["deleted"]:
            found.setdefault(datetime.fromisoformat(row["modified_at"]).date(), []).append(key)
    return found


async def test_an_old_day_is_listed_and_not_all_days_since(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    day, orders = next(iter(by_day(world).items()))
    asked: list[Request] = []

    async def watch(request: Request, reply: Reply) -> None:
        asked.append(request)

    report = await reconciled(pretix, "orders", day, between=watch)
    assert report.deltas == []
    assert report.listed >= len(orders)
    assert len(asked) <= len(orders) // PAGE_SIZE + 1


@pytest.mark.parametrize("feed", ["orders", "positions"])
async def test_what_moved_on_since_its_day_is_not_missing(world: Setting, pretix: Pretix, feed: str) -> None:
    """The store has not polled yet: its versions say the old day, where the vendor shows them no more."""
    await pretix.synced()
    day, orders = next(iter(by_day(world).items()))
    for key in orders:
        world.post("/mutate", {"vendor": "pretix", "id": key, "set": {"comment": "moved on"}})
    assert (await reconciled(pretix, feed, day)).deltas == []


async def test_tickets_that_moved_to_another_order_are_not_missing(world: Setting, pretix: Pretix) -> None:
    """Their order is shown without them, so the list is walked on."""
    await pretix.synced()
    days = by_day(world)
    split = world.post("/mutate", {"vendor": "pretix", "changes": 4, "actions": ["split"]})["changes"]
    keys = {change["id"] for change in split}
    for day in [day for day, orders in days.items() if keys & set(orders)]:
        assert (await reconciled(pretix, "positions", day)).deltas == []
    assert split


@pytest.mark.parametrize("feed", ["orders", "positions"])
async def test_a_deleted_record_is_found_in_its_own_day(world: Setting, pretix: Pretix, feed: str) -> None:
    await pretix.synced()
    day, orders = next(iter(by_day(world).items()))
    tickets = len(world.rows("pretix/orders")[orders[0]]["tickets"])
    world.post("/mutate", {"vendor": "pretix", "delete": True, "id": orders[0]})
    report = await reconciled(pretix, feed, day)
    assert report.by_cause == {("missing_at_vendor", "review"): 1 if feed == "orders" else tickets}


async def test_many_deleted_records_are_looked_for_in_the_list(
    world: Setting, pretix: Pretix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for each by itself would cost more than walking on."""
    monkeypatch.setattr(absent, "ASKED_AT_ONCE", 1)
    await pretix.synced()
    day, orders = max(by_day(world).items(), key=lambda item: len(item[1]))
    for key in orders[:3]:
        world.post("/mutate", {"vendor": "pretix", "delete": True, "id": key})
    world.post("/mutate", {"vendor": "pretix", "id": orders[3], "set": {"comment": "moved on"}})
    asked: list[str] = []

    async def watch(request: Request, reply: Reply) -> None:
        asked.append(request.path)

    report = await reconciled(pretix, "orders", day, between=watch)
    assert sorted(one.vendor_id for one, _, _ in report.deltas) == sorted(orders[:3])
    assert set(asked) == {"/organizers/simorg/orders/"}


async def test_what_the_settings_leave_out_is_not_missing(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    for day in list(by_day(world))[:3]:
        assert (await reconciled(pretix, "orders", day, events=["readers"])).deltas == []


@pytest.mark.parametrize("alone", [False, True], ids=["one of its day", "the last of its day"])
async def test_a_deleted_record_is_found_within_a_cycle_whatever_its_day(
    world: Setting, pretix: Pretix, alone: bool
) -> None:
    """Each run lists a day in which nothing was modified: what it finds, it finds in the days whose turn it is."""
    day, [gone, *others] = next((day, orders) for day, orders in by_day(world).items() if len(orders) > 1)
    for key in others if alone else ():
        world.post("/mutate", {"vendor": "pretix", "delete": True, "id": key})
    await pretix.synced()
    world.post("/mutate", {"vendor": "pretix", "delete": True, "id": gone})
    now = AheadClock().now().date()
    causes: Counter[tuple[str, str]] = Counter()
    for ahead in range(CYCLE):
        causes += (await reconciled(pretix, "orders", now + timedelta(days=ahead + 1), ahead=ahead)).by_cause
    assert causes == MISSING
    kept = "select vendor_id, partition_day, verified from sync.delta"
    assert await pretix.rows(kept) == [(gone, day, False)]
    # An operator has looked and removed the row: settled when the turn of its day comes again.
    await pretix.rows("delete from registrations.registration where vendor_id = %s returning 1", gone)
    for ahead in range(CYCLE, 2 * CYCLE):
        await reconciled(pretix, "orders", now + timedelta(days=ahead + 1), ahead=ahead)
    assert await pretix.rows(kept) == [(gone, day, True)]


async def older_rows(pretix: Pretix) -> int:
    findings = await verify_store(pretix.runtime.database, pretix.runtime.objects)
    return {finding.name: finding.number for finding in findings}["newer_in_quarantine"]


async def test_a_row_whose_newer_version_is_invalid_is_kept_and_reported(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    day, [key, *_] = next(iter(by_day(world).items()))
    stored = "select email from registrations.registration where feed = 'orders' and vendor_id = %s"
    [(before,)] = await pretix.rows(stored, key)
    world.post("/mutate", {"vendor": "pretix", "id": key, "set": {"email": "no address@@example"}})
    await pretix.synced()
    assert await pretix.rows(stored, key) == [(before,)]
    assert await older_rows(pretix) >= 1
    now = AheadClock().now().date()
    expected = {("newer_in_quarantine", "review"): 1}
    for start in (now, now + timedelta(days=1), day):
        report = await reconciled(pretix, "orders", start)
        assert report.by_cause == expected, f"found on {start}"
        assert not parity(report.open, str(start)).passed
    last_day_but_one = await reconciled(pretix, "orders", day + timedelta(days=1))
    assert last_day_but_one.deltas == []
    kept = "select vendor_id, cause, partition_day, verified from sync.delta where feed = 'orders'"
    assert await pretix.rows(kept) == [(key, "newer_in_quarantine", day, False)]
    world.post("/mutate", {"vendor": "pretix", "id": key, "set": {"email": before}})
    await pretix.synced()
    assert (await reconciled(pretix, "orders", now)).deltas == []
    assert await pretix.rows(kept) == [(key, "newer_in_quarantine", day, True)]
    assert await older_rows(pretix) == 0
