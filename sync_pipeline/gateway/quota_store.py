"""Grants from Postgres: one statement each, by the database's clock, shared by every worker."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from datetime import datetime, timedelta

from sync_pipeline.gateway.quota import LEASE_S, cool_off, lease_size, paces
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import Deferred, TransientError
from sync_pipeline.kernel.feed import QuotaFeedback, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

LONGEST_WAIT_S = 30.0
"""A longer wait ends the work unit with Deferred: no worker is held for it."""

LOCAL_SHARE = 16
"""Without the store a worker keeps to a sixteenth of every window."""


class Quota:
    """The quota of one connection, as one worker uses it."""

    def __init__(
        self,
        scope: str,
        windows: tuple[QuotaWindow, ...],
        *,
        database: Database,
        clock: Clock,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._scope = scope
        self._paces = paces(scope, windows)
        self._db = database
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._lease_size = lease_size(self._paces)
        self._in_hand = 0
        self._in_hand_until = 0.0
        self._lock = asyncio.Lock()
        self._refusals = 0
        self._local_next = 0.0
        self._names = [pace.name for pace in self._paces]
        self._emissions = [pace.emission for pace in self._paces]

    async def open(self) -> None:
        async with self._db.transaction() as conn:
            for pace in self._paces:
                await conn.execute(
                    SQL.ensure_window,
                    {
                        "scope": self._scope,
                        "name": pace.name,
                        "limit": pace.limit,
                        "seconds": pace.seconds,
                        "kind": "sliding",
                        "burst": pace.burst,
                    },
                )
            await conn.execute(SQL.drop_other_windows, {"scope": self._scope, "names": self._names})

    async def acquire(self, weight: int = 1) -> float:
        """Wait for a grant; returns the seconds waited. Raises Deferred for a wait above 30 s."""
        if self._in_hand >= weight and self._monotonic() < self._in_hand_until:
            self._in_hand -= weight
            return 0.0
        async with self._lock:
            if self._in_hand >= weight and self._monotonic() < self._in_hand_until:
                self._in_hand -= weight
                return 0.0
            wait = await self._reserve(weight)
        if wait > 0:
            await self._clock.sleep(wait)
        return wait

    async def _reserve(self, weight: int) -> float:
        tokens = max(weight, self._lease_size)
        try:
            window, wait, now = await self._grant(tokens)
        except TransientError:
            return self._local_share(weight)
        if wait > LONGEST_WAIT_S:
            await self._give_back(tokens)
            raise Deferred(
                now + timedelta(seconds=wait), f"{self._scope}: the vendor's quota ({window}) has no call to give"
            )
        self._in_hand = tokens - weight
        self._in_hand_until = self._monotonic() + wait + LEASE_S
        return wait

    async def _grant(self, tokens: int) -> tuple[str, float, datetime]:
        async with self._db.transaction() as conn:
            await conn.execute("set local synchronous_commit = off")
            found = await conn.execute(
                SQL.grant,
                {"scope": self._scope, "tokens": tokens, "names": self._names, "emissions": self._emissions},
            )
            row = await found.fetchone()
        if row is None:
            raise TransientError(f"{self._scope}: its quota rows are gone; the session makes them anew when it starts")
        return row[0], row[1], row[2]

    async def _give_back(self, tokens: int) -> None:
        async with self._db.transaction() as conn:
            await conn.execute(
                SQL.give_back,
                {"scope": self._scope, "tokens": tokens, "names": self._names, "emissions": self._emissions},
            )

    def _local_share(self, weight: int) -> float:
        """The store cannot be asked: an even trickle of a fixed share, never an open gate."""
        slowest = max(pace.emission for pace in self._paces) * LOCAL_SHARE * weight
        now = self._monotonic()
        start = max(now, self._local_next)
        self._local_next = start + slowest
        wait = start - now
        if wait > LONGEST_WAIT_S:
            raise Deferred(
                self._clock.now() + timedelta(seconds=wait),
                f"{self._scope}: the quota store cannot be reached and the local share is spent",
            )
        return wait

    async def refused(self, retry_after: timedelta | None) -> float:
        """Book a 429 (or a 503 with Retry-After): nobody asks before the vendor allows it. Returns the seconds."""
        self._in_hand = 0
        self._refusals += 1
        seconds = retry_after.total_seconds() if retry_after else cool_off(self._refusals, self._random())
        async with self._db.transaction() as conn:
            await conn.execute(SQL.block, {"scope": self._scope, "seconds": seconds})
        return seconds

    def accepted(self) -> None:
        self._refusals = 0

    async def told(self, feedback: QuotaFeedback, now: datetime) -> None:
        """The vendor's word on a window: it only ever lowers the estimate, until its reset."""
        pace = next((pace for pace in self._paces if pace.name == feedback.window), None)
        if pace is None or feedback.remaining is None or feedback.remaining > pace.limit // 2:
            return
        reset_s = pace.seconds
        if feedback.reset_at is not None:
            reset_s = min(pace.seconds, max(0.0, (feedback.reset_at - now).total_seconds()))
        async with self._db.transaction() as conn:
            await conn.execute(
                SQL.lower,
                {
                    "scope": self._scope,
                    "name": pace.name,
                    "remaining": feedback.remaining,
                    "emission": pace.emission,
                    "reset_s": math.ceil(reset_s),
                },
            )
