"""What a quota will look like: the day's end at the present pace, and what more work would cost. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

POLLS_A_DAY_S = 86_400.0

NEVER_S = 10 * 365 * 86_400.0
"""Longer is never: a hair of a limit is left, by rounding or in truth."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """One window at the present pace. `at_end`: calls used when it ends (a day of the vendor's, or any window's length);
    `share`: of its limit. `exhausted_at`: when nothing is left, if that is before the end."""

    at_end: int
    share: float
    exhausted_at: datetime | None


def day_end(zone: str, now: datetime) -> datetime:
    """The next midnight of the vendor's day."""
    local = now.astimezone(ZoneInfo(zone))
    return datetime.combine(local.date() + timedelta(days=1), time(), ZoneInfo(zone)).astimezone(now.tzinfo)


def forecast(
    *, limit: int, seconds: float, kind: str, zone: str, used: int, calls_a_second: float, now: datetime
) -> Forecast:
    """`calls_a_second`: the present pace, foreign use included. A sliding window holds what its length brings."""
    if kind == "daily":
        left_s = (day_end(zone, now) - now).total_seconds()
        at_end = used + calls_a_second * left_s
        exhausted = None
        if at_end > limit and calls_a_second > 0:
            exhausted = now + timedelta(seconds=max(0.0, limit - used) / calls_a_second)
        return Forecast(round(at_end), at_end / limit, exhausted)
    at_end = calls_a_second * seconds
    return Forecast(round(at_end), at_end / limit, None)


@dataclass(frozen=True, slots=True)
class Cost:
    """What more work takes. `share`: of the tightest window's calls a day. `takes`: at the pace that is free, None: never."""

    calls: int
    share: float
    takes: timedelta | None


def backfill(*, records: float, page_size: int, limit: int, seconds: float, calls_a_second: float) -> Cost:
    """`records` listed in pages, by what the others leave of a window (P4 gets what nobody above it uses)."""
    calls = max(1, math.ceil(records / page_size))
    free = limit / seconds - calls_a_second
    takes = timedelta(seconds=calls / free) if free * NEVER_S >= calls else None
    return Cost(calls, calls / (limit / seconds * 86_400), takes)


def new_feed(*, interval_s: float, limit: int, seconds: float) -> Cost:
    """One call every `interval_s`, for a day."""
    calls = math.ceil(POLLS_A_DAY_S / interval_s)
    return Cost(calls, calls / (limit / seconds * 86_400), timedelta(days=1))
