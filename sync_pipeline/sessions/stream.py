"""A bounded stream between two tasks that either of them may abandon."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """At most `ahead` items wait between the one task that puts and the one that takes."""

    def __init__(self, ahead: int) -> None:
        self._places = asyncio.Semaphore(ahead)
        self._items: asyncio.Queue[T | None] = asyncio.Queue()
        self._ended = False

    async def put(self, item: T) -> None:
        await self._places.acquire()
        self._items.put_nowait(item)

    def close(self) -> None:
        """No more items will come. Never waits, so that a task that is cancelled can end its stream."""
        self._items.put_nowait(None)

    async def take(self, most: int) -> list[T]:
        """What is waiting, at least one item and not more than `most`; empty at the end of the stream."""
        taken: list[T] = []
        while not self._ended and len(taken) < most and not (taken and self._items.empty()):
            item = await self._items.get()
            if item is None:
                self._ended = True
            else:
                taken.append(item)
                self._places.release()
        return taken
