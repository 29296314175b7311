"""What a failing check tells the operator to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from sync_pipeline.kernel.errors import Awaited
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.telemetry.facts import Cycle, FeedFacts, Rejections
from sync_pipeline.telemetry.verdicts import cursor_drift, rejection_rate, rejections_left, waiting
from sync_pipeline_tests.things import at

FEED = FeedId("shop", "things")


def facts(
    *,
    watermark: datetime | None,
    caught_up_at: datetime | None,
    next_due: datetime | None = None,
    last_error: str | None = "refused",
    deferred_until: datetime | None = None,
) -> FeedFacts:
    return FeedFacts(
        pages=0, received=0, applied=0, unchanged=0, superseded=0, held=0, quarantined=0, first_page=None, requests=0,
        answers_429=0, retries=0, waited_s=0.0, broken_pages=0, watermark=watermark, caught_up_at=caught_up_at,
        next_due=next_due, why=None, deferred_until=deferred_until, deferred_for="quota", deferred_reason="spent",
        last_error=last_error, open_quarantine=0, dead_letters=0, held_now=0, now=at(3600),
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


def test_a_feed_that_rests_until_its_next_poll_is_not_late() -> None:
    resting = facts(watermark=at(300), caught_up_at=at(2700), next_due=at(3600), last_error=None)
    rests = cursor_drift(FEED, resting)
    assert rests.passed
    assert rests.why == f"at its horizon 900 s ago, to be asked at {at(3600):%H:%M:%SZ}"
    assert cursor_drift(FEED, replace(resting, next_due=at(3000))).passed
    assert not cursor_drift(FEED, replace(resting, next_due=at(2999))).passed, "nobody asks it"


def test_what_stands_in_a_feeds_way_is_no_rest_and_is_named() -> None:
    resting = facts(watermark=at(300), caught_up_at=at(2700), next_due=at(3600))
    assert "15 min behind its horizon (refused)" in cursor_drift(FEED, resting).why
    deferred = cursor_drift(FEED, replace(resting, deferred_until=at(3700)))
    assert f"(waiting for quota until {at(3700):%H:%M:%SZ}: spent)" in deferred.why
    assert cursor_drift(FEED, replace(resting, deferred_until=at(3500), last_error=None)).passed


def test_rejections_are_showings_and_their_codes_are_of_different_records() -> None:
    cycle = replace(facts(watermark=None, caught_up_at=None), received=1227, quarantined=194)
    judged = rejection_rate(cycle, Rejections(59, {"WRONG_TYPE": 33, "MISSING_FIELD": 30}, 4))
    assert not judged.passed
    assert judged.why == (
        "194 of 1227 showings rejected (15.8 %, above 5 %), 59 different records: WRONG_TYPE 33, MISSING_FIELD 30 and 4 more "
        "codes. Correct the mapping, then `sync-pipeline quarantine replay --dry-run`"
    )
    assert judged.numbers == {"rejected": 194, "received": 1227, "rate": 0.158109, "records": 59}
    assert "1 different record: WRONG_TYPE 1. " in rejection_rate(cycle, Rejections(1, {"WRONG_TYPE": 1}, 0)).why
    assert "above 5 %), mended since. " in rejection_rate(cycle, Rejections(0, {}, 0)).why
    few = replace(cycle, quarantined=6)
    assert rejection_rate(few, Rejections(6, {"WRONG_TYPE": 6}, 0)).why == "6 of 1227 showings rejected (0.5 %)"


def test_a_cycle_without_records_leaves_the_last_verdict_while_any_of_its_rejections_waits() -> None:
    some = Rejections(2, {"WRONG_TYPE": 2}, 0)
    left = rejections_left(Cycle(10, 3, 7), some)
    assert not left.passed
    assert left.why.startswith(
        "no records in this cycle; in the last that had some, 3 of 10 showings rejected (30.0 %, above 5 %), 2 different "
        "records: WRONG_TYPE 2. Correct the mapping"
    )
    mended = rejections_left(Cycle(10, 3, 7), Rejections(0, {}, 0))
    assert (mended.passed, mended.why) == (
        True,
        "no records in this cycle; those that the last one rejected are mended",
    )
    for quiet in (Cycle(0, 0, None), Cycle(100, 5, 7)):
        assert rejections_left(quiet, some).passed


@pytest.mark.parametrize(("awaits", "what"), [("quota", "quota"), ("breaker", "its breaker"), ("token", "its token")])
def test_a_deferred_feed_says_what_it_waits_for(awaits: Awaited, what: str) -> None:
    deferred = replace(facts(watermark=None, caught_up_at=None), deferred_until=at(7200), deferred_for=awaits)
    assert waiting(deferred) == f"waiting for {what} until {at(7200):%H:%M:%SZ}: {deferred.deferred_reason}"
    assert waiting(replace(deferred, deferred_until=at(3600))) is None
