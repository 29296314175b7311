"""Forecasts and costs: never better for more calls, right at the ends of days, changed clocks included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.telemetry.quota_plan import NEVER_S, Forecast, backfill, day_end, forecast, new_feed

ZONES = st.sampled_from(
    ["UTC", "America/New_York", "Europe/Berlin", "Pacific/Kiritimati", "Asia/Kolkata", "Australia/Lord_Howe"]
)
INSTANTS = st.integers(1_577_836_800, 2_051_222_400).map(lambda epoch: datetime.fromtimestamp(epoch, UTC))
"""2020 to 2034."""

LIMITS = st.integers(1, 1_000_000)
SECONDS = st.floats(0.1, 86_400)
PACES = st.floats(0, 1000)


def ahead(kind: str, zone: str, limit: int, used: int, pace: float, now: datetime, seconds: float = 60) -> Forecast:
    return forecast(limit=limit, seconds=seconds, kind=kind, zone=zone, used=used, calls_a_second=pace, now=now)


@given(st.sampled_from(["daily", "sliding"]), ZONES, LIMITS, st.integers(0, 1_000_000), PACES, PACES, INSTANTS)
def test_a_higher_pace_is_never_a_better_forecast(
    kind: str, zone: str, limit: int, used: int, pace: float, more: float, now: datetime
) -> None:
    slow, fast = ahead(kind, zone, limit, used, pace, now), ahead(kind, zone, limit, used, pace + more, now)
    assert slow.at_end <= fast.at_end
    assert slow.share <= fast.share
    if slow.exhausted_at is not None:
        assert fast.exhausted_at is not None
        assert now <= fast.exhausted_at <= slow.exhausted_at


@given(ZONES, LIMITS, st.floats(0, 1), PACES, INSTANTS)
def test_a_day_is_exhausted_before_its_end_or_not_at_all(
    zone: str, limit: int, part: float, pace: float, now: datetime
) -> None:
    used = int(limit * part)
    found = ahead("daily", zone, limit, used, pace, now)
    if found.exhausted_at is None:
        assert found.share <= 1 + 1e-9
    else:
        assert found.share > 1
        assert now <= found.exhausted_at < day_end(zone, now) + timedelta(milliseconds=1)
        by_then = used + pace * (found.exhausted_at - now).total_seconds()
        assert by_then == pytest.approx(limit, abs=pace * 1e-5 + 1e-6)


def midnight_before(zone: str, now: datetime) -> datetime:
    return now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)


@given(ZONES, INSTANTS)
def test_a_day_runs_from_midnight_to_midnight_of_its_zone(zone: str, now: datetime) -> None:
    start, end = midnight_before(zone, now), day_end(zone, now)
    assert start <= now < end
    there = [moment.astimezone(ZoneInfo(zone)) for moment in (start, end)]
    # Where clocks are put forward at midnight the day begins an hour later; in these zones none are.
    assert [(local.hour, local.minute) for local in there] == [(0, 0), (0, 0)]
    assert (there[1].date() - there[0].date()).days == 1
    assert 23 <= (end - start).total_seconds() / 3600 <= 25
    assert midnight_before(zone, end) == end
    assert day_end(zone, start) == end


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-04-05", 24.5),
        ("Asia/Kolkata", "2026-03-29", 24),
    ],
)
def test_a_day_of_changed_clocks_is_shorter_or_longer(zone: str, day: str, hours: float) -> None:
    noon = datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert day_end(zone, noon) - midnight_before(zone, noon) == timedelta(hours=hours)
    start = midnight_before(zone, noon)
    found = ahead("daily", zone, 10**6, 0, 1.0, start)
    assert found.at_end == hours * 3600, "a call a second for the whole day"


@given(LIMITS, SECONDS, PACES, st.integers(0, 10**6), INSTANTS)
def test_a_sliding_window_holds_what_its_length_brings(
    limit: int, seconds: float, pace: float, used: int, now: datetime
) -> None:
    found = ahead("sliding", "UTC", limit, used, pace, now, seconds)
    assert found == Forecast(round(pace * seconds), pace * seconds / limit, None)


@given(st.floats(0, 10**7), st.integers(1, 1000), LIMITS, SECONDS, PACES, PACES)
def test_a_backfill_takes_longer_the_less_is_left(
    records: float, page_size: int, limit: int, seconds: float, pace: float, more: float
) -> None:
    free, busy = (
        backfill(records=records, page_size=page_size, limit=limit, seconds=seconds, calls_a_second=each)
        for each in (pace, pace + more)
    )
    assert free.calls == busy.calls >= 1
    assert (free.calls - 1) * page_size < max(1, records) <= max(1, free.calls * page_size)
    assert free.share == busy.share > 0
    assert free.takes is not None or limit / seconds - pace <= free.calls / NEVER_S
    assert busy.takes is None or (free.takes is not None and free.takes <= busy.takes)


def test_a_hair_of_a_limit_is_never_enough() -> None:
    """What rounding leaves of a saturated limit once made a length of time that Python cannot hold."""
    for limit, pace in ((1000, 1000 / 3600), (1000, 1000 / 3600 - 1e-12), (1000, 1)):
        assert backfill(records=10**7, page_size=1, limit=limit, seconds=3600, calls_a_second=pace).takes is None


@given(st.floats(0.1, 86_400), LIMITS, SECONDS)
def test_a_new_feed_costs_a_call_an_interval(interval_s: float, limit: int, seconds: float) -> None:
    found = new_feed(interval_s=interval_s, limit=limit, seconds=seconds)
    assert (found.calls - 1) * interval_s < 86_400 <= found.calls * interval_s * (1 + 1e-12)
    assert found.share == pytest.approx(found.calls / (limit / seconds * 86_400))
    assert found.takes == timedelta(days=1)
