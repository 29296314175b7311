"""The short way to a grant: whatever the state, it says and books what the full judgement does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from sync_pipeline.gateway.quota import SLOTS, Pace
from sync_pipeline.gateway.quota_store import SQL
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline_tests.integration.quota_setting import START, Tree, names

HALF_A_DAY = 43_200.0
"""From START to midnight in UTC."""


@dataclass(frozen=True)
class Row:
    """A window and what its row holds. Shares are of the limit, of the burst's time, of the 200 slots."""

    limit: int
    seconds: float
    daily: bool
    burst: float
    taken: float
    age: float
    behind: int
    ahead: float
    lane_due_s: float | None
    claim: tuple[int, int, float] | None
    odd: str

    @property
    def window(self) -> QuotaWindow:
        if self.daily:
            return QuotaWindow("w", self.limit, 86_400, kind="daily")
        return QuotaWindow("w", self.limit, self.seconds, burst=max(1, int(self.limit * self.burst)))


rows = st.builds(
    Row,
    limit=st.sampled_from([1, 7, 40, 400]),
    seconds=st.sampled_from([1.0, 60.0, 3600.0]),
    daily=st.integers(0, 3).map(lambda found: found == 0),
    burst=st.sampled_from([0.1, 0.5, 1.0]),
    taken=st.sampled_from([0.0, 0.1, 0.35, 0.5, 0.7, 0.85, 0.95, 1.0]),
    age=st.floats(0, 1),
    behind=st.sampled_from([0, 0, 0, 1, 5, 400]),
    ahead=st.sampled_from([-1.0, 0.0, 0.3, 0.6, 0.9, 1.0, 1.1]),
    lane_due_s=st.sampled_from([None, -0.5, 0.0, 0.5, 5000.0, 5000.0, 5000.0]),
    claim=st.none() | st.tuples(st.integers(0, 4), st.integers(1, 9), st.sampled_from([-1.0, 0.0, 1.0])),
    odd=st.sampled_from([*[""] * 5, "share", "others", "blocked", "unblocked", "restart", "yesterday", "new"]),
)
asks = st.tuples(st.integers(0, 4), st.integers(1, 3), st.sampled_from([0, 0, 1, 9]))
"""Lane, the least and how many more than that."""
FULL, SHORT = "quota_judge", "quota_grant"


def ask(tree: Tree, function: str, scopes: Sequence[str], wish: tuple[int, int, int], at: float) -> tuple[Any, ...]:
    lane, least, more = wish
    row = tree.conn.execute(
        f"select granted, wait, window_name, now, held from sync.{function}(%s, %s, %s, %s, %s)",
        (list(scopes), lane, least, least + more, START + timedelta(seconds=at)),
    ).fetchone()
    assert row is not None
    return tuple(row)


def put(tree: Tree, row: Row, at: float) -> str:
    """A node whose only window is in that state."""
    scope, now, pace = tree.node(row.window), START + timedelta(seconds=at), Pace.of(row.window)
    taken = int(row.limit * row.taken)
    slot = math.floor(now.timestamp() * SLOTS / (pace.seconds + pace.slack)) - row.behind
    oldest = slot - int(row.age * SLOTS)
    slots = [0] * (SLOTS + 1)
    slots[slot % (SLOTS + 1)] = taken // 3
    slots[oldest % (SLOTS + 1)] += taken - taken // 3
    lane_at = [now + timedelta(seconds=row.lane_due_s) if row.lane_due_s is not None else None] * 5
    claim_lane, claim_tokens, claimed_s = row.claim or (None, 0, None)
    tree.conn.execute("select sync.quota_booted()")
    tree.conn.execute(
        "update sync.quota set slot = %(slot)s, slots = %(slots)s, counted = %(counted)s, oldest = %(oldest)s,"
        " used = %(used)s, day = (%(now)s at time zone zone)::date, tat = %(tat)s,"
        " lane_at = array(select coalesce(due, '-infinity') from unnest(%(lane_at)s::timestamptz[]) due),"
        " claim_lane = %(claim_lane)s, claim_tokens = %(claim_tokens)s, claimed_until = %(claimed)s,"
        " share_at = %(now)s, booted_at = (select seen_at from sync.quota_boot) where scope = %(scope)s",
        {
            "scope": scope,
            "now": now,
            "slot": slot,
            "slots": slots,
            "counted": 0 if row.daily else taken,
            "used": taken if row.daily else 0,
            "oldest": oldest,
            "tat": now + timedelta(seconds=0 if row.daily else row.ahead * pace.burst * pace.emission),
            "lane_at": lane_at,
            "claim_lane": claim_lane,
            "claim_tokens": claim_tokens,
            "claimed": None if claimed_s is None else now + timedelta(seconds=claimed_s),
        },
    )
    if odd := ODD.get(row.odd):
        tree.conn.execute(f"update sync.quota set {odd} where scope = %(scope)s", {"scope": scope, "now": now})
    return scope


