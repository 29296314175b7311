"""`sync-pipeline sync` and `resync`: what they say and leave alone when they cannot work."""

from __future__ import annotations

import pytest

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
