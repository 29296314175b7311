"""Outbox to sink. An outage of the receiver keeps rows waiting; only a refusal of one row makes it a dead letter."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection, sql

from sync_pipeline.handoff.sinks import Sink
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.ledger.checked import Target
from sync_pipeline.store.database import IDLE_S, Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)
BATCH = 100
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
LONGEST_ANSWER_S = IDLE_S / 2
"""For the receiver's answer, whatever the connection's timeout: the transaction that waits for it must not be ended."""


HANDOFF_CODES = ("HANDOFF_REFUSED", "NO_EFFECT", "NO_ROW")


@dataclass(slots=True)
class HandoffReport:
    handed: int = 0
    dead: int = 0
    postponed: bool = False


def idempotency_key(feed: FeedId, vendor_id: str, modified_at: datetime, content_hash: bytes) -> str:
    """The same version of a registration always has the same key; it holds no id."""
    said = f"{feed}\x1f{vendor_id}\x1f{modified_at.isoformat()}\x1f{content_hash.hex()}"
    return hashlib.sha256(said.encode()).hexdigest()[:32]


class Handoff:
    """Delivers one connection's outbox."""

    def __init__(self, database: Database, sink: Sink, *, crash: CrashPlan | None = None) -> None:
        self._db = database
        self._sink = sink
        self._crash = crash or CrashPlan()

    async def deliver(self, connection: str, *, stop: asyncio.Event | None = None) -> HandoffReport:
        """Hand on all that waits. Several changes of one registration that wait together are handed on as the newest.

        What another worker is just handing on is left to it, with what came after.
        `stop`: ends it between two records. Cancelling it instead may leave one sent and not noted, to be sent again.
        """
        report = HandoffReport()
        stop = stop or asyncio.Event()
        ours = True
        while ours and not report.postponed and not stop.is_set():
            async with self._db.transaction() as conn:
                found = await conn.execute(SQL.claim, {"connection": connection, "limit": BATCH})
                waiting = await found.fetchall()
            ours = False
            for feed, vendor_id, table, attempts in waiting:
                if stop.is_set():
                    break
                ours = await self._one(FeedId(connection, feed), vendor_id, table, report) or ours
                if report.postponed:
                    await self._postpone(connection, attempts)
                    break
        return report

    async def _one(self, feed: FeedId, vendor_id: str, table: str, report: HandoffReport) -> bool:
        """False when another worker is at it.

        The transaction idles while the receiver is asked, and takes no second connection: as many may deliver at once as there
        are connections.
        """
        names = {"connection": feed.connection, "feed": feed.feed, "vendor_id": vendor_id}
        async with self._db.transaction() as conn:
            locked = await (await conn.execute(SQL.alone, {"lock": f"handoff:{feed}/{vendor_id}"})).fetchone()
            if locked != (True,):
                return False
            statement = sql.SQL(SQL.to_send).format(target=sql.Identifier(*table.split(".")))
            row = await (await conn.execute(statement, names)).fetchone()
            if row is None:
                return True
            number, document, modified_at, content_hash = row
            if document is None:
                await _bury(conn, {**names, "id": number}, b"{}", "NO_ROW")
                report.dead += 1
                return True
            payload = document.encode()
            try:
                key = idempotency_key(feed, vendor_id, modified_at, bytes(content_hash))
                async with asyncio.timeout(LONGEST_ANSWER_S):
                    await self._sink.hand_on(key, payload)
            except PermanentError:
                await _bury(conn, {**names, "id": number}, payload, "HANDOFF_REFUSED")
                report.dead += 1
                return True
            except (TransientError, TimeoutError):
                report.postponed = True
                return True
            self._crash.reach(CrashPoint.HANDOFF_SENT)
            noted = {**names, "id": number, "modified_at": modified_at, "content_hash": content_hash}
            await conn.execute(SQL.handed, noted)
        report.handed += 1
        return True

    async def _postpone(self, connection: str, attempts: int) -> None:
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(attempts, 10))
        async with self._db.transaction() as conn:
            await conn.execute(SQL.postpone, {"connection": connection, "seconds": pause})


async def _bury(conn: AsyncConnection[Any], names: dict[str, Any], payload: bytes, code: str) -> None:
    await conn.execute(SQL.bury, {**names, "code": code, "payload": payload})


async def find_lost(database: Database, target: Target) -> int:
    """Registrations that were applied and have no downstream effect, nor one that waits: they become dead letters, to be
    looked at and replayed. Returns how many."""
    names = {"connection": target.feed.connection, "feed": target.feed.feed}
    statement = sql.SQL(SQL.lost).format(target=sql.Identifier(*target.contract.table.split(".")))
    async with database.transaction() as conn:
        lost = await (await conn.execute(statement, names)).fetchall()
        for vendor_id, modified_at, content_hash, page_id in lost:
            row = {
                **names,
                "vendor_id": vendor_id,
                "modified_at": modified_at,
                "content_hash": content_hash,
                "page_id": page_id,
                "table": target.contract.table,
            }
            found = await (await conn.execute(SQL.queue_dead, row)).fetchone()
            assert found is not None
            await conn.execute(SQL.bury, {**row, "id": found[0], "code": "NO_EFFECT", "payload": b"{}"})
    return len(lost)


async def revive(
    database: Database,
    *,
    connection: str | None = None,
    feed: str | None = None,
    code: str | None = None,
    contract_version: str | None = None,
    keys: Sequence[str] | None = None,
) -> int:
    """Put dead letters of the handoff back into the outbox; returns how many. Every argument narrows; None does not."""
    chosen = {"connection": connection, "feed": feed, "code": code, "contract_version": contract_version}
    async with database.transaction() as conn:
        found = await conn.execute(SQL.revive, {**chosen, "keys": list(keys) if keys is not None else None})
        return len(await found.fetchall())
