"""What a failing check tells the operator to do."""

from __future__ import annotations

from datetime import datetime, timedelta

from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.telemetry.facts import FeedFacts
from sync_pipeline.telemetry.verdicts import cursor_drift
from sync_pipeline_tests.things import at

FEED = FeedId("shop", "things")


def facts(*, watermark: datetime | None, caught_up_at: datetime | None) -> FeedFacts:
    return FeedFacts(
        pages=0, received=0, applied=0, unchanged=0, superseded=0, held=0, quarantined=0, first_page=None, requests=0,
        answers_429=0, retries=0, waited_s=0.0, broken_pages=0, watermark=watermark, caught_up_at=caught_up_at,
        next_due=None, why=None, deferred_until=None, deferred_reason=None, last_error="refused", open_quarantine=0,
        dead_letters=0, held_now=0, now=at(3600),
    )  # fmt: skip


def test_a_feed_behind_its_horizon_is_sent_back_to_its_watermark_and_no_further_on() -> None:
    drifted = cursor_drift(FEED, facts(watermark=at(300), caught_up_at=at(1200)))
    assert not drifted.passed
    assert drifted.numbers == {"behind_s": 40 * 60}
    assert drifted.why.endswith(
        f"(refused); run `sync-pipeline resync shop/things --from {at(300):%Y-%m-%dT%H:%M:%SZ}`"
    )


def test_a_feed_that_lists_its_history_again_is_not_sent_over_it() -> None:
    drifted = cursor_drift(FEED, facts(watermark=None, caught_up_at=at(1200)))
    assert drifted.why.endswith("run `sync-pipeline resync shop/things --from beginning`")


def test_ten_minutes_are_no_drift() -> None:
    assert cursor_drift(FEED, facts(watermark=at(300), caught_up_at=at(3000))).passed
    late = cursor_drift(FEED, facts(watermark=at(300), caught_up_at=at(3000) - timedelta(seconds=1)))
    assert not late.passed
