"""When a session asks its feeds next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.polling.schedule import Left
from sync_pipeline.sessions.planner import Planner, Seen, Wishes

NOW = datetime(2026, 5, 4, 9, tzinfo=UTC)
WISH = Wishes(target_lag_s=60, floor_s=5, ceiling_s=900)
SCARCE = (QuotaWindow("hour", 120, 3600),)


def polled(planner: Planner, source: str, changes: int, times: int, every_s: float = 60) -> tuple[datetime, str, float]:
    """The last plan after `times` polls that each found `changes`."""
    now, plan = NOW, None
    for _ in range(times):
        since, now = now, now + timedelta(seconds=every_s)
        plan = planner.after(source, Seen(changes, since, 1), now, jitter=0, left=Left(42, "this hour"))
    assert plan is not None
    return plan.due, plan.why, plan.interval_s


def test_a_busy_feed_takes_the_calls_of_a_quiet_one() -> None:
    planner = Planner(SCARCE, {"busy": WISH, "quiet": WISH})
    polled(planner, "quiet", 0, 200)
    _, why, busy = polled(planner, "busy", 5, 50)
    _, _, quiet = polled(planner, "quiet", 0, 1)
    assert busy < 90
    assert quiet > 4 * busy
    assert 1 / busy + 1 / quiet <= 0.5 * 120 / 3600 * 1.01
    assert "changes expected by" in why
    assert "costs 1 of 42 calls left this hour" in why


def test_a_feed_that_is_worth_more_or_wanted_sooner_is_asked_more_often() -> None:
    def intervals(other: Wishes) -> tuple[float, float]:
        planner = Planner(SCARCE, {"plain": WISH, "other": other})
        polled(planner, "other", 2, 50)
        return polled(planner, "plain", 2, 50)[2], polled(planner, "other", 2, 1)[2]

    plain, same = intervals(WISH)
    assert same == pytest.approx(plain, rel=0.1)
    plain, dear = intervals(replace(WISH, value=9.0))
    assert plain > 2 * dear
    plain, soon = intervals(replace(WISH, target_lag_s=60 / 9))
    assert plain > 2 * soon
    assert soon == pytest.approx(dear)


def test_a_day_that_is_nearly_spent_is_spread_over_what_is_left_of_it() -> None:
    windows = (QuotaWindow("day", 20_000, 86_400, kind="daily"),)

    def interval(left: Left | None) -> float:
        planner = Planner(windows, {"busy": WISH})
        polled(planner, "busy", 5, 20)
        return planner.after("busy", Seen(5, NOW, 1), NOW + timedelta(minutes=1), jitter=0, left=left).interval_s

    plenty, scarce = interval(Left(20_000, "today", 20_000 / 86_400)), interval(Left(300, "today", 300 / 36_000))
    assert interval(None) == interval(Left(20_000, "today")) == plenty
    assert scarce == pytest.approx(36_000 / 300 / 0.5), "half of what is left is for polls"
    assert interval(Left(0, "today", 0.0)) == WISH.ceiling_s


def test_floor_and_ceiling_hold_whatever_is_learned() -> None:
    plenty = Planner((QuotaWindow("s", 1000, 1),), {"busy": WISH})
    assert polled(plenty, "busy", 50, 20)[2] == 5
    silent = Planner((QuotaWindow("day", 10, 86_400),), {"quiet": WISH})
    assert polled(silent, "quiet", 0, 300)[2] == 900


def test_an_open_window_goes_on_at_once() -> None:
    plan = Planner(SCARCE, {"f": WISH}).after("f", Seen(None, None, 40, open=True), NOW, jitter=0.5, left=None)
    assert (plan.due, plan.estimate) == (NOW, None)
    assert "still open" in plan.why


def test_history_teaches_nothing_of_the_present() -> None:
    planner = Planner(SCARCE, {"f": WISH})
    plan = planner.after("f", Seen(None, None, 40), NOW, jitter=0, left=None)
    assert (plan.estimate, plan.interval_s) == (None, 30)
    assert plan.calls_a_poll == 1, "nor is a poll as dear as all of history"


def test_what_a_session_learned_the_next_one_recalls() -> None:
    first = Planner(SCARCE, {"f": WISH, "g": WISH})
    polled(first, "g", 3, 50)
    plan = first.after("g", Seen(3, NOW, 2), NOW + timedelta(minutes=1), jitter=0, left=None)
    later = Planner(SCARCE, {"f": WISH, "g": WISH})
    later.recall("g", plan.estimate, plan.calls_a_poll)
    later.recall("f", {"v": 99}, None)
    at = NOW + timedelta(minutes=2)
    again = later.after("g", Seen(3, NOW + timedelta(minutes=1), 2), at, jitter=0, left=None)
    fresh = Planner(SCARCE, {"f": WISH, "g": WISH}).after("g", Seen(0, NOW, 2), at, jitter=0, left=None)
    assert again.interval_s < fresh.interval_s


def test_what_six_feeds_showed_is_expected_of_a_seventh_and_five_say_nothing_of_it() -> None:
    def of_a_new_feed(others: int) -> float:
        names = [f"feed{number}" for number in range(others)]
        first = Planner(SCARCE, dict.fromkeys(names, WISH))
        later = Planner(SCARCE, dict.fromkeys([*names, "new"], WISH))
        for name in names:
            polled(first, name, 3, 60)
            stored = first.after(name, Seen(3, NOW, 1), NOW + timedelta(hours=2), jitter=0, left=None)
            later.recall(name, stored.estimate, stored.calls_a_poll)
        at = NOW + timedelta(hours=2)
        plan = later.after("new", Seen(0, at, 1), at + timedelta(seconds=1), jitter=0, left=None)
        assert plan.estimate is not None
        return float(plan.estimate.get("prior_rate", 1 / 86_400)) * 86_400

    assert of_a_new_feed(5) == 1.0
    assert of_a_new_feed(6) > 100
