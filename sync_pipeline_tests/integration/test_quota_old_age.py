"""Rows that nobody has touched for a second, for years, or since a time that the clock has not reached again."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway.quota_store import SQL, Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import QuotaFeedback, QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.quota_setting import START, Tree
from sync_pipeline_tests.things import rows

WINDOWS = (QuotaWindow("minute", 600, 60), QuotaWindow("day", 20_000, 86_400, kind="daily", zone="Europe/Berlin"))
INSTANTS = (
    "tat", "share_at", "lowered_at", "foreign_at", "claimed_until", "local_at", "reset_said", "blocked_until", "updated_at",
)  # fmt: skip
AGES = {"a second": 1, "a week": 7 * 86_400, "a year": 365 * 86_400, "thirty years": 30 * 365 * 86_400, "ahead": -3600}


def seconds_now() -> float:
    return (datetime.now(UTC) - START).total_seconds()


@pytest.mark.parametrize("age_s", AGES.values(), ids=AGES)
def test_every_function_of_the_quota_takes_rows_of_any_age(tree: Tree, age_s: float) -> None:
    scope = tree.node(*WINDOWS)
    now = seconds_now()
    tree.ask(scope, lane=4, at=now, most=20)
    said = {"scopes": [scope], "remaining": 500, "reset_s": 60, "leave_s": 60, "age_s": 0}
    tree.conn.execute(SQL.told, said | {"name": "minute"})
    tree.conn.execute(SQL.told, said | {"name": "day"})
    tree.conn.execute("select sync.quota_lower(%s)", ([scope],))
    moved = ", ".join(f"{name} = {name} - a.age" for name in INSTANTS)
    tree.conn.execute(
        f"update sync.quota q set {moved}, share = 0.5, foreign_rate = greatest(1, foreign_rate), claim_lane = 1,"
        " lane_at = array(select at - a.age from unnest(q.lane_at) with ordinality l(at, n) order by n),"
        " slot = sync.quota_slot(window_seconds, slack, clock_timestamp() - a.age), oldest = 0,"
        " day = (clock_timestamp() - a.age)::date"
        " from (select make_interval(secs => %s) as age) a where scope = %s",
        (age_s, scope),
    )
    for lane in range(5):
        grant = tree.ask(scope, lane=lane, at=now + 1)
        assert grant.granted or 0 < grant.wait < 2 * 86_400
    tree.give_back(scope, 1, now)
    tree.conn.execute(SQL.told, said | {"name": "minute", "remaining": 400})
    tree.conn.execute(SQL.told, said | {"name": "day", "remaining": 400})
    tree.conn.execute("select sync.quota_lower(%s)", ([scope],))
    tree.conn.execute(SQL.spend, {"scopes": [scope], "tokens": 1})
    tree.node(QuotaWindow("minute", 600, 30), WINDOWS[1], scope=scope)
    assert len(tree.conn.execute("select * from sync.quota_now where scope = %s", (scope,)).fetchall()) == 2


@pytest.mark.parametrize(
    ("age_s", "share"), [(-3600, 1), (0, 1), (600, 0.5), (6000, 0.5**10), (86_400, 0), (10**9, 0), (4 * 10**9, 0)]
)
def test_foreign_use_fades_to_nothing(tree: Tree, age_s: float, share: float) -> None:
    row = tree.conn.execute(
        "select sync.quota_fading(8, %s - make_interval(secs => %s), %s)", (START, age_s, START)
    ).fetchone()
    assert row is not None
    assert row[0] == pytest.approx(8 * share)


def test_foreign_use_that_has_faded_leaves_a_window_of_one_call_its_call(tree: Tree) -> None:
    """What is kept free for others is rounded up to a whole call: there was never anything for us again."""
    scope = tree.node(QuotaWindow("w", 1, 60))
    tree.conn.execute(
        "update sync.quota set foreign_rate = 1, foreign_at = %s where scope = %s", (START - timedelta(hours=5), scope)
    )
    assert tree.ask(scope, at=0).granted == 1


async def test_foreign_use_of_last_week_does_not_end_all_grants(database: Database) -> None:
    one = Quota(
        "shop",
        [QuotaNode("shop", WINDOWS[:1])],
        database=database,
        clock=SystemClock(),
        monotonic=time.monotonic,
        random=random.Random(1).random,
    )
    await one.open()
    await one.acquire()
    await one.told(QuotaFeedback("minute", remaining=500), datetime.now(UTC))
    await rows(database, "update sync.quota set foreign_at = foreign_at - interval '8 days' returning 1")
    assert await rows(database, "select foreign_rate from sync.quota_now") == [(0.0,)]
    await one.acquire()
