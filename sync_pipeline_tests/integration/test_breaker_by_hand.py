"""What an operator says of a breaker stands, whatever calls on their way come back with."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway.breaker import THRESHOLD, Outcome
from sync_pipeline.gateway.breaker_store import Breakers, by_hand
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import AuthenticationError, Deferred
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer, gateway, send
from sync_pipeline_tests.things import rows

ENDPOINT = "/things/{id}"
STATE = "select state, reason from sync.breaker where scope = '/things/{id}'"
OPEN = [("open", "opened by an operator")]


async def admit(worker: Breakers) -> None:
    async with worker.admitted(ENDPOINT, "credential 1"):
        pass


@pytest.mark.parametrize("outcome", ["good", "transient", "permanent"])
async def test_open_holds_however_a_call_on_its_way_ends(database: Database, outcome: Outcome) -> None:
    seconds = [0.0]

    def worker() -> Breakers:
        return Breakers("shop", "w", database=database, clock=SystemClock(), monotonic=lambda: seconds[0])

    one, other = worker(), worker()
    await admit(one)
    assert await by_hand(database, "shop", ENDPOINT, seconds=3600)
    await one.report(ENDPOINT, "credential 1", outcome, "Known")  # it has not seen it yet
    assert await rows(database, STATE) == OPEN
    seconds[0] += 2
    with pytest.raises(Deferred, match="its breaker is open"):
        await admit(one)
    for _ in range(2 * THRESHOLD):  # now it has, and more calls come back
        await one.report(ENDPOINT, "credential 1", outcome, "Known")
    assert await rows(database, STATE) == OPEN
    with pytest.raises(Deferred) as caught:
        await admit(other)
    assert caught.value.until > datetime.now(UTC) + timedelta(minutes=59)


async def test_open_holds_for_every_gateway(vendor: Vendor, database: Database) -> None:
    async with gateway(vendor, database) as one, gateway(vendor, database) as two:
        await by_hand(database, "shop", ENDPOINT, seconds=3600)
        for opened in (one, two):
            with pytest.raises(Deferred):
                await send(opened)
    assert vendor.seen == []


async def test_closed_by_hand_it_is_asked_at_once(vendor: Vendor, database: Database) -> None:
    async with gateway(vendor, database) as opened:
        await by_hand(database, "shop", ENDPOINT, seconds=3600)
        with pytest.raises(Deferred):
            await send(opened)
        assert await by_hand(database, "shop", ENDPOINT, seconds=None)
        assert await send(opened) == 200
        assert not await by_hand(database, "shop", ENDPOINT, seconds=None), "it was closed already"
    assert await rows(database, STATE) == [("closed", None)]


async def test_when_the_operators_time_is_over_a_probe_decides(vendor: Vendor, database: Database) -> None:
    async with gateway(vendor, database, SystemClock()) as opened:
        await by_hand(database, "shop", ENDPOINT, seconds=0.3)
        assert await asyncio.gather(*(send(opened) for _ in range(3))) == [200] * 3
    assert await rows(database, STATE) == [("closed", None)]


async def test_opened_again_for_another_time(vendor: Vendor, database: Database) -> None:
    await by_hand(database, "shop", ENDPOINT, seconds=3600)
    await by_hand(database, "shop", ENDPOINT, seconds=60)
    [(left,)] = await rows(database, "select extract(epoch from retry_at - clock_timestamp()) from sync.breaker")
    assert 55 < left <= 60


async def test_close_ends_a_refused_credential_whatever_its_hash(vendor: Vendor, database: Database) -> None:
    vendor.script = [answer(401)]
    async with gateway(vendor, database) as opened:
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                await send(opened)
        assert len(vendor.seen) == 1
        assert await by_hand(database, "shop", "credential", seconds=None)
        assert await send(opened) == 200


async def test_a_credential_can_be_spared_by_hand(vendor: Vendor, database: Database) -> None:
    async with gateway(vendor, database) as opened:
        await by_hand(database, "shop", "credential", seconds=3600)
        with pytest.raises(Deferred, match="its breaker is open, opened by an operator") as caught:
            await send(opened)  # nobody is to correct a token that is good
        assert caught.value.awaits == "breaker"
        await by_hand(database, "shop", "credential", seconds=None)
        assert await send(opened) == 200
    assert len(vendor.seen) == 1
