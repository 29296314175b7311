"""The plan of one feed is spread by a number that its session draws."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.sessions.planner import Plan, Planner, Seen, Wishes

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)


def planned(jitter: float, limit: int = 120) -> Plan:
    planner = Planner((QuotaWindow("hour", limit, 3600),), {"f": Wishes(60, 5, 900)})
    return planner.after("f", Seen(3, NOW - timedelta(minutes=1), 1), NOW, jitter=jitter, left=None)


@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.999])
def test_a_feed_is_asked_up_to_a_tenth_sooner(jitter: float) -> None:
    plan = planned(jitter)
    assert plan.interval_s == planned(0.0).interval_s > 20
    assert (plan.due - NOW).total_seconds() == pytest.approx(plan.interval_s * (1 - 0.1 * jitter))


def test_never_sooner_than_its_floor() -> None:
    plan = planned(0.999, limit=100_000)
    assert plan.interval_s == (plan.due - NOW).total_seconds() == 5
