"""An endpoint's latencies outlive the session, and sessions that end at once lose nothing of each other's."""

from __future__ import annotations

import asyncio
import random

import pytest

from sync_pipeline.gateway.latencies import Latencies
from sync_pipeline.gateway.latency import ENOUGH, FIRST_PAUSE_S
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import rows

SHOWN = "select calls, p50_s, p95_s from sync.latency where endpoint = '/orders/'"


async def session(database: Database, connection: str = "shop") -> Latencies:
    opened = Latencies(connection, database, SystemClock())
    await opened.open()
    return opened


def observed(latencies: Latencies, seconds: float, times: int) -> None:
    for _ in range(times):
        latencies.observe("/orders/", seconds)


async def test_two_sessions_merge_what_each_saw(database: Database) -> None:
    """Both begin with the same past; what they stored last would otherwise be all that is left."""
    before = await session(database)
    observed(before, 0.1, 10)
    await before.close()
    one, two = await session(database), await session(database)
    observed(one, 0.1, 40)
    observed(two, 2.0, 50)
    await asyncio.gather(one.close(), two.close())
    [(calls, p50, p95)] = await rows(database, SHOWN)
    assert calls == 100
    assert (p50, p95) == pytest.approx((0.1, 2.0), rel=0.05)
    await asyncio.gather(one.close(), two.close())
    assert await rows(database, SHOWN) == [(calls, p50, p95)], "closed again, nothing counts twice"


async def test_many_sessions_that_end_at_once_lose_nothing(database: Database) -> None:
    sessions = [await session(database) for _ in range(8)]
    for each in sessions:
        observed(each, 0.2, 25)
    await asyncio.gather(*(each.close() for each in sessions))
    [(calls, p50, _)] = await rows(database, SHOWN)
    assert calls == 200
    assert p50 == pytest.approx(0.2, rel=0.05)


async def test_a_new_session_pauses_as_the_endpoint_is_known_to_answer(database: Database) -> None:
    slow = await session(database)
    observed(slow, 4.0, int(3 * ENOUGH))
    await slow.close()
    later, stranger = await session(database), await session(database, "other")
    rng = random.Random(1)
    pauses = [later.pause("/orders/", 1, rng.random) for _ in range(200)]
    assert 2 * 0.95 <= min(pauses) <= max(pauses) <= 6 * 1.05, "half to one and a half times four seconds"
    assert all(stranger.pause("/orders/", 1, rng.random) <= 2 * FIRST_PAUSE_S for _ in range(200)), "it knows nothing"


async def test_a_sketch_of_another_version_is_no_past(database: Database) -> None:
    first = await session(database)
    observed(first, 0.1, 30)
    await first.close()
    await rows(database, "update sync.latency set sketch = '{99,1,2}' returning 1")
    second = await session(database)
    observed(second, 1.0, 30)
    await second.close()
    [(calls, p50, _)] = await rows(database, SHOWN)
    assert calls == 60
    assert p50 == pytest.approx(1.0, rel=0.05)
