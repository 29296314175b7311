"""A credential's row in Postgres: its pair, sealed; its lock; writes that name the generation they were made from."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.gateway.tokens import TokenState
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries
from sync_pipeline.trust.sealing import Sealer
from sync_pipeline.trust.secrets import Secret

SQL = queries(__package__)

KEEP_ATTEMPTS = 8
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
            found = await conn.execute(SQL.token_read, {"credential": self.credential})
            row = await found.fetchone()
        if row is None:
            return Held(TokenState())
        generation, sealed, *rest, mints = row
        return Held(TokenState(generation, *rest, mints=tuple(mints)), self._opened(generation, sealed))

    async def write(self, state: TokenState, pair: Pair | None, *, expected: int) -> bool:
        """Replace generation `expected`. `pair` None: the pair stays. False: another generation stands there by now."""
        async with self._db.transaction() as conn:
            return await self._write(conn, state, pair, expected)

    async def keep(self, state: TokenState, pair: Pair, *, expected: int) -> bool:
        """As `write`, for a pair that the vendor just gave: a lost database connection is not the end of it."""
        for attempt in range(KEEP_ATTEMPTS):
            try:
                async with self._db.transaction() as conn:
                    written = await self._write(conn, state, pair, expected)
                    self._crash.reach(CrashPoint.TOKEN_BEFORE_COMMIT)
                self._crash.reach(CrashPoint.TOKEN_AFTER_COMMIT)
            except TransientError:
                if attempt == KEEP_ATTEMPTS - 1:
                    raise
                await self._clock.sleep(KEEP_PAUSE_S * 2**attempt)
            else:
                # Not written where the commit before it was, although its connection was lost.
                return written or await self._is_kept(state, pair)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _is_kept(self, state: TokenState, pair: Pair) -> bool:
        held = await self.read()
        return held.state.generation == state.generation and held.pair == pair

    async def rejected(self, generation: int) -> None:
        """The vendor answered 401 to this generation. Nothing happens when there is a newer one."""
        async with self._db.transaction() as conn:
            await conn.execute(SQL.token_rejected, {"credential": self.credential, "generation": generation})

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[bool]:
        """Hold the credential's lock, if nobody else does (the value says which). It ends with this process.

        No transaction is open while the lock is held. Where the block ends in an error the connection is closed, so that
        the lock goes with it whatever state it is in.
        """
        names = {"credential": self.credential}
        async with self._db.transaction() as conn:
            await conn.execute(SQL.token_ensure, names)
            found = await conn.execute(SQL.token_lock, names)
            row = await found.fetchone()
            won = bool(row and row[0])
            try:
                await conn.commit()
                yield won
                if won:
                    await conn.execute(SQL.token_unlock, names)
            except BaseException:
                await conn.close()
                raise

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
