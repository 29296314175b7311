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
from sync_pipeline_tests.integration.cli_setting import Desk


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running(SimulatorOptions(seed=1, eventbrite_orders=5, pretix_orders=5)) as serving:
        yield serving


def polled(desk: Desk, *feeds: FeedId) -> None:
    async def acquire(database: Database) -> None:
        for feed in feeds:
            assert await Landing(database).acquire(feed, owner="somebody", ttl_s=1)

    desk.within(acquire)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://127.0.0.1:1/", "ConnectError"),
        ("127.0.0.1:8765", "UnsupportedProtocol"),
        ("http://host:port", "InvalidURL"),
        ("{simulator}/pretix", "HTTP 404"),
    ],
)
def test_where_no_simulator_answers_is_one_sentence(desk: Desk, simulator: Running, url: str, why: str) -> None:
    polled(desk, FeedId("pretix", "orders"))
    url = url.replace("{simulator}", simulator.url)
    done = desk.run("verify", "--truth", url)
    assert isinstance(done.exception, ConfigurationError), done.exception
    assert str(done.exception).startswith(f"no simulator answers at {url} (")
    assert why in str(done.exception)


def test_a_feed_that_the_simulator_does_not_have_is_left_out(desk: Desk, simulator: Running) -> None:
    polled(desk, FeedId("boxoffice", "tickets"), FeedId("pretix", "orders"))
    done = desk.run("verify", "--truth", simulator.url)
    assert "– boxoffice/tickets against the simulator: not compared, it has no such feed" in done.output
    assert "✗ pretix/orders against the simulator: {'missing_in_store'" in done.output
    assert done.exit_code == 1
    polled(desk, FeedId("eventbrite", "orders"))
    found = desk.failing_json("verify", "--truth", simulator.url)
    assert found["not_compared"] == ["boxoffice/tickets"]
    assert sorted(found["mismatches"]) == ["eventbrite/orders", "pretix/orders"]
