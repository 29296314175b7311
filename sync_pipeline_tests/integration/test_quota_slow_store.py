"""A store that answers, but late: a strict window stays strict, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.gateway_setting import SkippingClock
from sync_pipeline_tests.integration.quota_setting import quota
from sync_pipeline_tests.things import rows

MINUTE = QuotaWindow("minute", 600, 60)
SECOND = QuotaWindow("second", 25, 1)


class Slow:
    """A database that takes 0.3 s to answer a statement, while `slow`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.transaction = database.transaction
        self.slow, self.asked = True, 0

    async def statement(self, query: str, parameters: dict[str, object], **more: float) -> list[tuple[Any, ...]]:
        self.asked += 1
        found = await self._database.statement(query, parameters, **more)
        await asyncio.sleep(0.3 if self.slow else 0)
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
