"""A vendor for proofs: it only counts, with the simulator's own limiter, and answers a line with a line.

A call is `c <when it was sent>` (the machine's clock): answered `+ <remaining> <seconds to reset>`, or `- <retry after,
seconds>` when its limit refuses it, or `!` while it is down. For the harness: `stats`, `down 0|1`, `foreign <calls a second>`,
`refuse <seconds>` (the next call is refused with that Retry-After, and all others until then), `booked <when>` (a worker has
stored that refusal for all).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from dataclasses import asdict, dataclass, field

from sync_pipeline.simulator.limits import Limiter, SlidingWindow

FOREIGN_TICK_S = 0.02
ON_ITS_WAY_S = 0.02
"""From a grant to the sending of its call, on a busy machine."""


@dataclass
class Stats:
    """`breaches`: calls that its limit refused. `early`: calls sent more than ON_ITS_WAY_S after a refusal had been booked,
    and before its Retry-After was over."""

    calls: int = 0
    breaches: int = 0
    early: int = 0
    foreign: int = 0
    while_down: list[float] = field(default_factory=list)
    first_good: float | None = None


class Vendor:
    def __init__(self, windows: list[tuple[int, float]]) -> None:
        self.limiter = Limiter([SlidingWindow(limit, seconds) for limit, seconds in windows])
        self.stats = Stats()
        self.down = False
        self.foreign_rate = 0.0
        self.refuse_s = 0.0
        self.refuse_until = 0.0
        self.refused_at = 0.0
        self.booked_at = float("inf")
        self.rng = random.Random(3)

    def call(self, sent: float) -> str:
        now = time.monotonic()
        self.stats.calls += 1
        if self.down:
            self.stats.while_down.append(now)
            return "!"
        if self.stats.first_good is None:
            self.stats.first_good = now
        if self.refuse_s:
            self.refuse_until, self.refuse_s = now + self.refuse_s, 0.0
            self.refused_at, self.booked_at = now, float("inf")
            return f"- {self.refuse_until - now:.3f} planned"
        if now < self.refuse_until:
            self.stats.early += sent > self.booked_at + ON_ITS_WAY_S
            return f"- {self.refuse_until - now:.3f} again"
        wait, _ = self.limiter.take(now)
        if wait:
            self.stats.breaches += 1
            return f"- {wait:.3f} limit"
        window = self.limiter.windows[0]
        return f"+ {window.limit - len(window.granted)} {window.granted[0] + window.seconds - now:.3f}"

    async def others(self) -> None:
        """Foreign use of the same key: as many as the rate says, where the limit has room."""
        owed = 0.0
        while True:
            await asyncio.sleep(FOREIGN_TICK_S)
            owed += self.foreign_rate * FOREIGN_TICK_S * self.rng.uniform(0.5, 1.5)
            while owed >= 1:
                owed -= 1
                now = time.monotonic()
                if self.limiter.take(now)[0] == 0:
                    self.stats.foreign += 1

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                command, _, rest = line.decode().strip().partition(" ")
                match command:
                    case "c":
                        answer = self.call(float(rest or 0))
                    case "booked":
                        if float(rest) >= self.refused_at:
                            self.booked_at = min(self.booked_at, float(rest))
                        answer = "ok"
                    case "stats":
                        answer = json.dumps(asdict(self.stats))
                    case "down":
                        self.down = rest == "1"
                        self.stats.first_good = None
                        answer = "ok"
                    case "foreign":
                        self.foreign_rate = float(rest)
                        answer = "ok"
                    case "refuse":
                        self.refuse_s = float(rest)
                        answer = "ok"
                    case _:
                        answer = "?"
                writer.write(answer.encode() + b"\n")
        except ConnectionError:
            pass
        finally:
            writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", required=True, help="limit/seconds, several separated by commas")
    windows = [part.split("/") for part in parser.parse_args().windows.split(",")]
    vendor = Vendor([(int(limit), float(seconds)) for limit, seconds in windows])
    server = await asyncio.start_server(vendor.serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server, asyncio.TaskGroup() as group:
        group.create_task(vendor.others())
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
