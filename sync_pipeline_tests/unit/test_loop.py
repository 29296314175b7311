"""The loop of vendor work: what a signal's handler raises ends it, at rest and at work."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import uvloop

from sync_pipeline.kernel import loop


class Terminated(BaseException):
    """As Dagster's own: no Exception."""


@pytest.fixture(params=[uvloop.new_event_loop, None], ids=["uvloop", "asyncio"], autouse=True)
def _loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_factory", lambda: request.param)


@pytest.fixture
def _terminates() -> Iterator[None]:
    def handler(*_: Any) -> None:
        raise Terminated

    before = signal.signal(signal.SIGUSR1, handler)
    yield
    signal.signal(signal.SIGUSR1, before)


def test_the_result_of_the_work_comes_back() -> None:
    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert loop.run_worker(work()) == 7


@pytest.mark.usefixtures("_terminates")
@pytest.mark.parametrize("at_rest", [True, False])
def test_a_signal_ends_the_work_which_puts_away_what_it_holds(at_rest: bool) -> None:
    put_away = []

    async def work() -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
        try:
            while not at_rest:  # noqa: ASYNC110  (a loop that is busy)
                await asyncio.sleep(0)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # what is held may need the loop to be put away
            put_away.append(True)

    with pytest.raises(Terminated):
        loop.run_worker(work())
    assert put_away == [True]


def test_who_cancels_the_work_is_told_so() -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    with pytest.raises(asyncio.CancelledError):
        loop.run_worker(work())


def test_what_fails_beside_the_work_is_logged_and_does_not_end_it(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError("beside")

    async def work() -> int:
        asyncio.get_running_loop().call_soon(fails)
        await asyncio.sleep(0.01)
        return 7

    with caplog.at_level(logging.ERROR, "asyncio"):
        assert loop.run_worker(work()) == 7
    assert "fails" in caplog.text
