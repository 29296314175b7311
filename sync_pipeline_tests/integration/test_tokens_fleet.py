"""Processes that share one rotating refresh token: contention, and kill -9 at every step of a refresh."""

from __future__ import annotations

import asyncio

import pytest

from sync_pipeline.kernel.crash import CrashPoint
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.token_fleet import STEPS, enrolled, worker
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import main
from sync_pipeline_tests.things import rows


async def test_32_tasks_in_4_processes_make_one_refresh_a_generation(database: Database) -> None:
    async with TokenVendor(lifetime_s=4).serving() as vendor:
        await enrolled(vendor, database, 4)
        done = await asyncio.gather(*(worker(database, vendor.port, 0, 8, 8) for _ in range(4)))
        [(generation,)] = await rows(database, "select generation from sync.token")
    calls = sum(each["calls"] for each in done)  # type: ignore[index]
    print(f"calls {calls} generations {generation} exchanges {len(vendor.exchanges)} asked {vendor.asked}")
    assert calls > 1000
    assert generation >= 4
    assert len(vendor.exchanges) == len(set(vendor.exchanges)) == generation - 1 == vendor.asked
    assert vendor.breaches == 0
    assert vendor.answers_401 == 0


@pytest.mark.parametrize("grace_s", [0, 60])
@pytest.mark.parametrize("point", STEPS)
async def test_killed_at_any_step_no_spent_token_is_shown(
    database: Database, point: CrashPoint, grace_s: float
) -> None:
    async with TokenVendor(grace_s=grace_s).serving() as vendor:
        await enrolled(vendor, database, 1e-6)
        assert await worker(database, vendor.port, grace_s, 2, 5, crash=point) is None, "it was to be killed"
        then = await main(database.url, vendor.port, grace_s, 8, 0.2)
        assert vendor.breaches == 0
        assert vendor.answers_401 == 0
        held = point in (CrashPoint.REFRESH_LOCKED, CrashPoint.REFRESH_AFTER_COMMIT)
        lost = not held and grace_s == 0
        assert bool(then["reauthorise"]) == lost
        assert bool(then["calls"]) == (not lost)
        if grace_s == 0:
            assert len(vendor.exchanges) == (0 if point is CrashPoint.REFRESH_ASKED else 1)
        # An operator's new pair heals every case.
        await enrolled(vendor, database, 3600)
        again = await main(database.url, vendor.port, grace_s, 2, 0.1)
        assert again["calls"] > 0
        assert again["reauthorise"] == again["answers_401"] == 0


async def test_kills_while_others_contend_stop_nobody(database: Database) -> None:
    """The vendor grants a grace: whoever survives goes on."""
    plans = [CrashPoint.REFRESH_ASKED, CrashPoint.REFRESH_ANSWERED, CrashPoint.REFRESH_BEFORE_COMMIT, ""]
    async with TokenVendor(lifetime_s=4, grace_s=60).serving() as vendor:
        await enrolled(vendor, database, 4)
        done = await asyncio.gather(*(worker(database, vendor.port, 60, 8, 10, crash) for crash in plans))
        [(generation,)] = await rows(database, "select generation from sync.token")
        # The last one killed may have outlived the survivor: what it left uncertain, whoever comes next settles.
        later = await main(database.url, vendor.port, 60, 2, 6)
        [(uncertain,)] = await rows(database, "select uncertain_since from sync.token")
    survivor = done[3]
    print(f"killed {done.count(None)} generations {generation} exchanges {len(vendor.exchanges)}")
    assert done.count(None) >= 1
    assert isinstance(survivor, dict)
    assert survivor["reauthorise"] == 0
    assert survivor["calls"] > 100
    assert vendor.breaches == vendor.answers_401 == 0
    assert generation >= 3
    assert later["reauthorise"] == 0
    assert later["generation"] > generation
    assert uncertain is None
