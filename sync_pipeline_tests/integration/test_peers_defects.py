"""What others in this field get wrong, put to our own code. Each test names its source: a project, its file or its issue."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway.feedback import reset_at
from sync_pipeline.gateway.quota_local import LOCAL_SHARE
from sync_pipeline.gateway.quota_store import LONGEST_WAIT_S, Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import Deferred, TransientError
from sync_pipeline.kernel.feed import QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline.vendors.rest import RestApi
from sync_pipeline.vendors.rest_options import RateHeaders
from sync_pipeline_tests.integration.gateway_setting import SkippingClock, Vendor, answer, gateway, send
from sync_pipeline_tests.integration.quota_setting import Tree, most_in_any
from sync_pipeline_tests.integration.token_setting import StandingClock, enrol
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import source_of
from sync_pipeline_tests.things import rows

# 65 calls admitted at a limit of 5


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
def test_airbyte_cdk_idle_windows_do_not_add_up(tree: Tree, kind: str) -> None:
    """Airbyte CDK, `FixedWindowCallRatePolicy._update_current_window`: it moves on by one window a call and zeroes the
    count each time, so that 60 idle windows let 65 calls through at a limit of 5."""
    scope = tree.node(QuotaWindow("second", 5, 1, kind=kind, burst=5))  # type: ignore[arg-type]
    tree.ask(scope, at=0)
    at_once = sum(tree.ask(scope, at=60 + k / 1000).granted for k in range(100))
    assert at_once == 5


async def test_airbyte_cdk_idle_time_does_not_add_up_at_the_vendor(vendor: Vendor, database: Database) -> None:
    """The same through the gateway: after an idle time the vendor sees a window's limit at most."""
    async with gateway(vendor, database, windows=(QuotaWindow("minute", 5, 60, burst=5),)) as opened:
        await rows(database, "update sync.quota set tat = tat - interval '1 hour', slot = slot - 100000 returning 1")
        answers = await asyncio.gather(*(send(opened) for _ in range(65)), return_exceptions=True)
    assert answers.count(200) == len(vendor.seen) == 5
    assert sum(isinstance(each, Deferred) for each in answers) == 60


# A relative reset read as 1970


@pytest.mark.parametrize("seconds", ["0", "30", "600", "86400"])
def test_airbyte_cdk_1151_a_relative_reset_is_no_epoch(seconds: str) -> None:
    """airbyte-python-cdk#1151: `Reset: 600` parsed as an epoch is ten minutes past midnight of 1 January 1970."""
    now = datetime(2026, 3, 1, tzinfo=UTC)
    found = reset_at(seconds, now)
    assert found is not None
    assert found.at == now + timedelta(seconds=float(seconds))


@pytest.mark.parametrize(
    ("reset_is", "wait_s"),
    [("seconds", 600), ("epoch_s", 3600), ("epoch_ms", 3600)],
    ids=["as documented", "wrongly named an epoch", "wrongly named milliseconds"],
)
async def test_airbyte_cdk_1151_a_spent_window_is_waited_for(
    vendor: Vendor, database: Database, reset_is: str, wait_s: float
) -> None:
    """airbyte-python-cdk#1151: a reset in 1970 is over, so nothing is waited for. Even where an operator names the wrong
    form, a reset that is long past is not believed: the whole window is waited for."""
    windows = (QuotaWindow("hour", 1000, 3600, kind="fixed", burst=100),)
    vendor.script = [answer(200, x_ratelimit_remaining="0", x_ratelimit_reset="600")]
    api = RestApi(windows, RateHeaders(reset_is=reset_is))  # type: ignore[arg-type]
    async with gateway(vendor, database, windows=windows, api=api) as opened:
        await send(opened)
        with pytest.raises(Deferred) as caught:
            await send(opened)
    assert len(vendor.seen) == 1
    assert (caught.value.until - datetime.now(UTC)).total_seconds() == pytest.approx(wait_s, abs=30)


# Retry-After cut to 300 s, or to twice the own pause


in_both_forms = pytest.mark.parametrize("form", ["seconds", "date"])


async def kept_to(vendor: Vendor, database: Database, seconds: int, form: str) -> None:
    """A refusal with that `Retry-After` is followed by no call before it is over, however often one is wanted."""
    told = datetime.now(UTC) + timedelta(seconds=seconds)
    value = str(seconds) if form == "seconds" else f"{told:%a, %d %b %Y %H:%M:%S} GMT"
    vendor.script = [answer(429, retry_after=value)]
    async with gateway(vendor, database) as opened:
        for _ in range(3):
            with pytest.raises(Deferred) as caught:
                await send(opened)
            assert -2 <= (caught.value.until - told).total_seconds() <= 10
    assert len(vendor.seen) == 1


@in_both_forms
async def test_dlt_an_hour_is_not_cut_to_five_minutes(vendor: Vendor, database: Database, form: str) -> None:
    """dlt: sources/helpers/requests/retry.py cuts it to 300 s."""
    await kept_to(vendor, database, 3600, form)


@in_both_forms
async def test_fides_two_hours_are_not_cut_to_five_minutes(vendor: Vendor, database: Database, form: str) -> None:
    """Fides: saas/authenticated_client.py cuts it to 300 s."""
    await kept_to(vendor, database, 7200, form)


