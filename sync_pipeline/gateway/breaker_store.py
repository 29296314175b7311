"""Breakers shared through Postgres; read at most once a second while closed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from sync_pipeline.gateway.breaker import CREDENTIAL, TIMING, Breaker, Outcome, Timing, admit, decide, is_credential
from sync_pipeline.gateway.quota_store import LONGEST_WAIT_S, STORE_PATIENCE_S
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import AuthenticationError, Deferred, TransientError
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


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
        self._failures: dict[str, int] = {}

    @asynccontextmanager
    async def admitted(self, endpoint: str, credential: str) -> AsyncIterator[None]:
        """Entered when a request may go, left when it has ended. `credential`: the breaker of the one in use
        (`breaker.credential_scope`).

        A probe that has neither closed nor opened its breaker by then (it was refused for the limit, or for good, or never
        went) is given back: it says nothing of what the breaker is for, and the next one need not wait for its lease to end.

        Raises Deferred for a wait above 30 s, AuthenticationError while the vendor is known to refuse the credential."""
        lease = f"{self._owner} {next(self._admissions)}"
        probing = False
        try:
            for scope in (CREDENTIAL, credential, endpoint):
                probing = await self._admit(scope, lease) or probing
            yield
        finally:
            if probing:
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
            if is_credential(scope):
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
                    f"{self._connection} {scope}: its breaker is open",
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

    async def _release(self, lease: str) -> None:
        # A store that cannot be asked leaves the lease to its end.
        with contextlib.suppress(TransientError):
            names = {"connection": self._connection, "lease": lease}
            await self._db.statement(SQL.breaker_release, names, patience_s=STORE_PATIENCE_S)

    async def report(self, endpoint: str, credential: str, outcome: Outcome, reason: str) -> None:
        """Tell the breakers how a request ended. Costs nothing while all is well."""
        scope = credential if outcome == "auth" else endpoint
        if outcome == "good":
            await self._recovered(endpoint)
            # One credential that is taken ends the story of those that were refused before it.
            for name in (endpoint, credential, *(name for name in self._known if is_credential(name))):
                await self._act(name, outcome, reason)
            return
        if outcome == "transient":
            self._failures[endpoint] = max(self._failures.get(endpoint, 0) + 1, await self._counted(endpoint))
        await self._act(scope, outcome, reason)

    async def _counted(self, endpoint: str) -> int:
        """Failures in a row, whoever saw them: a session that meets nothing else ends before it has seen enough by itself."""
        with contextlib.suppress(TransientError):
            names = {"connection": self._connection, "scope": endpoint}
            found = await self._db.statement(SQL.breaker_failed, names, patience_s=STORE_PATIENCE_S)
            return int(found[0][0]) if found else 0
        return 0

    async def _recovered(self, endpoint: str) -> None:
        known = self._known.get(endpoint, Breaker(endpoint))
        if not (self._failures.pop(endpoint, 0) or known.failures):
            return
        with contextlib.suppress(TransientError):
            names = {"connection": self._connection, "scope": endpoint}
            await self._db.statement(SQL.breaker_recovered, names, patience_s=STORE_PATIENCE_S)
        if known.state == "closed":
            self._known[endpoint] = replace(known, failures=0)

    async def _act(self, scope: str, outcome: Outcome, reason: str) -> None:
        breaker = self._known.get(scope, Breaker(scope))
        failures = self._failures.get(scope, 0)
        action = decide(breaker, failures, outcome, self._timing)
        if action.kind == "none":
            return
        names = {"connection": self._connection, "scope": scope, "forced": False}
        async with self._db.transaction() as conn:
            if action.kind == "close":
                await conn.execute(SQL.breaker_close, names)
            else:
                await conn.execute(
                    SQL.breaker_open,
                    {**names, "failures": failures, "cool_down": action.cool_down_s, "reason": reason},
                )
        self._read_at = float("-inf")


async def by_hand(database: Database, connection: str, scope: str, *, seconds: float | None) -> bool:
    """An operator opens a breaker for that long, or closes it (None). Whether anything changed."""
    names = {"connection": connection, "scope": scope, "forced": True}
    if seconds is None:
        return bool(await database.statement(SQL.breaker_close, names))
    opened = {**names, "failures": 0, "cool_down": seconds, "reason": "opened by an operator"}
    await database.statement(SQL.breaker_open, opened)
    return True
