"""What polls teach: never nonsense, the true rate in the end, and never certainty that nothing will change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.polling.estimate import (
    DAY,
    Observation,
    Prior,
    RateEstimate,
    as_rows,
    expected_changes,
    from_rows,
    observe,
    rate_at,
)
from sync_pipeline.polling.evidence import Floats, fresh, profile

START = datetime(2026, 1, 5, tzinfo=UTC)

steps = st.tuples(
    st.floats(-1e4, 1e6),
    st.one_of(st.none(), st.integers(0, 10_000)),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 50)),
)


def walk(
    path: list[tuple[float, int | None, bool, int | None]], estimate: RateEstimate
) -> tuple[RateEstimate, datetime]:
    now = START
    for seconds, count, changed, hints in path:
        since, now = now, now + timedelta(seconds=seconds)
        told = changed if count is None else count > 0
        estimate = observe(estimate, Observation(since, told, count, hints), now)
    return estimate, now


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=12), st.floats(-9, 0), st.floats(-1, 1))
def test_no_history_makes_an_estimate_negative_infinite_or_nan(
    path: list[tuple[float, int | None, bool, int | None]], rate: float, shape: float
) -> None:
    estimate, now = walk(path, RateEstimate.before_any_poll(Prior(10.0**rate, 10.0**shape)))
    for value in (
        rate_at(estimate, now),
        expected_changes(estimate, now, now + timedelta(days=9)),
        estimate.volatility,
    ):
        assert math.isfinite(value)
        assert value >= 0
    assert rate_at(estimate, now) > 0, "a rate of zero would never be explored"
    assert 0 <= estimate.recall < 1
    assert estimate.false_hint_rate >= 0
    kept = RateEstimate.from_json(json.loads(json.dumps(estimate.to_json())))
    assert rate_at(kept, now) == pytest.approx(rate_at(estimate, now), rel=1e-3)
    assert from_rows(as_rows([kept, RateEstimate()]))[0] == (kept if kept.seen else from_rows(as_rows([kept]))[0])


@pytest.mark.parametrize("sight", ["changed", "count"])
@pytest.mark.parametrize("per_poll", [0.05, 0.7, 2.5])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 50.0])
def test_a_poisson_stream_is_learned_whatever_was_believed(sight: str, per_poll: float, wrong: float) -> None:
    rng = np.random.default_rng(11)
    gap = timedelta(minutes=30)
    rate = per_poll / gap.total_seconds()
    estimate, now = RateEstimate.before_any_poll(Prior(rate * wrong, 1.0)), START
    levels, total = [], 0
    for poll in range(1200):
        found = int(rng.poisson(per_poll))
        total += found
        since, now = now, now + gap
        estimate = observe(estimate, Observation(since, found > 0, found if sight == "count" else None), now)
        if poll > 600 and poll % 50 == 0:
            levels.append(expected_changes(estimate, now, now + timedelta(days=7)) / (7 * DAY))
    # Against what this stream really did: a rare change comes by chance more or less often than its law says.
    assert float(np.median(levels)) == pytest.approx(total / 1200 / gap.total_seconds(), rel=0.2)


def test_polls_that_always_say_yes_do_not_stall_far_below_the_truth() -> None:
    rng = np.random.default_rng(5)
    gap, rate = timedelta(hours=1), 4.0 / 3600
    estimate, now = RateEstimate.before_any_poll(Prior(rate / 100, 0.5)), START
    for _ in range(300):
        since, now = now, now + gap
        estimate = observe(estimate, Observation(since, bool(rng.poisson(4.0) > 0)), now)
    assert rate_at(estimate, now) == pytest.approx(rate, rel=0.5)


@pytest.mark.parametrize("factor", [0.1, 0.3])
def test_a_busy_feed_told_by_yes_alone_is_still_noticed_when_it_calms_down(factor: float) -> None:
    """Such polls tell little each and are remembered longer: not so long that the past outweighs the present."""
    rng = np.random.default_rng(3)
    gap, rate = timedelta(hours=2), 3.0 / 7200
    estimate, now = RateEstimate.before_any_poll(Prior(rate, 0.5)), START
    levels = []
    for poll in range(600):
        since, now = now, now + gap
        estimate = observe(
            estimate, Observation(since, bool(rng.poisson(3.0 * (factor if poll >= 500 else 1.0)) > 0)), now
        )
        if poll in (499, 599):
            levels.append(expected_changes(estimate, now, now + timedelta(days=7)) / (7 * DAY))
    assert levels[0] == pytest.approx(rate, rel=0.3)
    assert levels[1] < (0.6 if factor > 0.2 else 0.35) * levels[0]


def test_a_feed_that_wakes_up_is_noticed_within_hours() -> None:
    estimate, now = RateEstimate.before_any_poll(Prior(1 / DAY)), START
    for found in [0] * 200 + [6] * 8:
        since, now = now, now + timedelta(minutes=30)
        estimate = observe(estimate, Observation(since, found > 0, found), now)
    assert rate_at(estimate, now) > 1 / 1800


def test_silence_lowers_the_rate_but_never_to_nothing() -> None:
    estimate, now = RateEstimate.before_any_poll(Prior(10 / DAY)), START
    rates = []
    for _ in range(60):
        since, now = now, now + timedelta(hours=6)
        estimate = observe(estimate, Observation(since, False), now)
        rates.append(expected_changes(estimate, now, now + timedelta(days=7)) / (7 * DAY))
    assert all(later <= earlier * 1.05 for earlier, later in pairwise(rates))
    assert 0 < rates[-1] < 0.1 / DAY


def test_the_hours_of_the_week_are_learned_and_little_evidence_says_nothing_of_them() -> None:
    rng = np.random.default_rng(2)
    estimate, now = RateEstimate.before_any_poll(Prior(20 / DAY)), START
    for poll in range(28 * 24):
        busy = 8 <= poll % 24 < 18 and poll // 24 % 7 < 5
        since, now = now, now + timedelta(hours=1)
        estimate = observe(
            estimate, Observation(since, True, int(rng.poisson(4)) + 1) if busy else Observation(since, False, 0), now
        )
        if poll == 20:
            early = rate_at(estimate, START + timedelta(hours=12)) / rate_at(estimate, START + timedelta(hours=3))
    monday_noon, sunday_noon, night = (START + timedelta(days=28, hours=hour) for hour in (12, 6 * 24 + 12, 27))
    assert rate_at(estimate, monday_noon) > 4 * rate_at(estimate, night)
    assert rate_at(estimate, monday_noon) > 2 * rate_at(estimate, sunday_noon)
    assert early < 3


def test_parts_of_an_interval_add_up_across_weeks() -> None:
    estimate, now = RateEstimate.before_any_poll(Prior(20 / DAY)), START
    for found in [0, 9, 3, 0, 0, 7] * 10:
        since, now = now, now + timedelta(minutes=97)
        estimate = observe(estimate, Observation(since, found > 0, found), now)
    cuts = [now + timedelta(hours=hours) for hours in (0, 0.3, 5, 170, 171.5, 600)]
    parts = [expected_changes(estimate, a, b) for a, b in pairwise(cuts)]
    assert sum(parts) == pytest.approx(expected_changes(estimate, cuts[0], cuts[-1]))
    assert expected_changes(estimate, cuts[1], cuts[0]) == 0


def test_bursts_raise_volatility_and_an_even_stream_does_not() -> None:
    rng = np.random.default_rng(4)
    levels = []
    for burst in (1, 20):
        estimate, now = RateEstimate.before_any_poll(Prior(48 / DAY)), START
        for _ in range(400):
            since, now = now, now + timedelta(minutes=30)
            found = burst * int(rng.poisson(1.0 / burst))
            estimate = observe(estimate, Observation(since, found > 0, found), now)
        levels.append(estimate.volatility)
    assert levels[0] < 2 < levels[1]


def test_hints_are_weighed_by_what_they_were_worth() -> None:
    rng = np.random.default_rng(6)
    good = useless = RateEstimate.before_any_poll(Prior(24 / DAY))
    now = START
    for _ in range(400):
        since, now = now, now + timedelta(hours=1)
        found = int(rng.poisson(1.0))
        good = observe(good, Observation(since, found > 0, found, int(rng.binomial(found, 0.9))), now)
        useless = observe(useless, Observation(since, found > 0, found, 0), now)
    assert good.recall == pytest.approx(0.9, abs=0.05)
    assert useless.recall < 0.05
    assert good.false_hint_rate < 0.1 / 3600


def test_stored_nonsense_is_refused() -> None:
    for value in ({"v": 2}, {"rate": 1.0}, {"slow_s": -1.0}, {"seen": [1.0]}, {"fast_s": float("nan")}):
        with pytest.raises(ValueError, match="estimate"):
            RateEstimate.from_json(value)
    with pytest.raises(ValueError, match="contradicts"):
        Observation(START, False, 3)
    with pytest.raises(ValueError, match="positive"):
        Prior(0.0)


@given(shift=st.integers(0, 23), seed=st.integers(0, 2**16))
def test_a_rhythm_that_lies_across_midnight_is_learned_like_any_other(shift: int, seed: int) -> None:
    """The same days, begun some hours later, have the same factors some hours later."""
    rng = np.random.default_rng(seed)
    seen, flat = rng.random((1, 24)) * 50, rng.random((1, 24)) * 50

    def factors(hours: int) -> Floats:
        rows = fresh(np.array([0.5]), np.array([1 / DAY]))
        week = (np.tile(np.roll(each, hours, axis=1), 7) for each in (seen, flat))
        return profile(replace(rows, **dict(zip(("seen", "flat"), week, strict=True))))

    assert np.allclose(factors(shift)[0, :24], np.roll(factors(0)[0, :24], shift))


def test_a_few_changes_in_neighbouring_hours_tell_more_than_the_same_number_far_apart() -> None:
    rows = fresh(np.full(2, 0.5), np.full(2, 1 / DAY))
    seen, flat = np.zeros((2, 7, 24)), np.full((2, 7, 24), 1.0)
    seen[0, :, 9:12] = 8.0
    seen[1, :, [3, 11, 19]] = 8.0
    factors = profile(replace(rows, seen=seen.reshape(2, 168), flat=flat.reshape(2, 168)))
    assert factors[0, 10] > 1.5 * factors[1, 11]
    assert np.allclose(factors.mean(axis=1), 1.0)
