"""The event loop that vendor work runs on, from the command line and in Dagster's runs alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_worker(work: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, on uvloop where it installs: a session takes some 3 % less CPU, a grant a tenth less time.

    What a signal's handler raises ends the work wherever it waits, in order: it is cancelled, and may put away what it
    holds. (Dagster raises so in a run that is terminated; a loop at rest would log it and go on, or leave the work where
    it stands.)
    """
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(_heeding(work))


def _factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _heeding(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    raised: list[BaseException] = []

    def heard(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is None or isinstance(error, Exception):
            loop.default_exception_handler(context)
            return
        raised.append(error)
        task.cancel()

    asyncio.get_running_loop().set_exception_handler(heard)
    try:
        return await work
    except asyncio.CancelledError:
        if raised:
            raise raised[0] from None
        raise
