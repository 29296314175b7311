"""Each kind of work asks in its lane: polls before reconciles, and both before history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.reconcile.window import reconcile_days
from sync_pipeline.vendors.pretix_access import ORDERS
from sync_pipeline_tests.integration.pretix_setting import AheadClock, Pretix
from sync_pipeline_tests.integration.simulator_setting import Setting, setting


@pytest.fixture
def world() -> Iterator[Setting]:
    with setting(max_commit_lag_s=0, pretix_per_minute=None, pretix_orders=60, eventbrite_orders=0) as running:
        yield running


async def lanes(pretix: Pretix) -> set[str]:
    """In which orders were listed since this was asked last. What a session asks before its polls is no listing."""
    found = await pretix.rows("delete from sync.audit returning lane, endpoint")
    return {lane for lane, endpoint in found if endpoint == ORDERS}


async def test_history_is_read_with_what_polls_and_reconciles_leave(pretix: Pretix) -> None:
    await pretix.synced()
    assert await lanes(pretix) == {"P4"}, "all of it is history"
    await pretix.synced()
    assert await lanes(pretix) == {"P2"}, "what is new"
    for back, lane in ((timedelta(hours=23), "P2"), (timedelta(hours=25), "P4")):
        await pretix.runtime.landing.reset(FeedId("pretix", "orders"), since=datetime.now(UTC) - back)
        await pretix.synced()
        assert await lanes(pretix) == {lane}, f"what changed in {back}"


async def test_a_reconcile_lists_in_its_own_lane(pretix: Pretix) -> None:
    await pretix.synced()
    await lanes(pretix)
    setup, today = pretix.setup(), AheadClock().now().date()
    async with pretix.runtime.gateway(setup) as gateway:
        await reconcile_days(
            pretix.runtime, setup, "orders", gateway, start=today, end=today + timedelta(days=1), session="reconcile"
        )
    assert await lanes(pretix) == {"P3"}
