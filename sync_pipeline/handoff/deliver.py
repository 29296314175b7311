"""Outbox to sink. An outage of the receiver keeps rows waiting; a refusal makes one a dead letter, and so does failing on and on
while others are taken."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Any

from psycopg import AsyncConnection, sql

from sync_pipeline.handoff.sinks import Sink
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import PermanentError, ReceiverAway, TransientError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.ledger.checked import Target
from sync_pipeline.store.database import IDLE_S, Database
from sync_pipeline.store.sql import queries
from sync_pipeline.trust.logger import get_logger

LOG = get_logger(__name__)
SQL = queries(__package__)
BATCH = 100
FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
LONGEST_QUIET_S = 3600.0
"""Longest that a receiver is left alone at its own wish (Retry-After): a mistake of its may not stop us for good."""

LONGEST_ANSWER_S = IDLE_S / 2
"""For the receiver's answer, whatever the connection's timeout: the transaction that waits for it must not be ended."""

OUTAGE_AFTER = 3
"""Different registrations, one after the other, that were not taken: from then on it is the receiver's fault, not theirs."""

MOST_FAILURES = 20
"""Times that a registration is tried again which fails by itself: another one was taken after each of them."""

HANDOFF_CODES = ("HANDOFF_REFUSED", "NO_EFFECT", "NO_ROW")


