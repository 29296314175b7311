"""`sync-pipeline sync` and `resync`: what they say and leave alone when they cannot work."""

from __future__ import annotations

import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.landing.owners import this_process
from sync_pipeline.landing.pages import Landing
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
