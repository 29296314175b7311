"""The quota tree in Postgres, driven by a clock of the test's: strict windows, lanes, days, restarts, what the vendor says."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_pipeline.gateway.quota import Pace
from sync_pipeline.gateway.quota_store import SQL
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline_tests.integration.quota_setting import START, Tree, most_in_any, saturate

quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

windows = st.builds(
    lambda limit, seconds, share: QuotaWindow("w", limit, seconds, burst=max(1, int(limit * share))),
    st.integers(1, 60),
    st.floats(0.5, 4000),
    st.floats(0, 1),
)
events = st.lists(
    st.tuples(
        st.floats(0, 0.4),  # of the window, since the event before
        st.integers(0, 4),  # lane
        st.integers(1, 12),  # most tokens
        st.floats(0, 1),  # lateness of what is granted, of the slack
        st.booleans(),  # hand one back
    ),
    min_size=5,
    max_size=60,
)


@pytest.mark.parametrize("lane", range(5))
def test_a_call_heavier_than_the_burst_goes_when_the_burst_is_there(tree: Tree, lane: int) -> None:
    scope = tree.node(QuotaWindow("w", 60, 60, burst=2))
    assert tree.ask(scope, lane=lane, at=0, least=5, most=5).granted == 5
    refused = tree.ask(scope, lane=lane, at=0.1, least=5, most=5)
    assert refused.granted == 0
    assert 0 < refused.wait < 60
    assert tree.ask(scope, lane=lane, at=0.1 + refused.wait + 0.001, least=5, most=5).granted == 5


@quick
@given(window=windows, events=events)
def test_no_window_at_the_vendor_holds_more_than_its_limit(
    tree: Tree, window: QuotaWindow, events: list[tuple[float, int, int, float, bool]]
) -> None:
    """Whatever is asked and when, in whatever lanes; requests arrive up to the slack after their grant."""
    pace = Pace.of(window)
    scope = tree.node(window)
    now, arrivals = 0.0, []
    for gap, lane, most, late, back in events:
        now += gap**3 * window.seconds
        for _ in range(3):
            grant = tree.ask(scope, lane=lane, at=now, most=min(most, window.limit))
            used = grant.granted
            if used and back:
                tree.give_back(scope, 1, now)
                used -= 1
            arrivals += [now + late * pace.slack] * used
    assert most_in_any(arrivals, window.seconds) <= window.limit


@quick
@given(window=windows, lane=st.integers(0, 4))
def test_a_lane_that_is_alone_uses_the_whole_window(tree: Tree, window: QuotaWindow, lane: int) -> None:
    """Asking again after the wait that was told is enough to use what the slack leaves of the limit."""
    pace = Pace.of(window)
    scope = tree.node(window)
    now, asked, grants = 0.0, 0, []
    while len(grants) < 4 * window.limit:
        grant = tree.ask(scope, lane=lane, at=now)
        asked += 1
        if grant.granted:
            grants.append(now)
            asked = 0
        else:
            assert grant.wait > 0
            assert asked < 20, "the waits that are told lead nowhere"
            now += grant.wait * 1.0001
    steady = [at for at in grants if at > window.seconds + pace.slack]
    rate = (len(steady) - 1) / (steady[-1] - steady[0])
    # A lane may be a slot late, and leaves a call or two of a small window to those above it.
    assert rate * pace.emission >= 0.97


def test_p0_finds_room_while_p4_saturates(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("minute", 300, 60))
    found = saturate(tree, scope, {0: 1.3, 4: 0.0}, 240)
    waits = sorted(granted - asked for asked, granted in found[0])
    assert len(waits) > 150
    assert waits[int(len(waits) * 0.99)] <= 2.0
    assert len(found[0]) + len(found[4]) >= 0.96 * 300 * 4


@pytest.mark.parametrize("greedy", [1, 2, 3, 4])
def test_no_lane_starves_each_progresses_every_minute(tree: Tree, greedy: int) -> None:
    scope = tree.node(QuotaWindow("minute", 120, 60))
    lanes = dict.fromkeys(range(1, 5), 5.0) | {greedy: 0.0}
    found = saturate(tree, scope, lanes, 300)
    for lane, grants in found.items():
        times = [0.0, *(granted for _, granted in grants), 300.0]
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 60, lane
    assert most_in_any([at for grants in found.values() for _, at in grants], 60) <= 120


def test_what_nobody_above_uses_is_everybodys(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("minute", 300, 60))
    assert len(saturate(tree, scope, {4: 0.0}, 180)[4]) >= 0.96 * 300 * 3


def test_a_call_is_charged_to_all_nodes_or_to_none(tree: Tree) -> None:
    wide, narrow = tree.node(QuotaWindow("w", 100, 60)), tree.node(QuotaWindow("w", 1, 60))
    assert tree.ask(wide, narrow, at=0).granted == 1
    refused = tree.ask(wide, narrow, at=1)
    assert (refused.granted, refused.scope) == (0, narrow)
    assert 59 <= refused.wait <= 62
    assert tree.ask(wide, at=1).left == [98]


def test_a_lease_takes_what_there_is(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("w", 8, 60, burst=8))
    assert tree.ask(scope, at=0, most=5).granted == 5
    assert tree.ask(scope, at=0, most=5).granted == 3
    tree.give_back(scope, 2, 0)
    assert tree.ask(scope, at=1, most=5).granted == 2


@given(
    zone=st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Pacific/Kiritimati", "Asia/Kolkata"]),
    limit=st.integers(1, 40),
    gaps=st.lists(st.tuples(st.floats(0, 20_000), st.integers(0, 4), st.floats(0, 10)), min_size=10, max_size=80),
)
@quick
def test_no_day_of_the_vendor_holds_more_than_its_limit(
    tree: Tree, zone: str, limit: int, gaps: list[tuple[float, int, float]]
) -> None:
    """Days of the vendor's zone, that of a changed clock included (8 March 2026 in New York)."""
    scope = tree.node(QuotaWindow("day", limit, 86_400, kind="daily", zone=zone))
    now = 6 * 86_400.0
    days: dict[Any, int] = {}
    for gap, lane, late in gaps:
        now += gap
        for _ in range(4):
            grant = tree.ask(scope, lane=lane, at=now)
            if grant.granted:
                day = (START + timedelta(seconds=now + late)).astimezone(ZoneInfo(zone)).date()
                days[day] = days.get(day, 0) + 1
    assert max(days.values(), default=0) <= limit


