"""How long what a worker was told last of its windows stands."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync_pipeline.gateway.quota import Pace
from sync_pipeline.gateway.quota_known import Known
from sync_pipeline.kernel.feed import QuotaWindow

MINUTE = QuotaWindow("minute", 600, 60)


class Clock:
    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 22, 59, 50, tzinfo=UTC).timestamp()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)

    def monotonic(self) -> float:
        return self.at - 5000

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_what_was_told_is_over_when_its_window_has_passed() -> None:
    clock = Clock()
    minute, day = ("shop", "minute"), ("shop", "day")
    berlin = QuotaWindow("day", 10, 86_400, kind="daily", zone="Europe/Berlin")
    known = Known({minute: Pace.of(MINUTE), day: Pace.of(berlin)}, clock=clock, monotonic=clock.monotonic)
    known.granted([minute], [0], 0)
    assert known.spent_s([minute], 1, 0) == pytest.approx(61)
    clock.at += 60.9
    assert known.spent_s([minute], 1, 0) == pytest.approx(0.1)
    clock.at += 0.2
    assert known.spent_s([minute], 1, 0) == 0
    assert known.scarcest() is None
    clock.at -= 61.1
    known.said(day, 0)
    assert known.spent_s([minute, day], 1, 4) == pytest.approx(20), "midnight in Berlin, and the slack"
    clock.at += 21
    assert known.spent_s([minute, day], 1, 4) == 0


def test_a_day_bears_what_is_left_of_it_until_it_is_over() -> None:
    clock = Clock()
    clock.at -= 3600 - 10  # an hour before midnight in Berlin
    minute, day = ("shop", "minute"), ("shop", "day")
    berlin = QuotaWindow("day", 1000, 86_400, kind="daily", zone="Europe/Berlin")
    known = Known({minute: Pace.of(MINUTE), day: Pace.of(berlin)}, clock=clock, monotonic=clock.monotonic)
    known.granted([minute], [1], 0)
    assert known.bears() is None, "a minute is soon over"
    known.granted([minute, day], [1, 500], 0)
    assert known.bears() == pytest.approx(500 / 3610), "and the slack after midnight"
    known.said(day, -3)
    assert known.bears() == 0


def test_a_lane_that_was_told_to_wait_holds_those_below_it_until_one_of_them_is_given_some() -> None:
    clock = Clock()
    minute = ("shop", "minute")
    known = Known({minute: Pace.of(MINUTE)}, clock=clock, monotonic=clock.monotonic)
    known.refused("shop", 2, 20)
    assert [known.spent_s([minute], 1, lane) for lane in range(5)] == [0, 0, 20, 20, 20]
    known.granted([minute], [50], 1)
    assert known.spent_s([minute], 1, 3) == 20
    known.granted([minute], [49], 3)
    assert known.spent_s([minute], 1, 4) == 0


def test_yesterdays_rest_says_nothing_of_today() -> None:
    """Five calls left at midnight were spread over the whole new day."""
    clock = Clock()
    clock.at += 8  # two seconds before midnight in Berlin
    day = ("shop", "day")
    berlin = QuotaWindow("day", 20_000, 86_400, kind="daily", zone="Europe/Berlin")
    known = Known({day: Pace.of(berlin)}, clock=clock, monotonic=clock.monotonic)
    known.granted([day], [5], 2)
    assert known.bears() == pytest.approx(5 / 12)
    clock.at += 13
    assert known.bears() is None
    known.granted([day], [19_999], 2)
    assert known.bears() == pytest.approx(20_000 / 86_400, rel=0.01)


def test_the_day_of_an_endpoint_bounds_no_other_feed() -> None:
    """24 exports a day left every feed of the connection a call an hour."""
    clock = Clock()
    day, exports = ("shop", "day"), ("shop /export", "day")
    windows = {
        day: Pace.of(QuotaWindow("day", 20_000, 86_400, kind="daily")),
        exports: Pace.of(QuotaWindow("day", 24, 86_400, kind="daily")),
    }
    known = Known(windows, general={day}, clock=clock, monotonic=clock.monotonic)
    known.granted([exports], [23], 2)
    assert known.bears() is None
    known.granted([day, exports], [19_000, 22], 2)
    assert known.bears() == pytest.approx(19_000 / (3610 + 10), rel=0.01)
