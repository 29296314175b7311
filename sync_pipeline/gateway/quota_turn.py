"""What asking for a grant comes to, and the place in flight that is had meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant, to be used at once (`Quota.may_go`)."""

    asked: float
    """When the store was asked for it (monotonic): its age counts from then, since the store counts it from some instant after
    that. Without the store, the instant that was this call's turn."""
    waited: float
    """Seconds that it was waited for."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of asking: a grant asked for at `asked`; or seconds to `wait`, and then to ask again, or to go at `asked`."""

    asked: float | None = None
    wait: float | None = None


class Held:
    """A place that is given back at the end of the block unless it was `kept`."""

    def __init__(self, place: asyncio.Semaphore | None) -> None:
        self._place = place
        self.kept = False

    async def __aenter__(self) -> Held:
        if self._place is not None:
            await self._place.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._place is not None and not self.kept:
            self._place.release()
