"""A process of workers for proofs: each has a quota (and breaker) of its own, as the sessions of a fleet have.

Prints one JSON line a second: calls made and waits, by lane.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

from sync_pipeline.gateway.breaker import Outcome, Timing
from sync_pipeline.gateway.breaker_store import Breakers
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.errors import Deferred, TransientError
from sync_pipeline.kernel.feed import Lane, QuotaFeedback, QuotaNode, QuotaWindow
from sync_pipeline.kernel.loop import run_worker
from sync_pipeline.store.database import Database

SCOPE = "proof"
ENDPOINT = "/things"


@dataclass(frozen=True)
class SkewedClock:
    """A host whose clock is wrong by `skew` seconds."""

    skew: float

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.skew)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


@dataclass
class Tally:
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    waits: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    grants_ms: list[float] = field(default_factory=list)

    def line(self) -> str:
        found = {
            "calls": dict(self.calls),
            "waits": {lane: [round(wait, 4) for wait in waits] for lane, waits in self.waits.items()},
            "grants_ms": [round(cost, 3) for cost in self.grants_ms[:200]],
        }
        self.calls.clear()
        self.waits.clear()
        self.grants_ms.clear()
        return json.dumps(found)


class Line:
    """A kept connection to the proof's vendor."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self) -> list[str]:
        return await self._say(f"c {time.monotonic():.6f}")

    async def booked(self) -> None:
        await self._say(f"booked {time.monotonic():.6f}")

    async def _say(self, words: str) -> list[str]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(f"{words}\n".encode())
        return (await reader.readline()).decode().split()


async def work(
    lane: Lane, pause: float, options: argparse.Namespace, database: Database, tally: Tally, rng: random.Random
) -> None:
    clock = SkewedClock(options.skew)
    windows = tuple(
        QuotaWindow(f"w{number}", int(limit), float(seconds))
        for number, (limit, seconds) in enumerate(part.split("/") for part in options.windows.split(","))
    )
    quota = Quota(
        SCOPE, [QuotaNode(SCOPE, windows)], database=database, clock=clock, monotonic=time.monotonic, random=rng.random
    )
    breakers = Breakers(
        SCOPE,
        rng.randbytes(8).hex(),
        database=database,
        clock=clock,
        monotonic=time.monotonic,
        timing=Timing.scaled(options.scale),
    )
    with contextlib.suppress(TransientError):
        await quota.open()
    line = Line(options.port)
    while True:
        asked = time.monotonic()
        try:
            async with breakers.admitted(ENDPOINT, "credential") if options.breaker else contextlib.nullcontext():
                cost = time.perf_counter()
                waited = (await quota.acquire(lane=lane)).waited
                if waited == 0:
                    tally.grants_ms.append((time.perf_counter() - cost) * 1000)
                answer = await line.call()
                if options.breaker:
                    with contextlib.suppress(TransientError):
                        outcome: Outcome = "transient" if answer[0] == "!" else "good"
                        await breakers.report(ENDPOINT, "credential", outcome, "proof")
        except Deferred as deferred:
            await asyncio.sleep(min(5.0, max(0.05, (deferred.until - clock.now()).total_seconds())))
            continue
        except TransientError:
            await asyncio.sleep(0.2)
            continue
        tally.calls[lane] += 1
        tally.waits[lane].append(time.monotonic() - asked)
        with contextlib.suppress(TransientError):
            if answer[0] == "-":
                await quota.refused(timedelta(seconds=float(answer[1])))
                await line.booked()
            elif answer[0] == "+":
                quota.accepted()
                if options.told:
                    reset = clock.now() + timedelta(seconds=float(answer[2]))
                    await quota.told(QuotaFeedback("w0", remaining=int(answer[1]), reset_at=reset), clock.now())
        if pause:
            await asyncio.sleep(pause * rng.uniform(0.5, 1.5))


def lanes(text: str) -> Iterator[tuple[Lane, float]]:
    """`P4,P0:0.05`: lanes of the workers, with the seconds between their calls."""
    for part in text.split(","):
        lane, _, pause = part.partition(":")
        yield cast(Lane, lane), float(pause or 0)


async def report(tally: Tally) -> None:
    while True:
        await asyncio.sleep(1)
        print(tally.line(), flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--windows", required=True)
    parser.add_argument("--lanes", required=True)
    parser.add_argument("--skew", type=float, default=0)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--breaker", action="store_true")
    parser.add_argument("--told", action="store_true")
    options = parser.parse_args()
    tally = Tally()
    async with Database.open(options.database, max_size=4) as database, asyncio.TaskGroup() as group:
        for number, (lane, pause) in enumerate(lanes(options.lanes)):
            rng = random.Random(options.seed * 100 + number)
            group.create_task(work(lane, pause, options, database, tally, rng))
        group.create_task(report(tally))


if __name__ == "__main__":
    run_worker(main())
