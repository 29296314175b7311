"""The latency sketches of one connection's endpoints: read when a session opens, merged back when it closes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sync_pipeline.gateway.latency import Latency, merge, observe, percentiles, retry_pause
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


@dataclass(slots=True)
class _Endpoint:
    """`known`: what the store held when the session opened. `fresh`: what this one saw and has not stored."""

    known: Latency = field(default_factory=Latency)
    fresh: Latency = field(default_factory=Latency)
    calls: int = 0


class Latencies:
    def __init__(self, connection: str, database: Database, clock: Clock) -> None:
        self._connection = connection
        self._db = database
        self._clock = clock
        self._endpoints: dict[str, _Endpoint] = {}

    async def open(self) -> None:
        for endpoint, stored in await self._db.statement(SQL.latency_all, {"connection": self._connection}):
            self._endpoints[endpoint] = _Endpoint(_sketch(stored))

    def observe(self, endpoint: str, seconds: float) -> None:
        now = self._clock.now().timestamp()
        seen = self._endpoints.setdefault(endpoint, _Endpoint())
        seen.fresh = observe(seen.fresh, seconds, now)
        seen.calls += 1

    def pause(self, endpoint: str, attempt: int, random: Callable[[], float]) -> float:
        """Seconds before the next attempt."""
        seen = self._endpoints.get(endpoint, _Endpoint())
        return retry_pause(merge(seen.known, seen.fresh), attempt, random, now=self._clock.now().timestamp())

    async def close(self) -> None:
        for endpoint, seen in self._endpoints.items():
            if not seen.calls:
                continue
            names = {"connection": self._connection, "endpoint": endpoint}
            async with self._db.transaction() as conn:
                await conn.execute(SQL.latency_lock, names)
                found = await (await conn.execute(SQL.latency_one, names)).fetchone()
                sketch = merge(_sketch(found[0]), seen.fresh) if found else seen.fresh
                shown = percentiles(sketch)
                assert shown is not None, "a sketch with calls is not empty"
                await conn.execute(
                    SQL.latency_put,
                    {
                        **names,
                        "sketch": sketch.to_ints(),
                        "calls": seen.calls,
                        "p50": shown.p50,
                        "p95": shown.p95,
                        "p99": shown.p99,
                    },
                )
            seen.known, seen.fresh, seen.calls = sketch, Latency(), 0


def _sketch(stored: list[int]) -> Latency:
    try:
        return Latency.from_ints(stored)
    except ValueError:  # of another version: no past is better than a wrong one
        return Latency()
