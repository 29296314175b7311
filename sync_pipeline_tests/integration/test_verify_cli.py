"""`sync-pipeline verify --truth`: what cannot be compared is said, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.landing.pages import Landing
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import Running, running
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.cli_setting import Terminal


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running(SimulatorOptions(seed=1, eventbrite_orders=5, pretix_orders=5)) as serving:
        yield serving


def polled(terminal: Terminal, *feeds: FeedId) -> None:
    async def acquire(database: Database) -> None:
        for feed in feeds:
            assert await Landing(database).acquire(feed, owner="somebody", ttl_s=1)

    terminal.within(acquire)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/", "ConnectError"),
        ("127.0.0.1:8765", "UnsupportedProtocol"),
        ("http://host:port", "InvalidURL"),
        ("{simulator}/pretix", "HTTP 404"),
    ],
)
def test_where_no_simulator_answers_is_one_sentence(terminal: Terminal, simulator: Running, url: str, why: str) -> None:
    polled(terminal, FeedId("pretix", "orders"))
    url = url.replace("{simulator}", simulator.url)
    done = terminal.run("verify", "--truth", url)
    assert isinstance(done.exception, ConfigurationError), done.exception
    assert str(done.exception).startswith(f"no simulator answers at {url} (")
    assert why in str(done.exception)


def test_a_feed_that_the_simulator_does_not_have_is_left_out(terminal: Terminal, simulator: Running) -> None:
    polled(terminal, FeedId("boxoffice", "tickets"), FeedId("pretix", "orders"))
    done = terminal.run("verify", "--truth", simulator.url)
    assert "– boxoffice/tickets against the simulator: not compared, it has no such feed" in done.output
    assert "✗ pretix/orders against the simulator: {'missing_in_store'" in done.output
    assert done.exit_code == 1
    polled(terminal, FeedId("eventbrite", "orders"))
    found = terminal.failing_json("verify", "--truth", simulator.url)
    assert found["not_compared"] == ["boxoffice/tickets"]
    assert sorted(found["mismatches"]) == ["eventbrite/orders", "pretix/orders"]
