"""Until when the vendor wants to be left alone, as one worker was told, and what the store still has to hear of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence

from sync_pipeline.gateway.quota import cool_off
from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.store.database import Database, answered_by
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


class Blocks:
    """Instants are those of `monotonic`."""

    def __init__(self, *, monotonic: Callable[[], float], random: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._random = random
        self._until: dict[str, float] = {}
        """For each scope."""
        self._unwritten: dict[str, float] = {}
        """Those of them that the store does not know yet."""
        self._refused: set[str] = set()
        self._refusals = 0
        self._refused_at = -math.inf

    def seconds(self, scopes: Iterable[str]) -> float:
        """Until a call that is charged to these may go."""
        if not self._until:
            return 0.0
        return max(0.0, max(self._until.get(scope, -math.inf) for scope in scopes) - self._monotonic())

    def block(self, scopes: Sequence[str], seconds: float) -> None:
        """Known here before the store is told: what the vendor said stands, whatever becomes of the store."""
        until = self._monotonic() + seconds
        self._until.update({scope: max(until, self._until.get(scope, until)) for scope in scopes})

    def owe(self, scopes: Sequence[str], *, refused: bool = True) -> None:
        """What is known here of these the store is to hear. `refused`: and to believe in a lower limit, where nothing is said
        of it."""
        self._unwritten.update({scope: self._until[scope] for scope in scopes})
        if refused:
            self._refused.update(scopes)

    def refusal(self, retry_after_s: float | None, *, asked: float | None) -> float:
        """Seconds to leave the vendor alone after one. `asked`: when the refused call's grant was asked for. Those that were
        on their way when a refusal was read say nothing new, and neither does a second word in one answer."""
        if asked is None or asked > self._refused_at:
            self._refusals += 1
            self._refused_at = self._monotonic()
        return cool_off(max(1, self._refusals), self._random()) if retry_after_s is None else retry_after_s

    def accepted(self) -> None:
        self._refusals = 0

    async def write(self, database: Database, *, patience_s: float) -> None:
        """What the vendor asked for holds for everybody."""
        if not self._unwritten:
            return
        written, lowered = dict(self._unwritten), set(self._refused)
        try:
            async with answered_by(asyncio.get_running_loop().time() + patience_s):
                await self._book(database, written, lowered, patience_s)
        except TimeoutError:
            raise TransientError(f"the quota store did not answer in {patience_s:g} s; it is told again") from None
        # (another refusal may have come meanwhile)
        self._refused -= lowered
        self._unwritten = {scope: until for scope, until in self._unwritten.items() if written.get(scope) != until}

    async def _book(self, database: Database, blocks: dict[str, float], lowered: set[str], patience_s: float) -> None:
        async with database.transaction(patience_s=patience_s) as conn:
            await conn.execute(SQL.lock, {"scopes": list(blocks)})
            for scope, until in blocks.items():
                await conn.execute(SQL.block, {"scope": scope, "seconds": until - self._monotonic()})
            await conn.execute(SQL.lower_share, {"scopes": list(lowered)})
