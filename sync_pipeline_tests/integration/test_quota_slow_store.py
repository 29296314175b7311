"""A store that answers, but late: a strict window stays strict, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.gateway_setting import SkippingClock
from sync_pipeline_tests.integration.quota_setting import most_in_any, quota
from sync_pipeline_tests.things import rows

MINUTE = QuotaWindow("minute", 600, 60)
SECOND = QuotaWindow("second", 25, 1)


class Slow:
    """A database that takes `seconds` to answer a statement, while `slow`."""

    def __init__(self, database: Database, seconds: float = 0.3) -> None:
        self._database = database
        self._seconds = seconds
        self.transaction = database.transaction
        self.slow, self.asked = True, 0

    async def statement(self, query: str, parameters: dict[str, object], **more: float) -> list[tuple[Any, ...]]:
        self.asked += 1
        found = await self._database.statement(query, parameters, **more)
        await asyncio.sleep(self._seconds if self.slow else 0)
        return found


async def test_a_window_with_room_for_it_is_granted_by_a_slow_store(database: Database) -> None:
    store = Slow(database)
    one = quota(store, MINUTE, clock=SkippingClock())
    await one.open()
    for _ in range(3):
        await one.acquire()
    assert store.asked == 3


async def test_where_grants_come_too_late_the_work_is_deferred(database: Database) -> None:
    """They were given back and taken again without end, and no time counted as waited."""
    store = Slow(database)
    one = quota(store, MINUTE, SECOND, clock=SkippingClock())
    await one.open()
    async with asyncio.timeout(30):
        with pytest.raises(Deferred, match="the quota store is slow"):
            await one.acquire()
    assert store.asked < 30
    store.slow = False
    await one.acquire()
    await one.close()
    assert await rows(database, "select used from sync.quota_now where window_name = 'minute'") == [(1,)]


async def test_a_grant_is_as_old_as_the_question_for_it(database: Database) -> None:
    """It was young when it had come, and the call went half a second after the store had counted it, in a window that allows for
    a quarter: what was granted meanwhile reached the vendor in the same second."""
    window = QuotaWindow("second", 10, 1, burst=10)
    slow = [quota(Slow(database, 0.19), window) for _ in range(10)]
    quick = [quota(database, window) for _ in range(10)]
    for one in slow + quick:
        await one.open()
    sent: list[float] = []

    async def call(one: Quota, connecting_s: float) -> None:
        granted = await one.acquire(lane="P0")
        await asyncio.sleep(connecting_s)
        if one.may_go(granted.asked, lane="P0"):
            sent.append(time.monotonic())

    await asyncio.gather(*(call(one, 0.2) for one in slow))
    await asyncio.gather(*(call(one, 0.0) for one in quick))
    assert len(sent) >= 10
    assert most_in_any(sent, 1) <= 10


async def test_a_short_window_is_granted_by_a_store_that_answers_within_its_slack(database: Database) -> None:
    one = quota(Slow(database, 0.19), SECOND)
    await one.open()
    went = 0
    async with asyncio.timeout(30):
        while went < 3:
            granted = await one.acquire()
            went += one.may_go(granted.asked, lane="P2")
    await one.close()
