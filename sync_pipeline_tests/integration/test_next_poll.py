"""What a session leaves behind of its plan: when each feed is asked next, why, and what its polls taught."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.polling.estimate import recalled
from sync_pipeline_tests.integration.pretix_setting import Pretix
from sync_pipeline_tests.integration.simulator_setting import Setting, setting

SCARCE = [{"name": "hour", "limit": 240, "seconds": 3600, "burst": 240}]
ASKED = r"^asked every \d+ \w+: \d+\.\d changes expected by \d\d:\d\d:\d\dZ, costs \d+ of \d+ calls left this hour$"


class Standing(SystemClock):
    """Work takes no time, and sleeps do."""

    def __init__(self) -> None:
        self.at = datetime.now(UTC)

    def now(self) -> datetime:
        return self.at


class Drawn(random.Random):
    """Draws the same number each time."""

    def __init__(self, number: float) -> None:
        super().__init__(1)
        self._number = number

    def random(self) -> float:
        return self._number


@pytest.fixture
def world() -> Iterator[Setting]:
    with setting(max_commit_lag_s=0, pretix_per_minute=None, pretix_orders=20, eventbrite_orders=0) as running:
        yield running


async def test_the_plan_and_what_was_learned_are_kept_with_the_feed(pretix: Pretix) -> None:
    state = "select why, estimate, calls_a_poll, next_due > now() from sync.feed_state order by feed"
    await pretix.synced(limits=SCARCE)
    assert await pretix.rows(state) == [("first look 30 s after its history was read", None, 1.0, True)] * 2
    await pretix.synced(limits=SCARCE)
    orders, positions = await pretix.rows(state)
    assert orders == positions, "they come out of the same pages"
    why, estimate, calls, later = orders
    assert later
    assert calls >= 1
    assert re.match(ASKED, why), why
    learned = recalled(estimate)
    assert learned is not None
    await pretix.synced(limits=SCARCE)
    [(again,), _] = await pretix.rows("select estimate from sync.feed_state order by feed")
    assert recalled(again) not in (None, learned), "the next session goes on from there"


async def test_sessions_spread_their_next_polls(pretix: Pretix) -> None:
    """Two connections that saw the same, with other random numbers: up to a tenth of the interval apart."""
    clock = Standing()
    due = {}
    for name, number in (("one", 0.0), ("other", 0.9)):
        drawn = Pretix(pretix.world, replace(pretix.runtime, clock=clock, rng=Drawn(number)), pretix.env)
        for _ in range(2):
            await drawn.synced(name=name, limits=SCARCE)
        [(at,)] = await pretix.rows("select distinct next_due from sync.feed_state where connection = %s", name)
        due[name] = (at - clock.at).total_seconds()
    assert due["one"] > 10
    assert due["other"] == pytest.approx(due["one"] * 0.91, rel=0.01)
