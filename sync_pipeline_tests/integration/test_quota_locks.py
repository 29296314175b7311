"""Rows of the quota tree are locked in one order, whoever comes; and a deadlock is not an outage of the store."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import rows

WINDOWS = (QuotaWindow("z", 400, 1), QuotaWindow("b", 400, 1))
WAITING = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


def quota(database: Database, *scopes: str) -> Quota:
    return Quota(
        "shop",
        [QuotaNode(scope, WINDOWS) for scope in scopes],
        database=database,
        clock=SystemClock(),
        monotonic=time.monotonic,
        random=random.Random(1).random,
    )


async def refused(worker: Quota) -> object:
    return await worker.refused(timedelta(seconds=1))


@pytest.mark.parametrize(
    "change", [Quota.open, Quota.acquire, refused], ids=["a session opens", "a grant", "a refusal"]
)
async def test_rows_are_locked_by_scope_and_name(
    database: Database, database_url: str, change: Callable[[Quota], Coroutine[Any, Any, object]]
) -> None:
    """Written in another order than their names': a change that waits for the first by name holds none of the others."""
    worker = quota(database, "vendor h", "shop", "credential T")
    await worker.open()
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("select from sync.quota where (scope, window_name) = ('credential T', 'b') for update")
        waiting = asyncio.create_task(change(worker))
        while not await rows(database, WAITING):
            assert not waiting.done()
            await asyncio.sleep(0.01)
        locked = await other.execute("select from sync.quota for update nowait")
        assert locked.rowcount == 6
        await other.rollback()
    await waiting


async def test_a_statement_that_a_deadlock_ended_is_done_again(database: Database, database_url: str) -> None:
    """Else a grant would go the way of an outage: a sixteenth of the limit, and the burst as spent."""
    await quota(database, "shop").open()
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("set local deadlock_timeout = '1min'")  # so that it is the statement that is chosen
        await other.execute("select from sync.quota where window_name = 'z' for update")
        crossed = asyncio.create_task(
            database.statement(
                "with b as materialized (select scope from sync.quota where window_name = 'b' for update)"
                " select q.window_limit from b join sync.quota q using (scope) where q.window_name = 'z' for update of q",
                {},
            )
        )
        while not await rows(database, WAITING):  # noqa: ASYNC110  # the event is a row in the database
            await asyncio.sleep(0.01)
        await other.execute("select from sync.quota where window_name = 'b' for update")
        await other.commit()
    assert await crossed == [(400,)]
