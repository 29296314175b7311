"""The gateway pauses before it asks again as the endpoint that failed is known to answer."""

from __future__ import annotations

import random

from sync_pipeline.gateway.latencies import Latencies
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import Request
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.gateway_setting import SkippingClock, Vendor, answer, gateway, send

SLOW, FAST = Request("/slow/", "/slow/"), Request("/fast/", "/fast/")


async def known(database: Database, **seconds: float) -> None:
    """What sessions before saw of each endpoint: answers that took from half to one and a half times as long."""
    latencies, rng = Latencies("shop", database, SystemClock()), random.Random(5)
    for endpoint, middle in seconds.items():
        for _ in range(1000):
            latencies.observe(f"/{endpoint}/", middle * rng.uniform(0.5, 1.5))
    await latencies.close()


async def test_a_retry_pauses_as_its_own_endpoint_answers(vendor: Vendor, database: Database) -> None:
    await known(database, slow=4.0, fast=0.4)
    clock = SkippingClock()
    async with gateway(vendor, database, clock) as opened:
        for request in [SLOW] * 8 + [FAST] * 8:
            vendor.script = [answer(503)]
            await send(opened, request)
    slow, fast = clock.slept[:8], clock.slept[8:]
    assert len(fast) == 8
    # A latency of the sketch, spread by half to either side: from a quarter of the middle to two and a quarter.
    assert all(0.95 <= pause <= 9.5 for pause in slow), slow
    assert all(0.095 <= pause <= 0.95 for pause in fast), fast
    assert len(set(slow)) == len(set(fast)) == 8, "drawn anew each time"
    assert sum(slow) > 5 * sum(fast)


async def test_each_further_attempt_pauses_for_longer(vendor: Vendor, database: Database) -> None:
    await known(database, fast=0.4)
    clock = SkippingClock()
    async with gateway(vendor, database, clock) as opened:
        for _ in range(6):
            vendor.script = [answer(503)] * 4
            await send(opened, FAST)
    by_attempt = [sum(clock.slept[attempt::4]) for attempt in range(4)]
    assert by_attempt[3] > 4 * by_attempt[0]
    assert by_attempt == sorted(by_attempt)
