"""Grants from Postgres: one statement each, by the database's clock, shared by every worker."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync_pipeline.gateway.quota import LANES, LEASE_S, Pace, cool_off, lease_size, tree
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import Deferred, TransientError
from sync_pipeline.kernel.feed import Lane, QuotaFeedback, QuotaNode
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

LONGEST_WAIT_S = 30.0
"""A longer wait ends the work unit with Deferred: no worker is held for it."""

LOCAL_SHARE = 16
"""Without the store a worker keeps to a sixteenth of every window."""


@dataclass(slots=True)
class _Hand:
    """Tokens taken and not used yet: by whom, of which nodes, and until when they are good."""

    tokens: int = 0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class _Answer:
    granted: bool
    wait: float
    scope: str
    window: str
    now: datetime


class Quota:
    """The quota tree of one connection, as one worker uses it."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[QuotaNode],
        *,
        database: Database,
        clock: Clock,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._name = name
        self._nodes = tree(name, nodes)
        self._db = database
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._hands: dict[tuple[Lane, tuple[str, ...]], _Hand] = {}
        self._lock = asyncio.Lock()
        self._refusals = 0
        self._local_next = 0.0
        self._booted = False

    async def open(self) -> None:
        async with self._db.transaction() as conn:
            for node in self._nodes:
                for pace in node.paces:
                    await conn.execute(
                        SQL.ensure_window,
                        {
                            "scope": node.scope,
                            "name": pace.name,
                            "limit": pace.limit,
                            "seconds": pace.seconds,
                            "kind": pace.kind,
                            "burst": pace.burst,
                            "emission": pace.emission,
                            "zone": pace.zone,
                            "slack": pace.slack,
                        },
                    )
                names = [pace.name for pace in node.paces]
                await conn.execute(SQL.drop_other_windows, {"scope": node.scope, "names": names})

    async def close(self) -> None:
        """Give back the tokens in hand."""
        for key in list(self._hands):
            await self._return(key)

    async def acquire(self, weight: int = 1, *, lane: Lane = "P2", endpoint: str | None = None) -> float:
        """Wait for a grant of all nodes; returns the seconds waited. Raises Deferred for a wait above 30 s."""
        nodes = [node for node in self._nodes if node.endpoint in (None, endpoint)]
        paces = [pace for node in nodes for pace in node.paces]
        key = (lane, tuple(node.scope for node in nodes))
        if self._from_hand(key, weight):
            return 0.0
        waited = 0.0
        while True:
            async with self._lock:
                if self._from_hand(key, weight):
                    return waited
                granted, wait = await self._ask(key, paces, weight, LONGEST_WAIT_S - waited)
            asleep = self._monotonic()
            if wait > 0:
                await self._clock.sleep(wait)
            waited += wait
            # A grant is for now: one that this process slept through may arrive together with later ones.
            if granted and self._monotonic() - asleep <= wait + LEASE_S:
                return waited

    def _from_hand(self, key: tuple[Lane, tuple[str, ...]], weight: int) -> bool:
        hand = self._hands.get(key)
        if hand is None or hand.tokens < weight or self._monotonic() >= hand.until:
            return False
        hand.tokens -= weight
        return True

    async def _ask(
        self, key: tuple[Lane, tuple[str, ...]], paces: Sequence[Pace], weight: int, patience: float
    ) -> tuple[bool, float]:
        """(whether there is a grant, seconds to wait: for the grant, or before asking again)."""
        lane, scopes = key
        tokens = max(weight, lease_size(paces))
        try:
            if not self._booted:
                await self._look_at_boot()
            await self._return(key)
            answer = await self._grant(scopes, lane, tokens, patience)
        except TransientError:
            self._booted = False
            return True, self._local_share(paces, weight)
        if answer.granted:
            self._hands[key] = _Hand(tokens - weight, self._monotonic() + answer.wait + LEASE_S)
            return True, answer.wait
        if answer.wait > patience:
            raise Deferred(
                answer.now + timedelta(seconds=answer.wait),
                f"{self._name}: the vendor's quota ({answer.window} of {answer.scope}) has no call to give ({lane})",
            )
        return False, max(0.005, answer.wait) * (1 + 0.1 * self._random())

    async def _return(self, key: tuple[Lane, tuple[str, ...]]) -> None:
        hand = self._hands.pop(key, None)
        if hand is None or hand.tokens == 0:
            return
        async with self._db.transaction() as conn:
            await conn.execute(SQL.give_back, {"scopes": list(key[1]), "tokens": hand.tokens})

    async def _look_at_boot(self) -> None:
        async with self._db.transaction() as conn:
            await conn.execute(SQL.booted, {"scopes": [node.scope for node in self._nodes]})
        self._booted = True

    async def _grant(self, scopes: tuple[str, ...], lane: Lane, tokens: int, patience: float) -> _Answer:
        async with self._db.transaction() as conn:
            await conn.execute("set local synchronous_commit = off")
            found = await conn.execute(
                SQL.grant,
                {"scopes": list(scopes), "lane": LANES.index(lane), "tokens": tokens, "longest": max(0.0, patience)},
            )
            row = await found.fetchone()
        if row is None:
            raise TransientError(f"{self._name}: its quota rows are gone; the session makes them anew when it starts")
        return _Answer(*row)

    def _local_share(self, paces: Sequence[Pace], weight: int) -> float:
        """The store cannot be asked: an even trickle of a fixed share, never an open gate."""
        slowest = max(pace.emission for pace in paces) * LOCAL_SHARE * weight
        now = self._monotonic()
        start = max(now, self._local_next)
        self._local_next = start + slowest
        wait = start - now
        if wait > LONGEST_WAIT_S:
            raise Deferred(
                self._clock.now() + timedelta(seconds=wait),
                f"{self._name}: the quota store cannot be reached and the local share is spent",
            )
        return wait

    async def refused(self, retry_after: timedelta | None, *, endpoint: str | None = None) -> float:
        """Book a 429 (or a 503 with Retry-After): nobody asks before the vendor allows it. Returns the seconds."""
        self._hands.clear()
        self._refusals += 1
        seconds = retry_after.total_seconds() if retry_after else cool_off(self._refusals, self._random())
        scopes = [node.scope for node in self._nodes if node.endpoint in (None, endpoint)]
        async with self._db.transaction() as conn:
            await conn.execute(SQL.block, {"scopes": scopes, "seconds": seconds})
        return seconds

    def accepted(self) -> None:
        self._refusals = 0

    async def told(self, feedback: QuotaFeedback, now: datetime) -> None:
        """The vendor's word on a window: it only ever lowers the estimate, until its reset."""
        found = [(node, pace) for node in self._nodes for pace in node.paces if pace.name == feedback.window]
        if not found or feedback.remaining is None or feedback.remaining > found[0][1].limit // 2:
            return
        node, pace = found[0]
        reset_s = pace.seconds
        if feedback.reset_at is not None:
            reset_s = min(pace.seconds, max(0.0, (feedback.reset_at - now).total_seconds()))
        async with self._db.transaction() as conn:
            await conn.execute(
                SQL.lower,
                {
                    "scopes": [node.scope],
                    "name": pace.name,
                    "remaining": feedback.remaining,
                    "reset_s": math.ceil(reset_s),
                },
            )
