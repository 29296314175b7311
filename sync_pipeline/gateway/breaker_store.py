"""Breakers shared through Postgres; read at most once a second while closed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta

from sync_pipeline.gateway.breaker import CREDENTIAL, THRESHOLD, TIMING, Breaker, Outcome, Timing, admit, is_credential
from sync_pipeline.gateway.quota_store import LONGEST_WAIT_S, STORE_PATIENCE_S
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import AuthenticationError, Deferred, TransientError
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

BY_HAND = "opened by an operator"
"""The reason that tells an operator's opening from all others."""

_lease: ContextVar[str] = ContextVar("lease", default="")
"""Of the request that this task sends: what its probes are held by, if it is one."""


class Breakers:
    """The breakers of one connection, as one worker sees them."""

    def __init__(
        self,
        connection: str,
        owner: str,
        *,
        database: Database,
        clock: Clock,
        monotonic: Callable[[], float],
        timing: Timing = TIMING,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._admissions = itertools.count()
        self._db = database
        self._clock = clock
        self._monotonic = monotonic
        self._known: dict[str, Breaker] = {}
        self._timing = timing
        self._read_at = float("-inf")
        self._failed: set[str] = set()
        """Endpoints whose last answer here was a failure."""
        self._noted_at: dict[str, float] = {}

    @asynccontextmanager
    async def admitted(self, endpoint: str, credential: str) -> AsyncIterator[None]:
        """Entered when a request may go, left when it has ended. `credential`: the breaker of the one in use
        (`breaker.credential_scope`).

        A probe that has neither closed nor opened its breaker by then (it was refused for the limit, or for good, or never
        went) is given back: it says nothing of what the breaker is for, and the next one need not wait for its lease to end.

        Raises Deferred for a wait above 30 s, AuthenticationError while the vendor is known to refuse the credential."""
        lease = f"{self._owner} {next(self._admissions)}"
        mark = _lease.set(lease)
        renewing: asyncio.Task[None] | None = None
        try:
            for scope in (CREDENTIAL, credential, endpoint):
                if await self._admit(scope, lease) and renewing is None:
                    renewing = asyncio.create_task(self._renew(lease))
            yield
        finally:
            _lease.reset(mark)
            if renewing is not None:
                renewing.cancel()
                await asyncio.gather(renewing, return_exceptions=True)
                await self._release(lease)

    async def _admit(self, scope: str, lease: str) -> bool:
        """Whether the request is the breaker's probe."""
        begun = self._monotonic()
        while True:
            breaker = await self._current(scope)
            verdict = admit(breaker)
            if verdict == "send":
                return False
            if verdict == "probe":
                if await self._win_probe(scope, lease):
                    return True
                await self._clock.sleep(self._timing.poll_s)
                continue
            by_hand = breaker.reason == BY_HAND
            if is_credential(scope) and not by_hand:
                raise AuthenticationError(
                    f"{self._connection}: the vendor has refused this connection's credential, or what it asks for"
                    f"{f': {breaker.reason}' if breaker.reason else ''}. Correct the token, the base_url or the account in its "
                    f"settings, which is tried at once; as it is, it is tried again in {max(0.0, breaker.retry_in_s):.0f} s"
                )
            if breaker.state == "open":
                wait, until_s = max(0.01, breaker.retry_in_s), breaker.retry_in_s
            else:  # another worker's probe is on its way: its answer may come at any moment, or never
                wait, until_s = self._timing.poll_s, breaker.probe_expires_in_s or self._timing.poll_s
            if self._monotonic() - begun + wait > LONGEST_WAIT_S:
                raise Deferred(
                    self._clock.now() + timedelta(seconds=max(wait, until_s)),
                    f"{self._connection} {scope}: its breaker is open{f', {BY_HAND}' if by_hand else ''}",
                    awaits="breaker",
                )
            await self._clock.sleep(wait)

    async def _current(self, scope: str) -> Breaker:
        known = self._known.get(scope)
        stale = self._monotonic() - self._read_at >= self._timing.poll_s
        if stale or (known is not None and known.state != "closed"):
            # A store that cannot be asked opens nothing: the quota keeps a worker to its local share meanwhile.
            with contextlib.suppress(TransientError):
                found = await self._db.statement(
                    SQL.breaker_read, {"connection": self._connection}, patience_s=STORE_PATIENCE_S
                )
                self._known = {row[0]: Breaker(row[0], row[1], row[2], row[3] or 0.0, *row[4:]) for row in found}
            self._read_at = self._monotonic()
        return self._known.get(scope, Breaker(scope))

    async def _win_probe(self, scope: str, lease: str) -> bool:
        async with self._db.transaction() as conn:
            found = await conn.execute(
                SQL.breaker_probe,
                {"connection": self._connection, "scope": scope, "lease": lease, "ttl": self._timing.probe_s},
            )
            return await found.fetchone() is not None

    async def _renew(self, lease: str) -> None:
        """While the probe lives, however long its grant, its token and its answer take. (By real time, as the lease runs out.)"""
        names = {"connection": self._connection, "lease": lease, "ttl": self._timing.probe_s}
        while True:
            await asyncio.sleep(self._timing.probe_s / 3)
            with contextlib.suppress(TransientError):
                await self._db.statement(SQL.breaker_renew, names, patience_s=STORE_PATIENCE_S)

    async def _release(self, lease: str) -> None:
        # A store that cannot be asked leaves the lease to its end.
        with contextlib.suppress(TransientError):
            names = {"connection": self._connection, "lease": lease}
            await self._db.statement(SQL.breaker_release, names, patience_s=STORE_PATIENCE_S)

    async def report(self, endpoint: str, credential: str, outcome: Outcome, reason: str) -> None:
        """Tell the breakers how a request ended, while it is `admitted`: a probe is known by that. Costs nothing while all is
        well. A store that cannot be asked hears nothing, and the caller gets the vendor's answer all the same."""
        with contextlib.suppress(TransientError):
            if outcome == "good":
                await self._good(endpoint, credential)
            elif outcome == "transient":
                self._failed.add(endpoint)
                await self._bad(endpoint, reason, THRESHOLD, self._timing.unnoted_s, self._timing.first_s)
            elif outcome == "auth":
                await self._bad(credential, reason, 1, 0.0, self._timing.credential_s)

    async def _good(self, endpoint: str, credential: str) -> None:
        if self._worth_noting(endpoint):
            self._failed.discard(endpoint)
            self._noted_at[endpoint] = self._monotonic()
            names = {"connection": self._connection, "scope": endpoint}
            await self._db.statement(SQL.breaker_good, names, patience_s=STORE_PATIENCE_S)
        # One credential that is taken ends the story of those that were refused before it.
        for scope in (endpoint, credential, *(name for name in self._known if is_credential(name))):
            if self._known.get(scope, Breaker(scope)).state != "closed":
                await self._close(scope)

    async def _close(self, scope: str) -> None:
        names = {"connection": self._connection, "scope": scope, "forced": False, "by_hand": BY_HAND}
        await self._db.statement(SQL.breaker_close, names, patience_s=STORE_PATIENCE_S)
        self._read_at = float("-inf")

    def _worth_noting(self, endpoint: str) -> bool:
        """May this good answer end a row of failures, whoever met them? Not where a look that is fresh shows none. So a row that
        has lasted longer than a look holds had no good answer since then, and a healthy endpoint costs nothing."""
        if endpoint in self._failed:
            return True
        fresh_since = self._monotonic() - self._timing.poll_s
        if self._noted_at.get(endpoint, float("-inf")) > fresh_since:
            return False
        known = self._known.get(endpoint, Breaker(endpoint))
        return self._read_at <= fresh_since or not known.good or known.failures > 0

    async def _bad(self, scope: str, reason: str, enough: int, unnoted_s: float, first_s: float) -> None:
        found = await self._db.statement(
            SQL.breaker_failed,
            {
                "connection": self._connection,
                "scope": scope,
                "lease": _lease.get(),
                "enough": enough,
                "unnoted": unnoted_s,
                "first": first_s,
                "longest": self._timing.longest_s,
                "reason": reason,
            },
            patience_s=STORE_PATIENCE_S,
        )
        if found[0][0] != "closed":
            self._read_at = float("-inf")


async def by_hand(database: Database, connection: str, scope: str, *, seconds: float | None) -> bool:
    """An operator opens a breaker for that long, or closes it (None). Whether anything changed."""
    names = {"connection": connection, "scope": scope, "by_hand": BY_HAND}
    if seconds is None:
        return bool(await database.statement(SQL.breaker_close, {**names, "forced": True}))
    await database.statement(SQL.breaker_open, {**names, "cool_down": seconds})
    return True
