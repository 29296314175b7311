"""What a vendor changes without moving its modification stamp: no change filter shows it, so it is listed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from datetime import time as daytime
from typing import Any

from psycopg import sql

from sync_pipeline.kernel.feed import Connection, Cursor, PageRead, Reply, Unstamped
from sync_pipeline.ledger.apply import CheckedPage, Target
from sync_pipeline.ledger.compare import Difference
from sync_pipeline.reconcile.relist import ask, relist
from sync_pipeline.sessions.walk import Sender
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

CYCLE = 28
"""Days in which everything is listed again once, a part of it each day. Ours: four weeks, one request a fifty orders."""

UNSETTLED_AT_ONCE = 200
"""Records asked for one by one in a run."""

REPAIRED = timedelta(days=7)
"""How long a record that was repaired is asked for again by the runs of the feeds that come out of its pages: so much later
than the run that repaired it they may be, and still find what changed."""


async def listed_again(
    database: Database,
    connection: Connection,
    feed: str,
    source: str,
    table: str,
    gateway: Sender,
    *,
    before: datetime,
    now: datetime,
    correlation_id: str,
) -> AsyncIterator[tuple[Cursor, Reply, PageRead]]:
    """Pages that show again the records which may have changed without a stamp, and all others in turn.

    First the stored records that are not settled, one by one, and for a feed that comes out of another's pages those that a run
    of that one has repaired lately; then the days last modified before `before` whose turn it is.
    Nothing for a feed whose vendor stamps every change.
    """
    api = connection.feeds[source]
    if not isinstance(api, Unstamped):
        return
    names = {"connection": connection.name, "feed": source}
    today = now.astimezone(UTC).date()
    for (vendor_id,) in await _select(
        database,
        table,
        SQL.unsettled,
        {
            **names,
            "unsettled": api.unsettled,
            "changed_since": None if feed == source else now - REPAIRED,
            "day": today,
            "limit": UNSETTLED_AT_ONCE,
        },
    ):
        asked = api.again(vendor_id)
        if asked is not None:
            cursor, request = asked
            yield cursor, *await ask(api, gateway, request, cursor, correlation_id)
    days = await _select(database, table, SQL.days_of_turn, {**names, "before": before, "cycle": CYCLE, "today": today})
    for (day,) in days:
        since, until = (datetime.combine(day, at, UTC) for at in (daytime.min, daytime.max))
        async for page in relist(api, gateway, since=since, until=until, now=now, correlation_id=correlation_id):
            yield page


async def with_causes(
    database: Database, target: Target, differences: Sequence[Difference], pages: Sequence[CheckedPage]
) -> list[Difference]:
    """Tell apart who changed a record that has the stored version's stamp but other values.

    The row's hash is of what the vendor showed when it was applied: if the vendor shows something else now, it was the vendor
    (`changed_unstamped`), else someone wrote to the table (`altered_in_store`).
    """
    altered = [one.vendor_id for one in differences if one.cause == "altered_in_store"]
    if not altered:
        return list(differences)
    parameters = {
        "connection": target.feed.connection,
        "feed": target.feed.feed,
        "ids": altered,
        "contract_version": target.contract.version,
    }
    applied = dict(await _select(database, target.contract.table, SQL.applied_hashes, parameters))
    shown = {record.vendor_id: record.content_hash for page in pages for record in page.valid}
    return [
        replace(one, cause="changed_unstamped")
        if one.cause == "altered_in_store" and applied.get(one.vendor_id, b"") not in (b"", shown[one.vendor_id])
        else one
        for one in differences
    ]


async def _select(database: Database, table: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    composed = sql.SQL(statement).format(target=sql.Identifier(*table.split(".")))
    async with database.transaction() as conn:
        return await (await conn.execute(composed, parameters)).fetchall()