@dataclass(slots=True)
class HandoffReport:
    """`postponed`: something was not taken and is tried again later."""

    handed: int = 0
    dead: int = 0
    postponed: bool = False


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A registration with changes to hand on. `attempts`: times that they were postponed, by whosever fault."""

    feed: FeedId
    vendor_id: str
    table: str
    attempts: int

    @property
    def lock(self) -> str:
        return _lock(self.feed, self.vendor_id)

    @property
    def names(self) -> dict[str, Any]:
        return {"connection": self.feed.connection, "feed": self.feed.feed, "vendor_id": self.vendor_id}


@dataclass(frozen=True, slots=True)
class _Version:
    """What is sent of a registration: the newest of its changes. `failures`: times that it failed by itself."""

    number: int
    failures: int
    document: str | None
    modified_at: datetime
    content_hash: bytes
    applied_at: datetime


class _Outcome(Enum):
    ELSEWHERE = auto()
    """Another worker is at it."""
    TAKEN = auto()
    NOT_TAKEN = auto()
    SETTLED = auto()
    """Nothing is left to hand on: another worker did it, or it is a dead letter now."""


def idempotency_key(
    feed: FeedId, vendor_id: str, modified_at: datetime, content_hash: bytes, applied_at: datetime
) -> str:
    """The same version of a registration has the same key however often it is sent; it holds no id.

    `applied_at` tells apart what came back: values that changed to others and back under one stamp are handed on three times, and
    a receiver that knew the third by the first's key would keep the second's values.
    """
    said = f"{feed}\x1f{vendor_id}\x1f{modified_at.isoformat()}\x1f{content_hash.hex()}\x1f{applied_at.isoformat()}"
    return hashlib.sha256(said.encode()).hexdigest()[:32]


class Handoff:
    """Delivers one connection's outbox."""

    def __init__(self, database: Database, sink: Sink, *, crash: CrashPlan | None = None) -> None:
        self._db = database
        self._sink = sink
        self._crash = crash or CrashPlan()
        self._failing: set[str] = set()
        """Registrations that were not taken since the receiver last took or refused one."""
        self._uncounted = True
        """Whether any may have failed since one was last taken, in this process or before it."""

    async def deliver(self, connection: str, *, stop: asyncio.Event | None = None) -> HandoffReport:
        """Hand on all that waits. Several changes of one registration that wait together are handed on as the newest.

        What is not taken is postponed, alone; in an outage everything is. What another worker is just handing on is left to it,
        with what came after. `stop`: ends it between two records. Cancelling it instead may leave one sent and not noted, to be
        sent again.
        """
        report = HandoffReport()
        stop = stop or asyncio.Event()
        ours = True
        while ours and not stop.is_set():
            ours = False
            for one in await self._claim(connection):
                if stop.is_set():
                    break
                try:
                    outcome = await self._one(one, report)
                except ReceiverAway as away:
                    await self._postpone_all(one, report, away.retry_after)
                    return report
                ours = ours or outcome is not _Outcome.ELSEWHERE
                if outcome is _Outcome.TAKEN:
                    await self._count_failures(connection)
                if outcome is _Outcome.NOT_TAKEN and self._is_outage():
                    await self._postpone_all(one, report, None)
                    return report
        return report

    async def _claim(self, connection: str) -> list[_Waiting]:
        async with self._db.transaction() as conn:
            found = await conn.execute(SQL.claim, {"connection": connection, "limit": BATCH})
            return [
                _Waiting(FeedId(connection, feed), vendor_id, table, attempts)
                for feed, vendor_id, table, attempts in await found.fetchall()
            ]

    async def _one(self, one: _Waiting, report: HandoffReport) -> _Outcome:
        """Raises ReceiverAway, with nothing changed.

        The transaction idles while the receiver is asked, and takes no second connection: as many may deliver at once as there
        are connections.
        """
        async with self._db.transaction() as conn:
            if not await _alone(conn, one.lock):
                return _Outcome.ELSEWHERE
            version = await _to_send(conn, one)
            if version is None:
                return _Outcome.SETTLED
            if version.document is None:
                return await self._dead(conn, one, version, report, "NO_ROW")
            try:
                await self._send(one, version, version.document.encode())
            except PermanentError:
                self._failing.clear()
                return await self._dead(conn, one, version, report, "HANDOFF_REFUSED")
            except ReceiverAway:
                raise
            except (TransientError, TimeoutError) as error:
                return await self._not_taken(conn, one, version, report, error)
            self._crash.reach(CrashPoint.HANDOFF_SENT)
            noted = {"id": version.number, "modified_at": version.modified_at, "content_hash": version.content_hash}
            await conn.execute(SQL.handed, {**one.names, **noted})
        report.handed += 1
        return _Outcome.TAKEN

    async def _send(self, one: _Waiting, version: _Version, payload: bytes) -> None:
        key = idempotency_key(one.feed, one.vendor_id, version.modified_at, version.content_hash, version.applied_at)
        async with asyncio.timeout(LONGEST_ANSWER_S):
            await self._sink.hand_on(key, payload)

    async def _not_taken(
        self, conn: AsyncConnection[Any], one: _Waiting, version: _Version, report: HandoffReport, error: Exception
    ) -> _Outcome:
        """It waits for its next turn; having failed too often by itself, it is a dead letter, so that somebody sees it. Never in
        an outage."""
        self._failing.add(one.lock)
        self._uncounted = True
        if version.failures >= MOST_FAILURES and not self._is_outage():
            LOG.warning(
                "registration is not taken while others are; it is a dead letter now",
                connection=one.feed.connection,
                feed=one.feed.feed,
                failures=version.failures + 1,
                reason=str(error) or type(error).__name__,
            )
            return await self._dead(conn, one, version, report, "HANDOFF_REFUSED")
        report.postponed = True
        await conn.execute(SQL.not_taken, {**one.names, "id": version.number, "seconds": _pause(one.attempts)})
        return _Outcome.NOT_TAKEN

    async def _dead(
        self, conn: AsyncConnection[Any], one: _Waiting, version: _Version, report: HandoffReport, code: str
    ) -> _Outcome:
        payload = (version.document or "{}").encode()
        await conn.execute(SQL.bury, {**one.names, "after": 0, "id": version.number, "code": code, "payload": payload})
        report.dead += 1
        return _Outcome.SETTLED

    def _is_outage(self) -> bool:
        return len(self._failing) >= OUTAGE_AFTER

    async def _count_failures(self, connection: str) -> None:
        """One was taken, so there is no outage: what was not taken before it has failed by itself."""
        self._failing.clear()
        if self._uncounted:
            async with self._db.transaction() as conn:
                await conn.execute(SQL.count_failures, {"connection": connection})
            self._uncounted = False

    async def _postpone_all(self, one: _Waiting, report: HandoffReport, asked: timedelta | None) -> None:
        """All that is due waits, as long as the one that was tried or as the receiver `asked`."""
        report.postponed = True
        quiet = min(LONGEST_QUIET_S, asked.total_seconds()) if asked else 0.0
        async with self._db.transaction() as conn:
            parameters = {"connection": one.feed.connection, "seconds": max(quiet, _pause(one.attempts))}
            await conn.execute(SQL.postpone, parameters)


