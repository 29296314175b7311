"""A database in which two vendors have been asked for a while: what operators look at."""

from __future__ import annotations

import random
import time

from sync_pipeline.gateway.latencies import Latencies
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import QuotaNode
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import rows

CALLS = """
insert into sync.audit (at, correlation_id, connection, feed, endpoint, method, status, attempt, waited_ms, lane)
select clock_timestamp() - make_interval(secs => %s + n), 'c', %s, %s, %s, 'GET', %s, 1, %s, %s
from generate_series(1, %s) n returning 1
"""


async def calls(
    database: Database,
    number: int,
    *,
    connection: str = "pretix",
    feed: str = "orders",
    lane: str = "P2",
    status: int | None = 200,
    endpoint: str = "/orders/",
    ago_s: float = 0,
    waited_ms: float = 0,
) -> None:
    """So many calls, a second apart, the last `ago_s` ago."""
    await rows(database, CALLS, ago_s, connection, feed, endpoint, status, waited_ms, lane, number)


async def opened(database: Database, *nodes: QuotaNode, used: int = 0) -> None:
    """The quota rows of a session, and so many calls granted."""
    quota = Quota(
        "shop",
        nodes,
        database=database,
        clock=SystemClock(),
        monotonic=time.monotonic,
        random=random.Random(1).random,
    )
    await quota.open()
    for _ in range(used):
        await quota.acquire(lane="P0")
    await quota.close()


async def a_day(database: Database, *nodes: QuotaNode) -> None:
    """Two lanes and a token exchange today, others on the same key, an endpoint's latencies, a feed that waits."""
    await opened(database, *nodes, used=3)
    await calls(database, 30, lane="P2")
    await calls(database, 20, lane="P4", feed="positions", waited_ms=500)
    await calls(database, 1, lane="P0", feed="", endpoint="/token")
    await calls(database, 4, lane="P2", status=None)
    await calls(database, 7, lane="P2", ago_s=30 * 3600)
    await rows(
        database,
        "insert into sync.quota_foreign (scope, window_name, calls) values (%s, 'window_0', 12) returning 1",
        nodes[0].scope,
    )
    await rows(
        database,
        "insert into sync.feed_state (connection, feed, deferred_until, deferred_reason)"
        " values ('pretix', 'positions', clock_timestamp() + interval '1 hour', 'the day is spent') returning 1",
    )
    latencies = Latencies("pretix", database, SystemClock())
    await latencies.open()
    for _ in range(50):
        latencies.observe("/orders/", 0.2)
    await latencies.close()
