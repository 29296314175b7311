"""Handing on while a session runs: its end is bounded, its errors are told and cost nobody the report."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.cli.operate import raise_for, show_report
from sync_pipeline.handoff import courier
from sync_pipeline.handoff.courier import Courier
from sync_pipeline.handoff.deliver import Handoff, HandoffReport
from sync_pipeline.handoff.sinks import HttpSink
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import ConfigurationError, SyncError, TransientError
from sync_pipeline.runtime import Runtime, open_runtime
from sync_pipeline.sessions.session import SessionOptions, SessionReport
from sync_pipeline.sessions.setup import Receiver, Setup
from sync_pipeline_tests.integration import test_reconcile_beside_a_poll as box_setting
from sync_pipeline_tests.integration.dagster_setting import at_desk
from sync_pipeline_tests.integration.test_reconcile_beside_a_poll import NOON, Box
from sync_pipeline_tests.log_setting import Kept, keeping
from sync_pipeline_tests.things import rows

LEFT = "select count(*) from sync.outbox"
ONCE = SessionOptions(max_seconds=5, until_horizon=True)


def setup(secret_env: str | None = None) -> Setup:
    made = box_setting.setup()
    feeds = {name: replace(feed, handoff=True) for name, feed in made.feeds.items()}
    return replace(made, feeds=feeds, receiver=Receiver("http://127.0.0.1:1/x", secret_env))


@dataclass
class Open:
    """A box as the runtime opens a gateway."""

    box: Box
    asked: int = 0
    asking_s: float = 0.0

    async def __aenter__(self) -> Open:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self.box, name)


@pytest.fixture
async def runtime(database_url: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(url=database_url, objects=tmp_path, rng=random.Random(1)) as opened:
        yield opened


@dataclass
class Slow:
    """A receiver that takes its time, in the place of HTTP."""

    seconds: float = 0.0
    keys: list[str] = field(default_factory=list)

    async def hand_on(self, key: str, payload: bytes) -> None:
        self.keys.append(key)
        await asyncio.sleep(self.seconds)


def received_by(receiver: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpSink, "hand_on", lambda self, key, payload: receiver.hand_on(key, payload))


def boxed(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box({f"r{number}": NOON for number in range(count)})
    monkeypatch.setattr(Runtime, "gateway", lambda self, setup: Open(box))


def bounded(monkeypatch: pytest.MonkeyPatch, *, delivery: float, answer: float) -> None:
    monkeypatch.setattr(courier, "LAST_DELIVERY_S", delivery)
    monkeypatch.setattr(courier, "LAST_ANSWER_S", answer)


async def test_a_session_ends_though_much_waits_and_the_next_one_goes_on(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded(monkeypatch, delivery=0.5, answer=5)
    boxed(40, monkeypatch)
    receiver = Slow(0.1)
    received_by(receiver, monkeypatch)
    started = time.monotonic()
    report = await runtime.run_session(setup(), ONCE)
    assert time.monotonic() - started < 3
    assert report.handoff_error is None
    [(left,)] = await rows(runtime.database, LEFT)
    assert 0 < left < 40
    assert len(receiver.keys) == 40 - left, "it ended between two records"
    receiver.seconds = 0
    await runtime.run_session(setup(), ONCE)
    assert await rows(runtime.database, LEFT) == [(0,)]
    assert len(set(receiver.keys)) == len(receiver.keys) == 40


async def test_a_session_ends_though_its_receiver_does_not_answer(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded(monkeypatch, delivery=0.2, answer=0.2)
    boxed(1, monkeypatch)
    receiver = Slow(60)
    received_by(receiver, monkeypatch)
    started = time.monotonic()
    await runtime.run_session(setup(), ONCE)
    assert time.monotonic() - started < 5
    assert await rows(runtime.database, "select status, attempts from sync.outbox") == [("waiting", 0)]
    receiver.seconds = 0
    await runtime.run_session(setup(), ONCE)
    assert len(receiver.keys) == 2
    assert len(set(receiver.keys)) == 1, "it may have arrived: it is sent again with the same key"


@pytest.fixture
def kept() -> Iterator[Kept]:
    with keeping("sync_pipeline.handoff.courier", logging.WARNING) as handler:
        yield handler


class Failing(Handoff):
    """Fails with what is left in `errors`, one a turn, then works."""

    def __init__(self, *errors: SyncError) -> None:
        self.errors = list(errors)
        self.turns = 0

    async def deliver(self, connection: str, *, stop: asyncio.Event | None = None) -> HandoffReport:
        self.turns += 1
        if self.errors:
            raise self.errors.pop(0)
        return HandoffReport()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "DELIVER_EVERY_S", 0.02)


LOST = TransientError("the database connection was lost")


@pytest.mark.usefixtures("at_once")
async def test_an_error_is_told_and_the_next_turn_goes_on(kept: Kept) -> None:
    handoff = Failing(LOST, LOST, ConfigurationError("no token"))
    async with Courier(handoff, "shop", SystemClock()) as carrying:
        await asyncio.sleep(0.5)
        assert carrying.error is None, "it has passed"
    assert handoff.turns > 4
    told = [(event["connection"], event["error"], event["reason"]) for event in kept.events]
    assert told == [("shop", "TransientError", str(LOST)), ("shop", "ConfigurationError", "no token")]


@pytest.mark.usefixtures("at_once")
async def test_after_a_session_that_failed_no_more_is_handed_on() -> None:
    handoff = Failing()
    with pytest.raises(KeyError):
        async with Courier(handoff, "shop", SystemClock()):
            raise KeyError
    assert handoff.turns <= 1


async def test_an_error_of_handing_on_leaves_the_report(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boxed(1, monkeypatch)
    report = await runtime.run_session(setup("NOT_THERE"), ONCE)
    assert sum(counts.applied for counts in report.feeds["tickets"].counts.values()) == 1
    assert isinstance(report.handoff_error, ConfigurationError)
    for fails in (report.raise_for_fault, lambda: raise_for(report)):
        with pytest.raises(ConfigurationError, match="the receiver's token"):
            fails()
    show_report(report, as_json=False)
    assert "box, handing on: ConfigurationError: handoff: the receiver's token" in capsys.readouterr().out
    show_report(report, as_json=True)
    assert '"handoff_error":{"class":"ConfigurationError","message":"handoff: the receiver' in capsys.readouterr().out


def test_what_may_pass_by_itself_is_only_reported(capsys: pytest.CaptureFixture[str]) -> None:
    report = SessionReport("s", "box", NOON, NOON, {}, handoff_error=LOST)
    report.raise_for_fault()
    with pytest.raises(TransientError):
        raise_for(report)
    report.handoff_error = None
    raise_for(report)
    show_report(report, as_json=True)
    assert '"handoff_error":null' in capsys.readouterr().out


def test_dagster_shows_what_was_polled_and_what_kept_it_from_the_receiver(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_PRETIX_HANDOFF_URL", "http://127.0.0.1:1/x")
    monkeypatch.setenv("SYNC_PRETIX_HANDOFF_TOKEN_ENV", "NOT_THERE")
    with at_desk(database_url, tmp_path, monkeypatch) as desk:
        result = desk.run("poll_pretix")
        assert not result.success
        assert result.get_asset_materialization_events(), "the session's results are there"
        assert "the receiver's token" in str(result.get_step_failure_events()[0].step_failure_data.error)
        assert desk.sql("select count(*) > 0 from sync.outbox") == [(True,)]
