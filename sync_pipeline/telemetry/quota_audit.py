"""The quota as operators see it: what is left, who used it, who waited, what the day's end will be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import sql

from sync_pipeline.kernel.feed import Connection, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries
from sync_pipeline.telemetry.facts import select
from sync_pipeline.telemetry.quota_plan import Cost, backfill, forecast, new_feed

SQL = queries(__package__)
HOURS = 24
PACE_S = 3600.0
"""The present pace is that of the last hour."""


@dataclass(frozen=True, slots=True)
class QuotaAudit:
    """Rows for people, each list a table. Every number of calls is of the last `hours`, if the column does not say else."""

    at: datetime
    hours: int
    tree: Sequence[Mapping[str, Any]]
    use: Sequence[Mapping[str, Any]]
    by_hour: Sequence[Mapping[str, Any]]
    foreign: Sequence[Mapping[str, Any]]
    waiting: Sequence[Mapping[str, Any]]
    latency: Sequence[Mapping[str, Any]]

    @property
    def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {
            "Windows": self.tree,
            f"Calls of the last {self.hours} hours": self.use,
            "Used by others on the same key": self.foreign,
            "Waiting for quota": self.waiting,
            "Answers take": self.latency,
        }


async def quota_audit(
    database: Database, connections: Sequence[Connection], now: datetime, *, hours: int = HOURS
) -> QuotaAudit:
    tree = []
    for row in await select(database, "quota_tree"):
        pace = await _pace(database, row["scope"], connections, now) + row["foreign_rate"]
        ahead = forecast(
            limit=row["limit"],
            seconds=row["seconds"],
            kind=row["kind"],
            zone=row["zone"],
            used=row["used"],
            calls_a_second=pace,
            now=now,
        )
        tree.append(
            {
                "scope": row["scope"],
                "window": row["window"],
                "limit": row["limit"],
                "used": row["used"],
                "left": row["left"],
                "at_this_pace": f"{ahead.share:.0%} {'by midnight' if row['kind'] == 'daily' else 'of it used'}",
                "exhausted_at": ahead.exhausted_at,
                "blocked_until": row["blocked_until"],
            }
        )
    hourly = {"hours": hours}
    return QuotaAudit(
        now,
        hours,
        tree,
        await select(database, "quota_use", hourly),
        await select(database, "quota_hours", hourly),
        await select(database, "quota_foreign", hourly),
        await select(database, "quota_waiting"),
        await select(database, "quota_latency"),
    )


async def _pace(database: Database, scope: str, connections: Sequence[Connection], now: datetime) -> float:
    """Calls a second that a node was charged with: of all its connections, and of its endpoint where it has one."""
    charged = [(each.name, node.endpoint) for each in connections for node in each.quota if node.scope == scope]
    [found] = await select(
        database,
        "calls_since",
        {
            "connections": [name for name, _ in charged],
            "endpoints": [endpoint for _, endpoint in charged],
            "since": now - timedelta(seconds=PACE_S),
        },
    )
    return float(found["calls"]) / PACE_S


async def backfill_cost(
    database: Database, connection: Connection, feed: str, table: str, *, days: int, page_size: int, now: datetime
) -> Cost:
    """What listing the last `days` of a feed again would take, by the records that the store holds of them."""
    statement = sql.SQL(SQL.records_of_days).format(target=sql.Identifier(*table.split(".")))
    async with database.transaction() as conn:
        parameters = {"connection": connection.name, "feed": feed, "days": days}
        found = await (await conn.execute(statement, parameters)).fetchone()
    assert found is not None
    pace = await _pace(database, connection.quota[0].scope, [connection], now)
    tightest = _tightest(connection)
    return backfill(
        records=found[0],
        page_size=page_size,
        limit=tightest.limit,
        seconds=tightest.seconds,
        calls_a_second=pace,
    )


def feed_cost(connection: Connection, *, interval_s: float) -> Cost:
    """What one more feed of a connection would take, polled that often."""
    tightest = _tightest(connection)
    return new_feed(interval_s=interval_s, limit=tightest.limit, seconds=tightest.seconds)


def _tightest(connection: Connection) -> QuotaWindow:
    return min(connection.windows, key=lambda window: window.limit / window.seconds)
