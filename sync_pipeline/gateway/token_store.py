"""A credential's row in Postgres: its pair, sealed; its lock; writes that name the generation they were made from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import AsyncConnection

from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.gateway.tokens import TokenState
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.store.database import LOST, Database
from sync_pipeline.store.sql import queries
from sync_pipeline.trust.sealing import Sealer
from sync_pipeline.trust.secrets import Secret

SQL = queries(__package__)

KEEP_ATTEMPTS = 7
KEEP_PAUSE_S = 0.5
"""A new pair may exist nowhere but here: it is tried for a while to keep it."""


@dataclass(frozen=True, slots=True)
class Held:
    """A state and the pair that belongs to it."""

    state: TokenState
    pair: Pair | None = None


class TokenStore:
    """The token row of one credential. `credential` is a name: the connection's, or one that several connections share."""

    def __init__(
        self, credential: str, *, database: Database, sealer: Sealer, clock: Clock, crash: CrashPlan | None = None
    ) -> None:
        self.credential = credential
        self._db = database
        self._sealer = sealer
        self._clock = clock
        self._crash = crash or CrashPlan()

    async def read(self) -> Held:
        """The row as it is. Raises ConfigurationError when the pair cannot be opened with the key at hand."""
        async with self._db.transaction() as conn:
            return await self._read(conn)

    async def rejected(self, generation: int) -> None:
        """The vendor answered 401 to this generation. Nothing happens when there is a newer one."""
        async with self._db.transaction() as conn:
            await conn.execute(SQL.token_rejected, {"credential": self.credential, "generation": generation})

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[Lock | None]:
        """Hold the credential's lock; None when somebody else does. It ends with this process.

        No transaction is open while the lock is held. Where the block ends in an error the connection is closed, so that
        the lock goes with it whatever state it is in.
        """
        names = {"credential": self.credential}
        async with self._db.transaction() as conn:
            try:
                await conn.execute(SQL.token_ensure, names)
                found = await conn.execute(SQL.token_lock, names)
                row = await found.fetchone()
                await conn.commit()
                if row is None or not row[0]:
                    yield None
                    return
                yield Lock(self, conn)
                await conn.execute(SQL.token_unlock, names)
            except BaseException:
                await conn.close()
                raise

    async def _keep(self, state: TokenState, pair: Pair, expected: int) -> bool:
        """Keep a new pair by a connection from the pool, however many tries that takes (about a minute of them)."""
        for attempt in range(KEEP_ATTEMPTS):
            await self._clock.sleep(KEEP_PAUSE_S * 2**attempt)
            try:
                async with self._db.transaction() as conn:
                    # The commit whose connection was lost may have been one.
                    return await self._write(conn, state, pair, expected) or (await self._read(conn)).pair == pair
            except TransientError:
                if attempt == KEEP_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _read(self, conn: AsyncConnection[Any]) -> Held:
        found = await conn.execute(SQL.token_read, {"credential": self.credential})
        row = await found.fetchone()
        if row is None:
            return Held(TokenState())
        state = replace(TokenState(row[0], *row[2:12]), mints=tuple(row[12]))
        return Held(state, self._opened(state.generation, row[1]))

    async def _write(self, conn: AsyncConnection[Any], state: TokenState, pair: Pair | None, expected: int) -> bool:
        found = await conn.execute(
            SQL.token_write,
            {
                "credential": self.credential,
                "expected": expected,
                "generation": state.generation,
                "sealed": None if pair is None else self._sealed(state.generation, pair),
                "has_refresh": state.has_refresh,
                "issued_at": state.issued_at,
                "expires_at": state.expires_at,
                "sent_at": state.sent_at,
                "uncertain_since": state.uncertain_since,
                "reauthorise_since": state.reauthorise_since,
                "reason": state.reason,
                "retry_at": state.retry_at,
                "failures": state.failures,
                "mints": list(state.mints),
            },
        )
        return await found.fetchone() is not None

    def _place(self, generation: int) -> str:
        return f"{self.credential} {generation}"

    def _sealed(self, generation: int, pair: Pair) -> bytes:
        values = [pair.access.reveal(), pair.refresh.reveal() if pair.refresh else None]
        return self._sealer.seal(json.dumps(values).encode(), self._place(generation))

    def _opened(self, generation: int, sealed: bytes | None) -> Pair | None:
        if sealed is None:
            return None
        access, refresh = json.loads(self._sealer.open(bytes(sealed), self._place(generation)))
        return Pair(Secret(access), Secret(refresh) if refresh is not None else None)


class Lock:
    """The lock on a credential, while it is held. Reads and writes go by its own connection: a process that refreshes many
    credentials at once needs one connection for each, not two."""

    def __init__(self, store: TokenStore, conn: AsyncConnection[Any]) -> None:
        self._store = store
        self._conn = conn

    async def read(self) -> Held:
        held = await self._store._read(self._conn)
        await self._conn.commit()
        return held

    async def write(self, state: TokenState, pair: Pair | None = None, *, expected: int) -> bool:
        """Replace generation `expected`, committed on return. `pair` None: the pair stays. False: another generation
        stands there by now."""
        written = await self._store._write(self._conn, state, pair, expected)
        await self._conn.commit()
        return written

    async def keep(self, state: TokenState, pair: Pair, *, expected: int) -> bool:
        """As `write`, for a pair that the vendor just gave: a lost database connection is not the end of it."""
        crash = self._store._crash
        try:
            written = await self._store._write(self._conn, state, pair, expected)
            crash.reach(CrashPoint.REFRESH_BEFORE_COMMIT)
            await self._conn.commit()
        except LOST:
            with contextlib.suppress(psycopg.Error):  # one that lives goes on to hold the lock, and must give it back
                await self._conn.rollback()
            return await self._store._keep(state, pair, expected)
        crash.reach(CrashPoint.REFRESH_AFTER_COMMIT)
        return written
