"""`sync-pipeline sync` and `resync`: what they say and leave alone when they cannot work."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sync_pipeline.cli.operate import ended, left_alone
from sync_pipeline.cli.outcome import DONE, MAY_PASS
from sync_pipeline.cli.places import simulated_vendors
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.landing.owners import this_process
from sync_pipeline.landing.pages import Landing
from sync_pipeline.sessions.session import FeedReport, SessionReport
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import Running, running
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.cli_setting import Terminal

ORDERS = FeedId("pretix", "orders")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token, and a place where nobody would take it."""
    monkeypatch.setenv("PRETIX_TOKEN", "abc")
    monkeypatch.setenv("SYNC_PRETIX_BASE_URL", "http://127.0.0.1:1/api/v1")


@pytest.mark.usefixtures("token")
def test_feeds_that_another_worker_holds_are_named(terminal: Terminal) -> None:
    async def hold(database: Database) -> None:
        assert await Landing(database).acquire(ORDERS, owner=this_process("another"), ttl_s=600)

    terminal.within(hold)
    said = terminal.say("sync", "pretix")
    assert "pretix/orders: another worker holds it and polls it; this session left it alone" in said
    assert "nothing" not in said
    found = terminal.json("sync", "pretix")
    assert (found["feeds"], found["held_by_another_worker"]) == ({}, ["pretix/orders"])


@pytest.mark.usefixtures("token")
def test_feeds_that_nobody_holds_are_not_said_to_be_held(terminal: Terminal) -> None:
    found = terminal.failing_json("sync", "pretix")
    assert (list(found["errors"]), found["held_by_another_worker"]) == (["orders"], [])


@pytest.mark.parametrize(("left", "code"), [(True, DONE), (False, MAY_PASS)])
def test_a_feed_that_was_left_to_another_worker_is_not_one_that_was_stopped(left: bool, code: int) -> None:
    """Whether or not the other one is at it still when this session ends."""
    at = datetime.now(UTC)
    report = SessionReport("1", "pretix", at, at, {"orders": FeedReport("orders", left_to_another=left)})
    assert (left_alone(report) == ["orders"], ended(report)) == (left, code)


@pytest.fixture
def standing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A feed that has been polled, in a place without a token; what the store has of it."""
    monkeypatch.delenv("PRETIX_TOKEN", raising=False)

    async def poll(database: Database) -> None:
        async with database.transaction() as conn:
            await conn.execute(
                "insert into sync.feed_state (connection, feed, cursor, watermark)"
                """ values ('pretix', 'orders', '{"watermark": "2026-01-02T00:00:00+00:00"}', '2026-01-02')"""
            )

    terminal.within(poll)
    return terminal.rows(STATE)


STATE = "select cursor, watermark, fence, restarted_at, last_error from sync.feed_state"
RESYNC = ("resync", "pretix/orders", "--from", "2026-01-01")


@pytest.mark.parametrize("command", [RESYNC, ("sync", "pretix")])
def test_without_a_token_nothing_is_moved(
    terminal: Terminal, standing: list[tuple[object, ...]], command: tuple[str, ...]
) -> None:
    done = terminal.run(*command)
    assert isinstance(done.exception, ConfigurationError)
    assert "variable PRETIX_TOKEN is not set" in str(done.exception)
    assert "the cursor stands at" not in done.output
    assert terminal.rows(STATE) == standing


def test_a_cursor_that_is_only_moved_needs_no_token(terminal: Terminal, standing: list[tuple[object, ...]]) -> None:
    assert "the cursor stands at 2026-01-01T00:00:00Z" in terminal.say(*RESYNC, "--no-sync")
    assert terminal.rows(STATE) != standing


@pytest.mark.usefixtures("standing")
def test_on_the_demos_records_a_missing_token_is_not_asked_for(terminal: Terminal) -> None:
    """One from the real vendor would fill them up with its records."""
    terminal.claimed_by_a_demo()
    done = terminal.run(*RESYNC)
    assert isinstance(done.exception, ConfigurationError)
    assert "no simulated vendors run on it; start `make dev`" in str(done.exception)
    assert "PRETIX_TOKEN" not in str(done.exception)


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running(SimulatorOptions(seed=1, eventbrite_orders=120, pretix_orders=120, max_visibility_s=1.0)) as serving:
        yield serving


@pytest.fixture
def vendors(simulator: Running, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose vendors answer."""
    for name, value in simulated_vendors(simulator.url).items():
        monkeypatch.setenv(name, value)
    return terminal


STOPPED = ": stopped before its horizon; it goes on with the next session"


def test_a_sync_that_its_calls_end_before_the_horizon_says_so_and_goes_on(vendors: Terminal) -> None:
    done = vendors.run("sync", "pretix", "--max-calls", "1")
    assert (done.exit_code, "pretix/orders" + STOPPED in done.output) == (3, True), done.output
    found = vendors.failing_json("sync", "pretix", "--max-calls", "1")
    assert (found["stopped_before_horizon"], found["errors"]) == (["pretix/orders"], {})
    found = vendors.json("sync", "pretix")
    assert found["stopped_before_horizon"] == []
    assert STOPPED not in vendors.say("sync", "pretix")


def test_a_feed_that_the_calls_of_another_left_none_is_named_too(vendors: Terminal) -> None:
    found = vendors.failing_json("sync", "eventbrite", "--max-calls", "1")
    assert found["stopped_before_horizon"] == ["eventbrite/orders", "eventbrite/attendees"]


def test_a_resync_that_its_time_ends_before_the_horizon_says_what_it_listed(vendors: Terminal) -> None:
    vendors.say("sync", "pretix")
    done = vendors.run("resync", "pretix/orders", "--from", "beginning", "--max-seconds", "0")
    assert (done.exit_code, "pretix/orders" + STOPPED in done.output) == (3, True), done.output
    assert re.search(r"\n0 of [1-9]\d* records that were listed differed and were applied\n", done.output)
    done = vendors.run("resync", "pretix/orders", "--from", "beginning")
    assert (done.exit_code, STOPPED in done.output) == (0, False), done.output


@pytest.mark.parametrize(
    "options", [("--max-calls", "0"), ("--max-calls", "-1"), ("--max-seconds", "-1"), ("--max-seconds", "nan")]
)
def test_bounds_that_bound_nothing_are_refused(vendors: Terminal, options: tuple[str, str]) -> None:
    done = vendors.run("sync", "pretix", *options)
    assert done.exit_code == 2, done.output
    assert vendors.rows(STATE) == []
