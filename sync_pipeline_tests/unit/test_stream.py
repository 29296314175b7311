"""Streams between the stages of a walk."""

from __future__ import annotations

import asyncio

import pytest

from sync_pipeline.sessions.stream import Stream


async def test_what_waits_is_taken_together_and_no_more_than_asked() -> None:
    stream = Stream[int](5)
    for number in range(5):
        await stream.put(number)
    assert await stream.take(3) == [0, 1, 2]
    assert await stream.take(3) == [3, 4]
    await stream.put(5)
    stream.close()
    assert await stream.take(3) == [5]
    assert await stream.take(3) == []
    assert await stream.take(3) == []


async def test_the_producer_waits_for_room() -> None:
    stream = Stream[int](1)
    await stream.put(1)
    second = asyncio.create_task(stream.put(2))
    await asyncio.sleep(0)
    assert not second.done()
    assert await stream.take(9) == [1]
    await second
    assert await stream.take(9) == [2]


async def test_a_cancelled_producer_can_close_a_full_stream() -> None:
    stream = Stream[int](1)

    async def produce() -> None:
        try:
            await stream.put(1)
            await stream.put(2)
        finally:
            stream.close()

    task = asyncio.create_task(produce())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stream.take(9) == [1]
    assert await stream.take(9) == []
