"""Time as a parameter: code asks a Clock, tests pass their own."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, UTC."""

    async def sleep(self, seconds: float) -> None:
        """Wait without holding the event loop."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def sleep_unless(event: asyncio.Event, clock: Clock, seconds: float) -> None:
    """Sleep that long, or until the event is set."""
    sleep = asyncio.create_task(clock.sleep(seconds))
    happens = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({sleep, happens}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sleep.cancel()
        happens.cancel()
        await asyncio.gather(sleep, happens, return_exceptions=True)


def in_words(seconds: float) -> str:
    """A length of time for a sentence."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
