"""What a pretix token may read, and what the settings ask for, against the watermark: nothing is skipped in silence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline.cli.operate import SQL
from sync_pipeline.kernel.errors import AuthenticationError
from sync_pipeline.kernel.feed import Reply, Request
from sync_pipeline_tests.integration.pretix_setting import Pretix, opened
from sync_pipeline_tests.integration.simulator_setting import Setting, setting

WATERMARK = "select watermark from sync.feed_state where connection = 'pretix' and feed = 'orders'"
SCOPE = "select scope from sync.feed_state where connection = 'pretix' and feed = 'orders'"


@pytest.fixture
def world() -> Iterator[Setting]:
    with setting(max_commit_lag_s=0, pretix_per_minute=None, pretix_orders=130, eventbrite_orders=0) as running:
        yield running


async def _remark(pretix: Pretix) -> str:
    [*_, remark] = (await pretix.rows(SQL.status_feeds))[0]
    return str(remark)


async def test_a_token_without_order_permission_is_a_fault_and_moves_nothing(world: Setting, pretix: Pretix) -> None:
    world.post("/grant", {"token": "blind", "orders": []})
    pretix.env["PRETIX_TOKEN"] = "blind"
    error = await pretix.refused()
    assert isinstance(error, AuthenticationError)
    assert "`simorg` and all its events" in str(error)
    assert await pretix.rows(WATERMARK) == [(None,)]
    asked = world.stats("pretix")["requests"]
    assert isinstance(await pretix.refused(), AuthenticationError)
    assert world.stats("pretix")["requests"] <= asked + 4, "the breaker stops it at the first refusal that stands"
    pretix.env["PRETIX_TOKEN"] = "sim-pretix-token"
    await pretix.synced()
    assert await pretix.mismatches() == {}


async def test_a_permission_lost_between_survey_and_list_moves_nothing(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    world.advance(3600)
    await pretix.synced()
    before = await pretix.rows(WATERMARK)
    world.advance(3600)

    async def revoke(request: Request, reply: Reply) -> None:
        if "/events/" in request.path:
            world.post("/grant", {"orders": []})

    error = (await pretix.sync(revoke)).feeds["orders"].error
    assert isinstance(error, AuthenticationError)
    assert await pretix.rows(WATERMARK) == before
    world.post("/mutate", {"vendor": "pretix", "changes": 5})
    world.advance(7200)
    world.post("/grant", {})
    pretix.env["PRETIX_TOKEN"] = "sim-pretix-token"
    await pretix.rows("delete from sync.breaker returning 1")
    await pretix.synced()
    assert await pretix.mismatches() == {}


async def test_a_quiet_organizer_is_proven_and_the_watermark_moves(world: Setting, pretix: Pretix) -> None:
    world.advance(600)
    await pretix.synced()
    world.advance(3600)
    before = (await pretix.rows(WATERMARK))[0][0]
    report = await pretix.synced()
    assert report.feeds["orders"].counts == {}
    assert (await pretix.rows(WATERMARK))[0][0] > before
    assert (await pretix.rows("select restarted_at from sync.feed_state where feed = 'orders'")) == [(None,)]


async def test_an_organizer_without_orders_is_proven_by_an_events_list(database_url: str, tmp_path: Path) -> None:
    with setting(max_commit_lag_s=0, pretix_orders=0, eventbrite_orders=0) as world:
        world.post("/grant", {"orders": ["summerfest"]})
        async with opened(world, database_url, tmp_path) as pretix:
            await pretix.synced()
            assert (await pretix.rows(WATERMARK))[0][0] is not None
            world.post("/mutate", {"vendor": "pretix", "changes": 3, "actions": ["new_order"]})
            await pretix.synced()


async def test_other_settings_start_from_the_beginning_and_say_so(
    world: Setting, pretix: Pretix, caplog: pytest.LogCaptureFixture
) -> None:
    world.advance(600)
    await pretix.synced(events=["sampleconf"])
    assert await pretix.rows("select distinct event_id from registrations.registration") == [("sampleconf",)]
    assert await _remark(pretix) == "None"
    world.advance(600)
    await pretix.synced()
    assert await pretix.mismatches() == {}
    assert "started from the beginning at" in await _remark(pretix)
    assert "base_url, account, events or path" in await _remark(pretix)
    assert any("feed starts from the beginning" in record.getMessage() for record in caplog.records)
    first = await pretix.rows("select restarted_at from sync.feed_state order by feed")
    assert len(first) == 2, "the feeds that come out of its pages are marked too"
    await pretix.synced()
    assert await pretix.rows("select restarted_at from sync.feed_state order by feed") == first


async def test_a_cursor_without_scope_takes_the_present_one(world: Setting, pretix: Pretix) -> None:
    world.advance(600)
    await pretix.synced()
    await pretix.rows("update sync.feed_state set scope = null returning 1")
    before = (await pretix.rows(WATERMARK))[0][0]
    world.advance(600)
    report = await pretix.synced()
    assert sum(counts.received for counts in report.feeds["orders"].counts.values()) == 0
    assert (await pretix.rows(WATERMARK))[0][0] > before
    [(scope,)] = await pretix.rows(SCOPE)
    assert scope.split(" ")[1] == "nordlys,readers,sampleconf,summerfest"


async def test_events_granted_later_are_listed_from_the_beginning(world: Setting, pretix: Pretix) -> None:
    world.post("/grant", {"orders": ["sampleconf", "readers"]})
    world.advance(600)
    await pretix.synced()
    world.advance(600)
    world.post("/grant", {"events": ["sampleconf", "readers", "nordlys"], "orders": None})
    await pretix.synced()
    assert "may view the orders of 1 more events" in await _remark(pretix)
    world.post("/grant", {})
    await pretix.synced()
    assert await pretix.mismatches() == {}


async def test_a_new_event_without_history_restarts_nothing(world: Setting, pretix: Pretix) -> None:
    for order in list(world.rows("pretix/orders")):
        if order.startswith("nordlys/"):
            world.post("/mutate", {"vendor": "pretix", "id": order, "delete": True})
    world.post("/grant", {"events": ["sampleconf", "readers", "summerfest"]})
    world.advance(600)
    await pretix.synced()
    world.advance(600)
    world.post("/grant", {})
    report = await pretix.synced()
    assert report.feeds["orders"].counts == {}
    assert (await pretix.rows(SCOPE))[0][0].split(" ")[1].startswith("nordlys,")


async def test_an_order_deleted_between_two_pages_hides_no_other(world: Setting, pretix: Pretix) -> None:
    deleted: list[str] = []

    async def delete(request: Request, reply: Reply) -> None:
        if "include_canceled_positions" in dict(request.params) and not deleted:
            first = next(iter(world.walk_pretix("/organizers/simorg/orders/"))).json()["results"][4]
            deleted.append(f"{first['event']}/{first['code']}")
            world.post("/mutate", {"vendor": "pretix", "id": deleted[0], "delete": True})

    await pretix.synced(delete)
    assert deleted
    assert await pretix.mismatches() == {}
