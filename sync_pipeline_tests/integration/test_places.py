"""Calls in flight: who waits for a place has no grant yet, and who waits for a grant has no place."""

from __future__ import annotations

import asyncio
import time

import pytest

from sync_pipeline.gateway import client
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer, gateway, send
from sync_pipeline_tests.things import rows


@pytest.mark.parametrize("at_once", [1, 4])
async def test_each_call_takes_one_grant_however_long_it_waits_for_a_place(
    vendor: Vendor, database: Database, at_once: int
) -> None:
    """Granted first, they were too late when a place was free, and took another grant: 36 for 8 calls."""
    vendor.delay = 0.9
    async with gateway(vendor, database, SystemClock(), max_in_flight=at_once) as opened:
        await asyncio.gather(*(send(opened) for _ in range(2 * at_once + 2)))
    assert len(vendor.at) == 2 * at_once + 2
    assert await rows(database, "select used from sync.quota_now") == [(2 * at_once + 2,)]


async def test_who_waits_for_a_grant_keeps_nobody_from_a_place(vendor: Vendor, database: Database) -> None:
    """The window is spent for backfills, not for the lanes above."""
    windows = (QuotaWindow("minute", 100, 60, burst=100),)
    async with gateway(vendor, database, SystemClock(), max_in_flight=4, windows=windows) as opened:
        await rows(database, "select granted from sync.quota_grant(array['shop'], 0, 1, 60)")
        low = [asyncio.create_task(send(opened, lane="P4")) for _ in range(6)]
        await asyncio.sleep(0.3)
        waiting = sum(not each.done() for each in low)
        begun = time.monotonic()
        assert await send(opened, lane="P0") == 200
        took = time.monotonic() - begun
        for each in low:
            each.cancel()
        await asyncio.gather(*low, return_exceptions=True)
        assert waiting >= 4, "as many as there are places"
        assert took < 1
        assert opened._http.places._value == 4


async def test_a_place_is_given_back_whatever_becomes_of_the_call(vendor: Vendor, database: Database) -> None:
    vendor.script = [answer(200), answer(500), answer(404), answer(429, retry_after="300")]
    async with gateway(vendor, database, max_in_flight=2) as opened:
        await asyncio.gather(*(send(opened) for _ in range(4)), return_exceptions=True)
        with pytest.raises(Deferred):
            await send(opened)
        assert opened._http.places._value == 2


async def test_a_call_whose_grants_are_always_too_old_is_deferred(
    vendor: Vendor, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each new grant had thirty seconds of its own."""
    monkeypatch.setattr(client, "LONGEST_WAIT_S", 0.3)
    monkeypatch.setattr(Quota, "may_go", lambda *_, **__: False)
    async with gateway(vendor, database, SystemClock()) as opened, asyncio.timeout(20):
        with pytest.raises(Deferred, match="no longer good when it was to be sent"):
            await send(opened)
    assert vendor.at == []
