"""Handing on beside a session: while it runs, and what is left when it ends, for a bounded time."""

from __future__ import annotations

import asyncio
from types import TracebackType

from sync_pipeline.handoff.deliver import Handoff
from sync_pipeline.kernel.clock import Clock, sleep_unless
from sync_pipeline.kernel.errors import SyncError
from sync_pipeline.trust.logger import get_logger

DELIVER_EVERY_S = 2.0
LAST_DELIVERY_S = 10.0
"""How long a session that has ended goes on handing on. What is left then stays in the outbox for the next session."""

LAST_ANSWER_S = 5.0
"""How long the registration is waited for that is under way then. Cut off, it is sent again with the same key."""


class Courier:
    """Delivers `connection`'s outbox while its context is open. Its errors do not end the session: `error` is the last turn's."""

    def __init__(self, handoff: Handoff, connection: str, clock: Clock) -> None:
        self.error: SyncError | None = None
        self._handoff = handoff
        self._connection = connection
        self._clock = clock
        self._log = get_logger(__name__).bind(connection=connection)
        self._ended = asyncio.Event()
        self._enough = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Courier:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """A session that has failed hands on no more than what is under way."""
        assert self._task is not None
        longest = LAST_DELIVERY_S if kind is None else 0.0
        if kind is not None:
            self._enough.set()
        self._ended.set()
        timer = asyncio.get_running_loop().call_later(longest, self._enough.set)
        try:
            await asyncio.wait({self._task}, timeout=longest + LAST_ANSWER_S)
        finally:
            timer.cancel()
            self._task.cancel()
            [fault] = await asyncio.gather(self._task, return_exceptions=True)
        if kind is None and isinstance(fault, Exception):
            raise fault

    async def _run(self) -> None:
        while not self._ended.is_set():
            await self._turn(self._ended)
            await sleep_unless(self._ended, self._clock, DELIVER_EVERY_S)
        if not self._enough.is_set():
            await self._turn(self._enough)
        if self._enough.is_set():
            self._log.info("handing on ended with its session; what waits is handed on in the next one")

    async def _turn(self, stop: asyncio.Event) -> None:
        """What went wrong may be better at the next one: the store came back, a token was put where it belongs."""
        try:
            await self._handoff.deliver(self._connection, stop=stop)
        except SyncError as error:
            if str(error) != str(self.error):  # once, not every two seconds
                self._log.warning("handing on failed; it is tried again", error=type(error).__name__, reason=str(error))
            self.error = error
        else:
            self.error = None
