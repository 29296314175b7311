"""The quota as operators see it: the audit's numbers, and the asset with its picture, tables and checks."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from sync_pipeline.components.quota_asset import ASSET, quota_asset
from sync_pipeline.gateway.breaker_store import by_hand
from sync_pipeline.kernel.feed import AuthSpec, Connection, QuotaNode, QuotaWindow
from sync_pipeline.resources import SyncResource
from sync_pipeline.runtime import load_setups
from sync_pipeline.store.database import Database
from sync_pipeline.telemetry.quota_audit import backfill_cost, feed_cost, quota_audit
from sync_pipeline.vendors.rest import RestApi
from sync_pipeline_tests.integration.quota_past import a_day, calls, opened
from sync_pipeline_tests.things import create_things, rows

HOUR = (QuotaWindow("hour", 7200, 3600),)


def connection(name: str, *, windows: tuple[QuotaWindow, ...] = HOUR, **more: Any) -> Connection:
    return Connection(name, RestApi(windows), "https://shop.example", AuthSpec("none"), windows, {}, **more)


def row(found: Any, **values: object) -> Mapping[str, Any]:
    [only] = [each for each in found if values.items() <= each.items()]
    return only  # type: ignore[no-any-return]


async def test_use_is_by_lane_and_feed_of_answered_calls_in_the_time_asked_for(database: Database) -> None:
    pretix = connection("pretix")
    await a_day(database, *pretix.quota)
    audit = await quota_audit(database, [pretix], datetime.now(UTC))
    assert [(each["lane"], each["feed"], each["calls"], each["waited_s"]) for each in audit.use] == [
        ("P0", "(token)", 1, 0.0),
        ("P2", "orders", 30, 0.0),
        ("P4", "positions", 20, 10.0),
    ]
    assert sum(each["calls"] for each in audit.by_hour) == 51
    longer = await quota_audit(database, [pretix], datetime.now(UTC), hours=48)
    assert row(longer.use, lane="P2")["calls"] == 37
    assert row(audit.foreign, scope="pretix")["calls"] == 12
    assert row(audit.waiting, feed="positions")["reason"] == "the day is spent"
    assert row(audit.latency, endpoint="/orders/")["p50_ms"] == pytest.approx(200, rel=0.05)
    window = row(audit.tree, scope="pretix")
    assert (window["limit"], window["used"], window["left"]) == (7200, 3, 7197)
    assert window["at_this_pace"] == "1% of it used", "51 calls in an hour that holds 7200"


async def test_connections_of_one_account_have_one_pace(database: Database) -> None:
    one, two, other = (
        connection("one", account="account a"),
        connection("two", account="account a"),
        connection("other"),
    )
    await opened(database, *one.quota)
    for name, number in (("one", 1800), ("two", 1800), ("other", 900)):
        await calls(database, number, connection=name)
    audit = await quota_audit(database, [one, two, other], datetime.now(UTC))
    assert row(audit.tree, scope="account a")["at_this_pace"] == "50% of it used"


async def test_an_endpoints_pace_is_that_of_its_own_calls(database: Database) -> None:
    node = QuotaNode("shop /b/", (QuotaWindow("hour", 100, 3600),), endpoint="/b/")
    shop = connection("shop", nodes=(node,))
    await opened(database, *shop.quota)
    await calls(database, 720, connection="shop", endpoint="/a/")
    await calls(database, 25, connection="shop", endpoint="/b/")
    audit = await quota_audit(database, [shop], datetime.now(UTC))
    assert row(audit.tree, scope="shop")["at_this_pace"] == "10% of it used"
    assert row(audit.tree, scope="shop /b/")["at_this_pace"] == "25% of it used"


async def test_a_day_that_will_not_last_says_until_when(database: Database) -> None:
    """At a call a second a day's limit of 10 more is spent in ten seconds, whatever the hour."""
    shop = connection("shop", windows=(QuotaWindow("day", 100_000, 86_400, kind="daily"),))
    await opened(database, *shop.quota)
    await rows(database, "update sync.quota set day = (now() at time zone 'UTC')::date, used = 99990 returning 1")
    await calls(database, 3600, connection="shop")
    now = datetime.now(UTC)
    window = row((await quota_audit(database, [shop], now)).tree, scope="shop")
    left_s = 86_400 - (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()
    if left_s > 60:  # else the day may be another by now
        assert abs(window["exhausted_at"] - now - timedelta(seconds=10)) < timedelta(seconds=1)
        assert window["at_this_pace"].endswith("% by midnight")


async def test_what_more_work_costs(database: Database) -> None:
    shop = connection("shop")
    await calls(database, 3600, connection="shop")
    await create_things(database)
    await rows(
        database,
        "insert into canon.thing (connection, feed, vendor_id, name, size, modified_at, content_hash, page_id,"
        " contract_version) select 'shop', 'things', n::text, 'n', 1, now() - interval '1 hour' * n, '', 1, '1'"
        " from generate_series(1, 3000) n returning 1",
    )
    now = datetime.now(UTC)
    cost = await backfill_cost(database, shop, "things", "canon.thing", days=90, page_size=50, now=now)
    assert cost.calls in (43, 44), "one record an hour for 90 days, in pages of 50"
    assert cost.share == pytest.approx(cost.calls / (7200 * 24))
    assert cost.takes is not None
    assert cost.takes.total_seconds() == pytest.approx(cost.calls, rel=0.01), "one of two calls a second is free"
    assert feed_cost(shop, interval_s=30).calls == 2880


Desk = Callable[[], tuple[dg.AssetMaterialization, dict[str, dg.AssetCheckEvaluation]]]


@pytest.fixture
def desk(small_pretix: str) -> Desk:

    def materialize() -> tuple[dg.AssetMaterialization, dict[str, dg.AssetCheckEvaluation]]:
        with dg.DagsterInstance.ephemeral() as instance:
            result = dg.materialize([quota_asset()], resources={"sync": SyncResource()}, instance=instance)
        [event] = result.get_asset_materialization_events()
        checks = {found.check_name: found for found in result.get_asset_check_evaluations()}
        return event.materialization, checks

    return materialize


def within(url: str, work: Callable[[Database], Awaitable[object]]) -> None:
    async def run() -> None:
        async with Database.open(url) as database:
            await work(database)

    asyncio.run(run())


def picture(found: dg.AssetMaterialization) -> bytes:
    text = str(found.metadata["picture"].value)
    shown = re.fullmatch(r"!\[[^\]]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", text)
    assert shown is not None
    return base64.b64decode(shown[1])


def test_the_asset_shows_the_picture_and_the_tables(desk: Desk, database_url: str) -> None:
    nodes = load_setups()["pretix"].connection.quota
    within(database_url, lambda database: a_day(database, *nodes))
    found, checks = desk()
    assert found.asset_key == ASSET
    numbers = {name: found.metadata[name].value for name in ("calls", "answers_429", "foreign_calls", "waited_s")}
    assert numbers == {"calls": 51, "answers_429": 0, "foreign_calls": 12, "waited_s": 10.0}
    png = picture(found)
    assert png.startswith(b"\x89PNG\r\n")
    assert len(png) > 5000
    tables = {name: str(value.value) for name, value in found.metadata.items()}
    assert re.search(rf"\| {re.escape(nodes[0].scope)} +\| window_0 +\| +100 \|", tables["windows"])
    assert re.search(r"\| pretix +\| P4 +\| positions +\| +20 \|", tables["calls_of_the_last_24_hours"])
    assert "window_0" in tables["used_by_others_on_the_same_key"]
    assert "the day is spent" in tables["waiting_for_quota"]
    assert "/orders/" in tables["answers_take"]
    assert {name: check.passed for name, check in checks.items()} == {"breakers_closed": True, "not_refused": True}


def test_an_empty_database_gives_an_asset_that_says_so(desk: Desk) -> None:
    found, checks = desk()
    assert picture(found).startswith(b"\x89PNG\r\n")
    assert found.metadata["windows"].value == "nothing"
    assert all(check.passed for check in checks.values())


def test_the_checks_fail_for_an_open_breaker_and_for_a_refusal(desk: Desk, database_url: str) -> None:
    within(database_url, lambda database: by_hand(database, "pretix", "/orders/", seconds=3600))
    within(database_url, lambda database: calls(database, 2, status=429))
    _, checks = desk()
    assert {name: check.passed for name, check in checks.items()} == {"breakers_closed": False, "not_refused": False}
    assert checks["breakers_closed"].description == "pretix /orders/: open"
    assert "2 answers 429" in str(checks["not_refused"].description)
    assert all(check.severity is dg.AssetCheckSeverity.WARN for check in checks.values())
    within(database_url, lambda database: by_hand(database, "pretix", "/orders/", seconds=None))
    within(
        database_url, lambda database: rows(database, "update sync.audit set at = at - interval '25 hours' returning 1")
    )
    _, checks = desk()
    assert all(check.passed for check in checks.values())
