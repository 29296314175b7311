"""What a vendor says of its day is over at that day's end: neither a block nor a count goes into the next one."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from sync_pipeline.gateway.quota import DAY_SLACK_S, Pace
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import Deferred
from sync_pipeline.kernel.feed import QuotaFeedback, QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer, gateway, send
from sync_pipeline_tests.things import rows

USED = "select used from sync.quota_now"


def day() -> QuotaWindow:
    """Of a vendor where it is about noon."""
    west = datetime.now(UTC).hour - 12
    return QuotaWindow("day", 1000, 86_400, kind="daily", zone=f"Etc/GMT{west:+d}")


def quota(database: Database, window: QuotaWindow) -> Quota:
    return Quota(
        "shop",
        [QuotaNode("shop", (window,))],
        database=database,
        clock=SystemClock(),
        monotonic=time.monotonic,
        random=random.Random(1).random,
    )


@pytest.mark.parametrize("reset", [None, timedelta(hours=30)], ids=["no reset", "a reset the day after"])
async def test_none_left_blocks_until_the_vendors_midnight(database: Database, reset: timedelta | None) -> None:
    """Without a reset it blocked for 24 hours: the next day began as late as the day before had ended."""
    window, now = day(), datetime.now(UTC)
    one = quota(database, window)
    await one.open()
    await one.acquire()
    await one.told(QuotaFeedback("day", remaining=0, reset_at=reset and now + reset), now)
    with pytest.raises(Deferred):
        await one.acquire(lane="P0")
    tomorrow = now.astimezone(ZoneInfo(window.zone)).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(
        days=1
    )
    [(blocked,)] = await rows(database, "select blocked_until from sync.quota")
    assert (blocked - tomorrow).total_seconds() == pytest.approx(DAY_SLACK_S, abs=3)
    grants = await rows(
        database,
        "select granted from unnest(array[-60, 30]) s,"
        " sync.quota_grant(array['shop'], 0, 1, 1, %s::timestamptz + make_interval(secs => s))",
        tomorrow,
    )
    assert grants == [(0,), (1,)]


@pytest.mark.parametrize("remaining", [5, 0])
async def test_what_was_said_of_yesterday_says_nothing_of_today(database: Database, remaining: int) -> None:
    window, now = day(), datetime.now(UTC)
    one = quota(database, window)
    await one.open()
    await one.acquire()
    await one.told(QuotaFeedback("day", remaining=remaining), now, sent=now - timedelta(hours=14))
    assert one.left() == (999, 86_400)
    await one.acquire()
    assert await rows(database, USED) == [(2,)]
    assert await rows(database, "select calls from sync.quota_foreign") == []
    await one.told(QuotaFeedback("day", remaining=5), now, sent=now - timedelta(seconds=30))
    assert await rows(database, USED) == [(995,)]


async def test_an_answer_that_is_read_after_midnight_is_of_the_day_on_which_it_was_asked(
    vendor: Vendor, database: Database
) -> None:
    """It filled the new day with what the old one had used."""
    window = QuotaWindow("day", 100, 86_400, kind="daily")
    vendor.delay = 4.5
    vendor.script = [answer(200, x_ratelimit_remaining="3", x_ratelimit_limit="100")]
    async with gateway(vendor, database, SystemClock(), windows=(window,), timeout_s=10) as opened:
        # Such a zone as makes it three to four seconds to midnight.
        east = "to_char(interval '23:59:57' - (clock_timestamp() at time zone 'UTC')::time, 'HH24:MI:SS')"
        await rows(database, f"update sync.quota set zone = '<X>-' || {east} returning 1")
        await rows(database, "update sync.quota set day = (now() at time zone zone)::date, used = 90 returning 1")
        asked = asyncio.create_task(send(opened))
        await vendor.asked.wait()
        assert await rows(database, USED) == [(91,)]
        assert await asked == 200
        vendor.delay = 0
        assert await rows(database, USED) == [(1,)]  # granted so late that the vendor may count it today
        assert await send(opened) == 200
        assert await rows(database, USED) == [(2,)]


@pytest.mark.parametrize(
    ("zone", "sent", "answered", "passed_s"),
    [
        ("UTC", "2026-03-01T12:00:00+00:00", "2026-03-01T12:00:01+00:00", 12 * 3600 - 1),
        ("Europe/Berlin", "2026-03-28T23:30:00+00:00", "2026-03-28T23:30:00+00:00", 22.5 * 3600),  # a day of 23 hours
        ("Asia/Tokyo", "2026-03-01T14:59:00+00:00", "2026-03-01T15:00:05+00:00", -5),
        ("Asia/Tokyo", "2026-03-01T15:00:05+00:00", "2026-03-01T15:00:06+00:00", -6),  # by the vendor's clock yesterday
        ("Asia/Tokyo", "2026-03-01T15:00:11+00:00", "2026-03-01T15:00:12+00:00", 86_400 - 12),
        ("Asia/Tokyo", "2026-03-01T10:00:00+00:00", "2026-03-01T16:00:00+00:00", -DAY_SLACK_S),
    ],
)
def test_a_word_on_a_day_is_over_a_slack_after_its_midnight(
    zone: str, sent: str, answered: str, passed_s: float
) -> None:
    pace = Pace.of(QuotaWindow("day", 100, 86_400, kind="daily", zone=zone))
    found = pace.passed_s(datetime.fromisoformat(sent), datetime.fromisoformat(answered))
    assert found == pytest.approx(passed_s + DAY_SLACK_S)