def test_a_day_is_spared_for_the_lanes_above_and_used_up_by_midnight(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("day", 1000, 86_400, kind="daily"))
    noon = sum(tree.ask(scope, lane=4, at=0).granted for _ in range(1000))
    assert 840 <= noon <= 860  # 30 % is kept at midnight, half of that is left at noon
    assert tree.ask(scope, lane=4, at=0).wait < 43_200
    assert sum(tree.ask(scope, lane=0, at=1).granted for _ in range(50)) == 50
    assert sum(tree.ask(scope, lane=4, at=43_190).granted for _ in range(1000)) + noon + 50 >= 999


@pytest.mark.parametrize("lane", range(5))
@pytest.mark.parametrize("limit", [1, 2])
def test_the_first_call_of_a_small_day_is_anybodys(tree: Tree, limit: int, lane: int) -> None:
    """What is kept for the lanes above, rounded up to a whole call, was all of it until midnight."""
    scope = tree.node(QuotaWindow("day", limit, 86_400, kind="daily"))
    assert tree.ask(scope, lane=lane, at=0, least=limit, most=limit).granted == limit
    assert not tree.ask(scope, lane=lane, at=1).granted


def test_after_a_restart_the_burst_counts_as_spent(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("minute", 100, 60, burst=50))
    assert tree.ask(scope, at=0).granted == 1
    tree.conn.execute("truncate sync.quota_boot")  # what a crash does to an unlogged table
    after = tree.ask(scope, at=1, lane=0)
    assert (after.granted, 0 < after.wait < 1.5) == (0, True)
    later = [at for at in [1 + k / 10 for k in range(600)] if tree.ask(scope, at=at).granted]
    assert len(later) <= 100 - 50 - 1


def test_the_vendors_word_lowers_until_its_reset_and_books_foreign_use(tree: Tree) -> None:
    now = (datetime.now(UTC) - START).total_seconds()
    scope = tree.node(QuotaWindow("hour", 100, 3600, burst=100))
    tree.ask(scope, at=now)
    tree.conn.execute(
        SQL.told, {"scopes": [scope], "name": "hour", "remaining": 40, "reset_s": 600, "leave_s": 600, "age_s": 0}
    )
    assert tree.conn.execute("select calls from sync.quota_foreign where scope = %s", (scope,)).fetchall() == [(59,)]
    left = tree.ask(scope, at=now + 1).left
    assert left == [39]
    assert tree.ask(scope, at=now + 640).left == [97]  # at the reset its word has passed


def test_workers_that_come_back_from_an_outage_of_the_store_spend_the_burst_once(tree: Tree) -> None:
    """Sixteen of them once filled the window between them, and nobody called for its whole length."""
    scope = tree.node(QuotaWindow("minute", 400, 60, burst=100))
    for _ in range(16):
        tree.conn.execute(SQL.spend, {"scopes": [scope], "tokens": 2})
    row = tree.conn.execute("select used from sync.quota_now where scope = %s", (scope,)).fetchone()
    assert row == (100 + 16 * 2,)
