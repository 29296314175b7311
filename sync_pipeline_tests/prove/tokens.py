"""Proofs about tokens: 32 workers on one rotating refresh token, kills at each step of a refresh, a simulated week."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from sync_pipeline.gateway.http import Http
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.token_fleet import STEPS, enrolled, worker
from sync_pipeline_tests.integration.token_setting import Clock, enrol
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import THING, shop, source_of

PROCESSES, TASKS = 4, 8
WEEK_S = 7 * 86_400


async def contention(database: Database, seconds: float) -> dict[str, Any]:
    """32 workers, tokens of four seconds: exchanges by the generations they made; then one killed at each step while the
    others go on (the vendor takes a spent refresh token for a minute)."""
    async with TokenVendor(lifetime_s=4).serving() as vendor:
        await enrolled(vendor, database, 4)
        before = await _generation(database)
        await asyncio.gather(*(worker(database, vendor.port, 0, TASKS, seconds) for _ in range(PROCESSES)))
        made = await _generation(database) - before
        exchanges, spent, unauthorised = vendor.asked, vendor.breaches, vendor.answers_401
    killed = 0
    for point in STEPS:
        async with TokenVendor(lifetime_s=4, grace_s=60).serving() as vendor:
            await enrolled(vendor, database, 4)
            plans = [point, *[""] * (PROCESSES - 1)]
            done = await asyncio.gather(*(worker(database, vendor.port, 60, TASKS, seconds, plan) for plan in plans))
            killed += done.count(None)
            spent += vendor.breaches
            unauthorised += vendor.answers_401
    return {
        "refreshes_per_generation": round(exchanges / made, 4),
        "spent_refresh_uses": spent,
        "refresh_workers_killed": killed,
        "contended_401": unauthorised,
    }


async def _generation(database: Database) -> int:
    found = await database.statement("select coalesce(max(generation), 0) from sync.token", {})
    return int(found[0][0])


async def week(database: Database) -> dict[str, Any]:
    """Two workers, tokens of an hour, calls at random times with gaps beyond the expiry, for a week of their clock."""
    clock, rng = Clock(), random.Random(7)
    await database.statement("truncate sync.token", {})
    vendor = TokenVendor(lifetime_s=3600, now=clock.seconds)
    async with (
        vendor.serving(),
        source_of(database, vendor.port, clock=clock, seed=1) as one,
        source_of(database, vendor.port, clock=clock, seed=2) as two,
        Http(shop(vendor.port), now=clock.now) as http,
    ):
        await enrol(one, vendor)
        begun = clock.seconds()
        while clock.seconds() < begun + WEEK_S:
            source = rng.choice((one, two))
            secret, _ = await source.current()
            await http.send(THING, secret)
            await source.aclose()
            clock.skip(rng.expovariate(1 / 600))
    return {"expiry_401": vendor.answers_401, "week_calls": vendor.calls}