ODD = {
    "share": "share = 0.7",
    "others": "foreign_rate = 20, foreign_at = %(now)s",
    "blocked": "blocked_until = %(now)s + interval '2 seconds'",
    "unblocked": "blocked_until = %(now)s - interval '2 seconds'",
    "restart": "booted_at = booted_at - interval '1 hour'",
    "yesterday": "day = day - 1, late = 1",
    "new": "day = null, booted_at = null",
}


def copy(tree: Tree, scope: str) -> str:
    made = f"n{next(names):06}"
    tree.conn.execute(
        "insert into sync.quota select (jsonb_populate_record(q, jsonb_build_object('scope', %s::text))).*"
        " from sync.quota q where scope = %s",
        (made, scope),
    )
    return made


def state(tree: Tree, scopes: Sequence[str]) -> list[Any]:
    found = tree.conn.execute(
        "select to_jsonb(q) - 'scope' from sync.quota q where scope = any(%s) order by array_position(%s, scope), window_name",
        (list(scopes), list(scopes)),
    ).fetchall()
    return [row[0] for row in found]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    wanted=st.lists(rows, min_size=1, max_size=3),
    start=st.sampled_from([0.0, HALF_A_DAY - 9, HALF_A_DAY - 600]),
    wishes=st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.2, 1.0, 15.0]), asks), min_size=1, max_size=5),
)
def test_the_short_way_says_and_books_what_the_full_judgement_does(
    tree: Tree, wanted: list[Row], start: float, wishes: list[tuple[float, tuple[int, int, int]]]
) -> None:
    """From the same state at the same instant: an equal answer, and rows that are equal in all they hold."""
    full = [put(tree, row, start) for row in wanted]
    short = [copy(tree, scope) for scope in full]
    at = start
    for gap, wish in wishes:
        at += gap
        answer = ask(tree, FULL, full, wish, at)
        event("granted" if answer[0] else "refused")
        assert ask(tree, SHORT, short, wish, at) == answer
        assert state(tree, short) == state(tree, full)


@pytest.mark.parametrize("lane", range(5))
@pytest.mark.parametrize("apart_s", [0.01, 1.0, 30.0, 900.0])
def test_where_there_is_room_nothing_is_judged(tree: Tree, lane: int, apart_s: float) -> None:
    """Else each grant would cost what it did before: fresh rows and rows that an hour has passed over."""
    scopes = [
        tree.node(QuotaWindow("minute", 900, 60), QuotaWindow("day", 20_000, 86_400, kind="daily")),
        tree.node(QuotaWindow("second", 100, 1)),
    ]
    ask(tree, SHORT, scopes, (lane, 1, 0), 0.0)
    with tree.conn.transaction(force_rollback=True):
        tree.conn.execute(
            "create or replace function sync.quota_judge(scopes text[], lane integer, least_tokens integer,"
            " most_tokens integer, at timestamptz default null) returns table (granted integer, wait double precision,"
            " scope text, window_name text, now timestamptz, held integer[]) language plpgsql as"
            " $$ begin raise exception 'judged'; end $$"
        )
        for turn in range(1, 9):
            assert ask(tree, SHORT, scopes, (lane, 1, 0), turn * apart_s)[0] == 1


def test_what_is_not_plain_is_judged(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("minute", 300, 60))
    ask(tree, SHORT, [scope], (0, 1, 0), 0.0)
    tree.conn.execute("update sync.quota set share = 0.5 where scope = %s", (scope,))
    with tree.conn.transaction(force_rollback=True):
        tree.conn.execute("drop function sync.quota_judge")
        with pytest.raises(psycopg.errors.UndefinedFunction, match="quota_judge"):
            ask(tree, SHORT, [scope], (0, 1, 0), 1.0)


def test_a_scope_without_rows_has_no_answer(tree: Tree) -> None:
    row = tree.conn.execute(SQL.grant, {"scopes": ["nobody"], "lane": 0, "least": 1, "most": 1}).fetchone()
    assert row is None
