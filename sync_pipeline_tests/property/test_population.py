"""What feeds teach each other: the spread of rates as it is, nothing where they are few, and never a false certainty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.polling import evidence
from sync_pipeline.polling.estimate import DAY, Observation, Prior, RateEstimate, observe, rate_at
from sync_pipeline.polling.evidence import Floats, Rows, Seen
from sync_pipeline.polling.population import FEW, behind, learned, shared

START = datetime(2026, 1, 5, tzinfo=UTC)
GUESS = Prior(rate=100 / DAY, shape=3.0)


def counted(true: Floats, days: float, rng: np.random.Generator, believed: Prior = GUESS) -> Rows:
    """Feeds whose changes were counted for so long. `true` in changes per second."""
    n = true.shape[0]
    rows = evidence.fresh(np.full(n, believed.shape), np.full(n, believed.rate))
    found = rng.poisson(true * days * DAY)
    at = START.timestamp()
    nothing = np.full(n, -1.0)
    poll = Seen(np.full(n, at), np.full(n, at + days * DAY), found > 0, found.astype(np.float64), nothing)
    return evidence.learn(rows, poll)


def estimates(true: Floats, rng: np.random.Generator) -> list[RateEstimate]:
    """Feeds asked every six hours for a week."""
    feeds = []
    for rate in true:
        estimate = RateEstimate.before_any_poll(GUESS)
        for poll in range(30):
            at = START + timedelta(hours=6 * poll)
            found = int(rng.poisson(rate * 6 * 3600))
            estimate = observe(estimate, Observation(at, found > 0, found), at + timedelta(hours=6))
        feeds.append(estimate)
    return feeds


def test_feeds_of_one_kind_teach_a_new_one_and_correct_a_wrong_guess() -> None:
    rng = np.random.default_rng(8)
    _, prior = shared(estimates(rng.gamma(0.8, 5 / DAY / 0.8, 80), rng), GUESS)
    assert prior.rate == pytest.approx(5 / DAY, rel=0.4)
    assert 0.3 < prior.shape < 2
    assert rate_at(RateEstimate.before_any_poll(prior), START) == pytest.approx(prior.rate)


def test_a_few_feeds_teach_each_other_nothing() -> None:
    rng = np.random.default_rng(3)
    feeds = estimates(np.full(FEW, 5 / DAY), rng)
    assert shared(feeds[:-1], GUESS) == (feeds[:-1], GUESS)
    assert shared([*feeds[:-1], RateEstimate()], GUESS)[1] == GUESS, "a feed that was never polled tells nothing"
    assert shared([], GUESS) == ([], GUESS)
    assert shared(feeds, GUESS)[1].rate < GUESS.rate


@pytest.mark.parametrize(("tail", "better"), [("pareto", 0.9), ("lognormal", 1.0), ("alike", 0.5)])
def test_what_the_fleet_shows_beats_one_gamma_for_all(tail: str, better: float) -> None:
    rng = np.random.default_rng(9)
    raw = {
        "pareto": rng.pareto(1.2, 2000) + 1.0,
        "lognormal": rng.lognormal(0.0, 2.0, 2000),
        "alike": np.full(2000, 3.0),
    }[tail]
    true = raw / DAY
    rows = counted(true, 3.0, rng)
    taught = behind(learned(rows, GUESS), rows)
    # One gamma of the true mean, as firm as half a change.
    alone = (0.5 + rows.slow_changes) / (0.5 / true.mean() + rows.slow_s)

    def off(rates: Floats) -> float:
        # Polls go by the root of the rate.
        return float(np.sqrt(np.mean((np.sqrt(rates) - np.sqrt(true)) ** 2)))

    assert off(evidence.slow_rate(taught)) < better * off(alone)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-8, 1), st.floats(-2, 3)), min_size=1, max_size=30),
    st.floats(-8, 1),
    st.floats(-1, 2),
    st.integers(0, 2**32 - 1),
)
def test_any_evidence_behind_any_belief_gives_priors_that_are_priors(
    feeds: list[tuple[float, float]], rate: float, shape: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    believed = Prior(10.0**rate, 10.0**shape)
    rows = evidence.fresh(np.full(len(feeds), believed.shape), np.full(len(feeds), believed.rate))
    seconds = np.array([10.0**days * DAY for _, days in feeds])
    changes = rng.poisson(np.minimum(np.array([10.0**log for log, _ in feeds]) * seconds, 1e9)).astype(np.float64)
    rows.slow_s[:], rows.slow_changes[:] = seconds, changes
    population = learned(rows, believed)
    assert float(population.share.sum()) == pytest.approx(1.0)
    taught = behind(population, rows)
    for column in (taught.prior_shape, taught.prior_rate, evidence.slow_rate(taught)):
        assert bool(np.isfinite(column).all())
        assert bool((column > 0).all())
    Prior(population.prior().rate, population.prior().shape)
    # Own evidence is not argued away: with a thousand changes a feed keeps its own rate.
    sure = changes > 1000
    assert evidence.slow_rate(taught)[sure] == pytest.approx((changes / seconds)[sure], rel=0.1)
    # Nothing changes what the evidence itself is.
    assert taught.slow_s is rows.slow_s


def test_a_feed_that_was_never_polled_gets_the_priors_mean() -> None:
    rng = np.random.default_rng(1)
    rows = counted(rng.gamma(2.0, 2 / DAY, 50), 5.0, rng)
    population = learned(rows, GUESS)
    new = behind(population, evidence.fresh(np.array([1.0]), np.array([1.0])))
    assert float(new.prior_rate[0]) == pytest.approx(population.prior().rate, rel=1e-6)
    assert float(new.prior_shape[0]) == pytest.approx(population.prior().shape, rel=1e-6)
