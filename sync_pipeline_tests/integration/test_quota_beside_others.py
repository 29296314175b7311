"""Others use the same key: what they are expected to use is left to them, before the vendor has to say no."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from sync_pipeline.gateway.quota_store import SQL
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline_tests.integration.quota_setting import START, Tree

WINDOW = QuotaWindow("minute", 100, 60, burst=100)


def used_by_others(tree: Tree, scope: str, rate: float, at: float) -> None:
    tree.conn.execute(
        "update sync.quota set foreign_rate = %s, foreign_at = %s where scope = %s",
        (rate, START + timedelta(seconds=at), scope),
    )


def granted(tree: Tree, scope: str, at: float, lane: int = 0) -> int:
    return sum(tree.ask(scope, lane=lane, at=at).granted for _ in range(101))


@pytest.mark.parametrize(("rate", "left_free"), [(0.0, 0), (0.1, 1), (3.0, 6), (20.0, 40)])
def test_two_seconds_of_what_others_use_are_left_free(tree: Tree, rate: float, left_free: int) -> None:
    scope = tree.node(WINDOW)
    used_by_others(tree, scope, rate, 0)
    assert granted(tree, scope, 0) == 100 - left_free
    refused = tree.ask(scope, at=1)
    assert (refused.granted, refused.window) == (0, "minute")


def test_others_who_fall_silent_are_left_half_as_much_each_ten_minutes(tree: Tree) -> None:
    scope = tree.node(WINDOW)
    used_by_others(tree, scope, 10.0, 0)
    assert [granted(tree, scope, at) for at in (0, 600, 1200)] == [80, 90, 95]


def test_what_the_vendor_counts_beyond_our_calls_is_planned_for(tree: Tree) -> None:
    """Its word books the calls that others made, and the next ones that they will make at that rate."""
    [(now,)] = tree.conn.execute("select extract(epoch from clock_timestamp() - %s)::float", (START,)).fetchall()
    scope = tree.node(QuotaWindow("hour", 1000, 3600, burst=1000))
    tree.ask(scope, at=now)
    tree.conn.execute(
        SQL.told, {"scopes": [scope], "name": "hour", "remaining": 499, "reset_s": 600, "leave_s": 600, "age_s": 0}
    )
    [(rate,)] = tree.conn.execute("select foreign_rate from sync.quota where scope = %s", (scope,)).fetchall()
    assert rate > 1
    got = sum(tree.ask(scope, at=now + 0.5).granted for _ in range(500))
    assert 499 - math.ceil(2 * rate) <= got <= 499 - math.floor(1.99 * rate)
