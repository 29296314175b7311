"""Limits that an operator changes while they count: what was granted by the old ones still counts, and leaves in time."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.quota_setting import START, Tree, most_in_any

DAY = QuotaWindow("w", 1000, 86_400, kind="daily")


def seconds_now() -> float:
    return (datetime.now(UTC) - START).total_seconds()


def used(tree: Tree, scope: str) -> int:
    row = tree.conn.execute("select used from sync.quota_now where scope = %s", (scope,)).fetchone()
    assert row is not None
    return int(row[0])


def row(tree: Tree, scope: str) -> Any:
    return tree.conn.execute("select to_jsonb(q) from sync.quota q where scope = %s", (scope,)).fetchone()


def quota(database: Database, *windows: QuotaWindow) -> Quota:
    return Quota(
        "shop",
        [QuotaNode("shop", windows)],
        database=database,
        clock=SystemClock(),
        monotonic=time.monotonic,
        random=random.Random(1).random,
    )


@pytest.mark.parametrize("old_s", [0.5, 1, 600])
def test_a_window_of_another_length_gets_its_limit_used_and_no_more(tree: Tree, old_s: float) -> None:
    """Slots of a shorter window have numbers far ahead of those of a longer one: nothing ever left the count."""
    scope = tree.node(QuotaWindow("w", 4, old_s, burst=4))
    before = [seconds_now()] * 4
    assert [tree.ask(scope, at=at).granted for at in before] == [1] * 4
    tree.node(QuotaWindow("w", 20, 20), scope=scope)
    start = seconds_now()
    assert used(tree, scope) == 4
    now, grants = start, []
    while now < start + 200:
        grant = tree.ask(scope, lane=2, at=now)
        if grant.granted:
            grants.append(now)
        else:
            assert grant.wait < 25
            now += max(0.002, grant.wait)
    assert most_in_any(before + grants, 20) <= 20
    assert len(grants) >= 0.9 * 20 * 200 / 21


def test_a_shorter_window_forgets_nothing_of_the_last_seconds(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("w", 400, 60, burst=100))
    now = seconds_now()
    assert tree.ask(scope, at=now, most=100).granted == 100
    tree.node(QuotaWindow("w", 400, 40, burst=100), scope=scope)
    assert tree.ask(scope, at=now + 1).left == [299]
    assert tree.ask(scope, at=now + 41.6).left == [398]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (QuotaWindow("w", 100, 60, burst=100), DAY),
        (DAY, QuotaWindow("w", 100, 60)),
        (DAY, QuotaWindow("w", 100, 60, kind="fixed")),
        (DAY, QuotaWindow("w", 1000, 86_400, kind="daily", zone="Asia/Tokyo")),
    ],
    ids=["to a day", "from a day", "from a day to a fixed one", "of another zone"],
)
def test_a_window_of_another_kind_goes_on_counting(tree: Tree, old: QuotaWindow, new: QuotaWindow) -> None:
    scope = tree.node(old)
    now = seconds_now()
    assert tree.ask(scope, at=now, most=90).granted == 90
    tree.node(new, scope=scope)
    assert used(tree, scope) == 90
    assert tree.ask(scope, at=now + 1, most=10).granted == 10
    if new.kind != "daily":
        # A day's tokens come back so slowly that its flow would have held the minute up for hours.
        assert tree.ask(scope, at=now + 1).wait < 64
        assert tree.ask(scope, lane=4, at=now + 64).granted == 1


@pytest.mark.parametrize("window", [QuotaWindow("w", 100, 60), DAY], ids=["sliding", "daily"])
def test_the_same_settings_again_change_nothing(tree: Tree, window: QuotaWindow) -> None:
    scope = tree.node(window)
    tree.ask(scope, lane=3, at=seconds_now(), most=9)
    before = row(tree, scope)
    tree.node(window, scope=scope)
    assert row(tree, scope) == before


def test_a_count_that_was_thrown_centuries_ahead_comes_back(tree: Tree) -> None:
    """Databases have such rows from before: the next session that starts mends them."""
    window = QuotaWindow("w", 20, 20, burst=20)
    scope = tree.node(window)
    now = seconds_now()
    tree.ask(scope, at=now, most=20)
    tree.conn.execute("update sync.quota set slot = slot * 16, oldest = oldest * 16 where scope = %s", (scope,))
    tree.node(window, scope=scope)
    assert used(tree, scope) == 20
    assert 0 < tree.ask(scope, at=now + 1).wait < 22
    assert tree.ask(scope, at=now + 23).granted == 1


async def test_a_session_goes_on_when_another_adds_a_window_to_its_node(database: Database) -> None:
    minute, day = QuotaWindow("minute", 300, 60), QuotaWindow("day", 20_000, 86_400, kind="daily")
    old, new = quota(database, minute), quota(database, minute, day)
    await old.open()
    await old.acquire()
    assert old.left() == (299, 60)
    await new.open()
    await old.acquire()
    assert old.left() is None
    await new.acquire()
    assert new.left() == (297, 60)
    await old.open()
    await new.acquire()
    await old.acquire()
    assert old.left() == (295, 60)


async def test_retry_after_outlives_the_names_of_the_windows(database: Database) -> None:
    """Refused, an operator sets SYNC_SHOP_LIMITS, whose windows are window_0, window_1, ..."""
    old, new = quota(database, QuotaWindow("minute", 300, 60)), quota(database, QuotaWindow("window_0", 200, 60))
    await old.open()
    await old.refused(timedelta(seconds=300))
    await new.open()
    with pytest.raises(Deferred, match="left alone"):
        await new.acquire()