@in_both_forms
async def test_svix_it_is_not_cut_to_twice_the_own_pause(vendor: Vendor, database: Database, form: str) -> None:
    """Svix: worker.rs limit_retry_delay clamps it to twice its base. (Singer SDK ignores it.)"""
    await kept_to(vendor, database, 20, form)


@in_both_forms
async def test_airbyte_cdk_a_day_is_kept_whichever_form_it_has(vendor: Vendor, database: Database, form: str) -> None:
    """Airbyte CDK: header_helper.py reads it where a connector opts in, and no HTTP date at all."""
    await kept_to(vendor, database, 86_400, form)


# A limiter that fails open


async def test_fides_without_its_rows_a_fixed_share_is_left(vendor: Vendor, database: Database) -> None:
    """Fides skips limiting when Redis is down. Here, with the quota table empty, a worker keeps to a sixteenth."""
    clock = SkippingClock()
    windows = (QuotaWindow("minute", 120, 60, burst=60),)
    async with gateway(vendor, database, clock, windows=windows) as opened:
        await rows(database, "delete from sync.quota returning 1")
        await send(opened)
        await send(opened)
    share = LOCAL_SHARE * 61 / 120
    assert clock.slept == pytest.approx([share, 2 * share], rel=0.02)


async def test_fides_without_its_store_a_fixed_share_is_left(database_url: str) -> None:
    """Fides skips limiting when Redis is down. Here, with no connection to the store, the share is the same, and a wait
    for it above half a minute is a deferral."""
    clock = SkippingClock()
    async with Database.open(database_url) as database:
        node = QuotaNode("shop", (QuotaWindow("minute", 120, 60),))
        quota = Quota(
            "shop", [node], database=database, clock=clock, monotonic=time.monotonic, random=random.Random(1).random
        )
        await quota.open()
        await database.close()
        granted, refusal = 0, None
        while refusal is None and granted < 60:
            try:
                await quota.acquire()
                granted += 1
            except Deferred as deferred:
                refusal = str(deferred)
    assert refusal is not None
    assert "the quota store cannot be reached and the local share is spent" in refusal
    share = LOCAL_SHARE * 61 / 120
    assert clock.slept == pytest.approx([share * (k + 1) for k in range(granted)], rel=0.02)
    assert granted == int(LONGEST_WAIT_S // share)


async def test_fides_a_gateway_without_its_store_keeps_to_its_local_share(vendor: Vendor, database_url: str) -> None:
    """Fides skips limiting when Redis is down. Here a worker without the store has a sixteenth of the limit."""
    async with Database.open(database_url) as database:
        opened = await gateway(vendor, database, SystemClock(), windows=(QuotaWindow("w", 600, 60),)).__aenter__()
        await database.close()
        for _ in range(3):
            await send(opened)
        with contextlib.suppress(TransientError):
            await opened.__aexit__(None, None, None)  # its audit has nowhere to go
    share = 16 * 61 / 600
    assert [later - earlier >= 0.99 * share for earlier, later in itertools.pairwise(vendor.at)] == [True, True]


# N refreshes on one shared 401


async def test_airbyte_cdk_32_answers_401_on_one_token_make_one_refresh(database: Database) -> None:
    """Airbyte CDK, `REFRESH_TOKEN_THEN_RETRY`: it refreshes outside its lock, N threads N times on one 401 (and two workers
    of Fides, without any lock, revoke the token family of a vendor that rotates)."""
    clock = StandingClock()
    async with (
        TokenVendor(now=clock.seconds).serving() as vendor,
        source_of(database, vendor.port, clock=clock, seed=1) as one,
        source_of(database, vendor.port, clock=clock, seed=2) as two,
    ):
        await enrol(one, vendor)
        clock.skip(120)
        _, generation = await two.current()
        again = await asyncio.gather(*((one, two)[turn % 2].rejected(generation) for turn in range(32)))
        assert all(again)
        found = await asyncio.gather(*((one, two)[turn % 2].current() for turn in range(32)))
        await asyncio.gather(*((one, two)[turn % 2].rejected(generation) for turn in range(32)))
        found += await asyncio.gather(*((one, two)[turn % 2].current() for turn in range(32)))
    assert {found_generation for _, found_generation in found} == {generation + 1}
    assert len(vendor.exchanges) == 1
    assert vendor.breaches == 0


# A double burst at a window's boundary


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
@pytest.mark.parametrize("offset", [0.0, 13.7, 59.5])
def test_fides_a_burst_at_a_window_boundary_is_not_doubled(tree: Tree, kind: str, offset: float) -> None:
    """Fides, `RateLimiter` on Redis INCR (fidesops#1291): a limit just before the boundary and another just after it. The
    vendor's windows begin when they like: none of its minutes holds more than the limit."""
    scope = tree.node(QuotaWindow("minute", 10, 60, kind=kind, burst=10))  # type: ignore[arg-type]
    asked = [offset + 59.0 + k / 20 for k in range(60)] + [offset + 119.0 + k / 20 for k in range(60)]
    arrivals = [at for at in asked if tree.ask(scope, at=at).granted]
    assert sum(at < offset + 63 for at in arrivals) == 10
    assert most_in_any(arrivals, 60) == 10
