"""What a vendor changes without moving its modification stamp: no change filter shows it, so it is listed again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from psycopg import sql

from sync_pipeline.kernel.feed import Connection, Cursor, PageRead, Reply, Unstamped
from sync_pipeline.ledger.checked import CheckedPage, Target
from sync_pipeline.ledger.compare import Difference
from sync_pipeline.reconcile.relist import ask
from sync_pipeline.sessions.effects import Sender
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


async def unsettled_again(
    database: Database,
    connection: Connection,
    feed: str,
    source: str,
    table: str,
    gateway: Sender,
    *,
    now: datetime,
    correlation_id: str,
) -> AsyncIterator[tuple[Cursor, Reply, PageRead]]:
    """Pages that show again, one by one, the stored records which may have changed without a stamp.

    Those that are not settled, and for a feed that comes out of another's pages those that a run of that one has repaired
    lately. Nothing for a feed whose vendor stamps every change.
    """
    api = connection.feeds[source]
    if not isinstance(api, Unstamped):
        return
    parameters = {
        "connection": connection.name,
        "feed": source,
        "unsettled": api.unsettled,
        "changed_since": None if feed == source else now - REPAIRED,
        "day": now.astimezone(UTC).date(),
        "limit": UNSETTLED_AT_ONCE,
    }
    for (vendor_id,) in await select(database, table, SQL.unsettled, parameters):
        asked = api.again(vendor_id)
        if asked is not None:
            cursor, request = asked
            yield cursor, *await ask(api, gateway, request, cursor, correlation_id)


async def days_of_turn(
    database: Database, connection: Connection, feed: str, source: str, table: str, *, before: datetime, now: datetime
) -> list[date]:
    """The days before `before` whose turn it is to be listed again, once a cycle: all of which the store has records or open
    differences.

    None for a feed whose vendor stamps every change.
    """
    if not isinstance(connection.feeds[source], Unstamped):
        return []
    parameters = {
        "connection": connection.name,
        "feeds": [source, feed],
        "before": before,
        "cycle": CYCLE,
        "today": now.astimezone(UTC).date(),
    }
    return [day for (day,) in await select(database, table, SQL.days_of_turn, parameters)]


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
    applied = dict(await select(database, target.contract.table, SQL.applied_hashes, parameters))
    shown = {record.vendor_id: record.content_hash for page in pages for record in page.valid}
    return [
        replace(one, cause="changed_unstamped")
        if one.cause == "altered_in_store" and applied.get(one.vendor_id, b"") not in (b"", shown[one.vendor_id])
        else one
        for one in differences
    ]


async def select(database: Database, table: str, statement: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Rows of a statement of this room about a canonical table."""
    composed = sql.SQL(statement).format(target=sql.Identifier(*table.split(".")))
    async with database.transaction() as conn:
        return await (await conn.execute(composed, parameters)).fetchall()