def _lock(feed: FeedId, vendor_id: str) -> str:
    """Whoever hands on a registration holds it, and whoever decides that it was never handed on."""
    return f"handoff:{feed}/{vendor_id}"


def _pause(attempts: int) -> float:
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts, 10))


async def _alone(conn: AsyncConnection[Any], lock: str) -> bool:
    """Take the lock until the transaction ends; False when another worker holds it."""
    return await (await conn.execute(SQL.alone, {"lock": lock})).fetchone() == (True,)


async def _to_send(conn: AsyncConnection[Any], one: _Waiting) -> _Version | None:
    statement = sql.SQL(SQL.to_send).format(target=sql.Identifier(*one.table.split(".")))
    row = await (await conn.execute(statement, one.names)).fetchone()
    return None if row is None else _Version(*row)


async def find_lost(database: Database, target: Target) -> int:
    """Registrations that were applied and have no downstream effect, nor one that waits: they become dead letters, to be
    looked at and replayed. Returns how many.

    This look is over all of them, and each may be applied anew or handed on after it; so each is looked at again, alone.
    """
    names = {"connection": target.feed.connection, "feed": target.feed.feed, "vendor_id": None}
    statement = sql.SQL(SQL.lost).format(target=sql.Identifier(*target.contract.table.split(".")))
    async with database.transaction() as conn:
        seen = await (await conn.execute(statement, names)).fetchall()
    return sum([await _bury_lost(database, target, vendor_id) for vendor_id, *_ in seen])


async def _bury_lost(database: Database, target: Target, vendor_id: str) -> bool:
    """Whether it is lost, and a dead letter now. One that another worker is just handing on is left to the next look."""
    names = {"connection": target.feed.connection, "feed": target.feed.feed, "vendor_id": vendor_id}
    table = sql.Identifier(*target.contract.table.split("."))
    async with database.transaction() as conn:
        if not await _alone(conn, _lock(target.feed, vendor_id)):
            return False
        await conn.execute(sql.SQL(SQL.keep_version).format(target=table), names)
        found = await (await conn.execute(sql.SQL(SQL.lost).format(target=table), names)).fetchone()
        if found is None:
            return False
        _, modified_at, content_hash, page_id = found
        row = {**names, "modified_at": modified_at, "content_hash": content_hash, "page_id": page_id}
        queued = await (await conn.execute(SQL.queue_dead, {**row, "table": target.contract.table})).fetchone()
        assert queued is not None
        [number] = queued
        await conn.execute(
            SQL.bury, {**names, "after": number - 1, "id": number, "code": "NO_EFFECT", "payload": b"{}"}
        )
    return True


async def revive(
    database: Database,
    *,
    connection: str | None = None,
    feed: str | None = None,
    code: str | None = None,
    contract_version: str | None = None,
    keys: Sequence[str] | None = None,
    dry_run: bool = False,
) -> int:
    """Put dead letters of the handoff back into the outbox; returns how many. Every argument narrows; None does not. `dry_run`:
    how many they would be."""
    chosen = {"connection": connection, "feed": feed, "code": code, "contract_version": contract_version}
    async with database.transaction() as conn:
        found = await conn.execute(SQL.revive, {**chosen, "keys": list(keys) if keys is not None else None})
        number = len(await found.fetchall())
        if dry_run:
            await conn.rollback()
        return number
