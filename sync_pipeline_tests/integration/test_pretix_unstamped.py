"""Changes that pretix makes without a new `last_modified`: no poll can see them, the reconcile must."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from sync_pipeline.reconcile.unstamped import CYCLE
from sync_pipeline.reconcile.window import WindowReport, reconcile_days
from sync_pipeline_tests.integration.pretix_setting import AheadClock, Pretix
from sync_pipeline_tests.integration.simulator_setting import Setting, setting


@pytest.fixture
def world() -> Iterator[Setting]:
    with setting(max_commit_lag_s=0, pretix_per_minute=None, pretix_orders=130, eventbrite_orders=0) as running:
        yield running


async def tomorrow(pretix: Pretix, feed: str, *, days_ahead: int = 0) -> WindowReport:
    """Reconcile a window in which nothing was modified: what it finds, it finds without a stamp."""
    runtime = replace(pretix.runtime, clock=AheadClock(days=days_ahead))
    start = runtime.clock.now().date() + timedelta(days=1)
    setup = pretix.setup()
    async with runtime.gateway(setup) as gateway:
        return await reconcile_days(
            runtime, setup, feed, gateway, start=start, end=start + timedelta(days=1), session="reconcile"
        )


async def test_an_open_refund_is_asked_for_by_its_order(world: Setting, pretix: Pretix) -> None:
    world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["cancel_refund_open"]})
    world.advance(600)
    await pretix.synced()
    changed = world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["refund_done"]})["changes"]
    assert changed
    world.advance(600)
    await pretix.synced()
    assert set(await pretix.mismatches()) == {"orders", "positions"}, "no poll shows it"
    for feed in ("orders", "positions"):
        report = await tomorrow(pretix, feed)
        assert {(cause, action) for cause, action in report.by_cause} == {("changed_unstamped", "repaired")}
        assert report.open == 0
    assert await pretix.mismatches() == {}
    assert (await tomorrow(pretix, "orders")).deltas == []


BOTH_WAYS = pytest.mark.parametrize("feeds", [("orders", "positions"), ("positions", "orders")])


@BOTH_WAYS
async def test_what_one_run_repairs_the_runs_of_the_other_feeds_still_see(
    world: Setting, pretix: Pretix, feeds: tuple[str, str]
) -> None:
    """Three days on it is not the turn of the day of these orders: only their refunds lead to them."""
    world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["cancel_refund_open"]})
    await pretix.synced()
    changed = world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["refund_done"]})["changes"]
    assert changed
    for feed in feeds:
        report = await tomorrow(pretix, feed, days_ahead=3)
        assert {(cause, action) for cause, action in report.by_cause} == {("changed_unstamped", "repaired")}
        assert len(report.deltas) >= len(changed)
    assert await pretix.mismatches() == {}
    assert [(await tomorrow(pretix, feed, days_ahead=3)).deltas for feed in feeds] == [[], []]


@BOTH_WAYS
async def test_an_order_cancelled_first_and_refunded_later_is_asked_for(
    world: Setting, pretix: Pretix, feeds: tuple[str, str]
) -> None:
    """There was no refund under way to see: only that the cancelled order still holds its money."""
    cancelled = world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["cancel_paid"]})["changes"]
    await pretix.synced()
    assert [(await tomorrow(pretix, feed, days_ahead=3)).deltas for feed in feeds] == [[], []]
    late = world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["refund_late"]})["changes"]
    assert late
    assert {change["id"] for change in late} <= {change["id"] for change in cancelled}
    for feed in feeds:
        report = await tomorrow(pretix, feed, days_ahead=3)
        assert {(cause, action) for cause, action in report.by_cause} == {("changed_unstamped", "repaired")}
    assert await pretix.mismatches() == {}


async def test_everything_is_listed_again_once_a_cycle(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    rows = world.rows("pretix/orders")
    chosen = [key for key, row in rows.items() if row["payment_status"] == "COMPLETED"][::9]
    for key in chosen:
        world.post("/mutate", {"vendor": "pretix", "id": key, "set": {"status": "e"}, "stamped": False})
    assert world.rows("pretix/orders")[chosen[0]]["modified_at"] == rows[chosen[0]]["modified_at"]
    assert (await pretix.mismatches())["orders"] == {"payment_status": len(chosen)}
    causes: Counter[tuple[str, str]] = Counter()
    asked = world.stats("pretix")["requests"]
    for day in range(CYCLE):
        causes += (await tomorrow(pretix, "orders", days_ahead=day)).by_cause
    assert causes == {("changed_unstamped", "repaired"): len(chosen)}
    assert "orders" not in await pretix.mismatches()
    assert world.stats("pretix")["requests"] - asked < 200


async def test_who_wrote_to_the_table_is_told_apart(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    [(key,)] = await pretix.rows(
        "update registrations.registration set amount = amount + 1 where feed = 'orders' and vendor_id ="
        " (select min(vendor_id) from registrations.registration where feed = 'orders') returning vendor_id"
    )
    causes: Counter[tuple[str, str]] = Counter()
    for day in range(CYCLE):
        causes += (await tomorrow(pretix, "orders", days_ahead=day)).by_cause
    assert key
    assert causes == {("altered_in_store", "repaired"): 1}
