"""One row for each attempt at a call, written in batches. Endpoints are templates: no id, no query, no secret."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import NamedTuple

from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries
from sync_pipeline.trust.logger import get_logger

SQL = queries(__package__)
BATCH = 100
EVERY_S = 0.2


class Entry(NamedTuple):
    """A row of `audit` in queries.sql: the columns in their order."""

    at: datetime
    correlation_id: str
    connection: str
    feed: str
    endpoint: str
    method: str
    status: int | None
    error_class: str | None
    attempt: int
    waited_ms: float
    latency_ms: float | None
    bytes: int | None
    payload_hash: str | None
    lane: str
    token_generation: int | None = None


class Audit:
    """Buffers entries and writes them soon; `close` writes the rest, whatever ended the session."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._waiting: list[Entry] = []
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    def open(self) -> None:
        self._writer = asyncio.create_task(self._write_on())

    def add(self, entry: Entry) -> None:
        self._waiting.append(entry)
        if len(self._waiting) >= BATCH:
            self._wake.set()

    async def _write_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), EVERY_S if self._waiting else 5 * EVERY_S)
            self._wake.clear()
            with contextlib.suppress(TransientError):
                await self.flush()

    async def flush(self) -> None:
        """Write what waits. On a lost connection it goes on waiting."""
        async with self._lock:
            batch, self._waiting = self._waiting, []
            if not batch:
                return
            try:
                async with self._db.transaction() as conn:
                    await conn.execute("set local synchronous_commit = off")
                    async with conn.cursor() as cursor, cursor.copy(SQL.audit) as copy:
                        for entry in batch:
                            await copy.write_row(entry)
            except BaseException:
                self._waiting = batch + self._waiting
                raise

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        try:
            await self.flush()
        except TransientError:
            get_logger(__name__).error("audit rows could not be written", rows=len(self._waiting))
