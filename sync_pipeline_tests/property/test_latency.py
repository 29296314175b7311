"""The latency sketch against numpy's quantiles, and the pauses drawn from it."""

from __future__ import annotations

import functools
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.gateway.latency import (
    ENOUGH,
    HALF_LIFE_S,
    LEAST_PAUSE_S,
    LONGEST_PAUSE_S,
    LONGEST_S,
    SHORTEST_S,
    Latency,
    merge,
    observations,
    observe,
    percentiles,
    quantile,
    retry_pause,
)

NOW = 1_767_225_600.0
PROMISED = 0.05
SECONDS = st.one_of(
    st.floats(SHORTEST_S, LONGEST_S), st.floats(-9.2, 8.1).map(lambda power: float(np.exp(power))), st.just(0.2)
)
MANY = st.lists(SECONDS, min_size=1, max_size=200)
SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.5, 0.95, 0.99]))


def sketch_of(latencies: list[float], now: float = NOW) -> Latency:
    return functools.reduce(lambda sketch, seconds: observe(sketch, seconds, now), latencies, Latency())


@given(MANY, SHARES)
def test_quantiles_are_within_five_percent_of_numpys(latencies: list[float], share: float) -> None:
    exact = float(np.quantile(latencies, share, method="inverted_cdf"))
    found = quantile(sketch_of(latencies), share)
    assert found is not None
    assert abs(found - exact) <= PROMISED * exact


@given(st.lists(st.tuples(SECONDS, st.floats(0, 5 * HALF_LIFE_S)), min_size=5, max_size=150), SHARES)
def test_older_observations_weigh_less_as_numpys_weights_say(seen: list[tuple[float, float]], share: float) -> None:
    sketch = Latency()
    for seconds, age in sorted(seen, key=lambda each: -each[1]):
        sketch = observe(sketch, seconds, NOW - age)
    latencies, weights = [seconds for seconds, _ in seen], [2 ** (-age / HALF_LIFE_S) for _, age in seen]
    # Whole weights are cut at each halving: the rank may be off by a little, the value then by the bucket's width.
    low, high = (
        float(np.quantile(latencies, min(1, max(0, share + by)), weights=weights, method="inverted_cdf"))
        for by in (-0.02, 0.02)
    )
    found = quantile(sketch, share)
    assert found is not None
    assert low * (1 - PROMISED) <= found <= high * (1 + PROMISED)
    assert observations(sketch, NOW) == pytest.approx(sum(weights), rel=0.03)


@given(MANY, MANY, MANY)
def test_merging_is_like_having_seen_it_all(one: list[float], two: list[float], three: list[float]) -> None:
    a, b, c = map(sketch_of, (one, two, three))
    assert merge(a, b) == merge(b, a) == sketch_of(one + two)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, Latency()) == a == merge(Latency(), a)


@given(MANY, MANY, st.integers(-40, 40))
def test_merging_across_eras_commutes(one: list[float], two: list[float], halvings: int) -> None:
    a, b = sketch_of(one), sketch_of(two, NOW + halvings * HALF_LIFE_S)
    assert merge(a, b) == merge(b, a)
    assert merge(a, b).era == max(a.era, b.era)


@given(MANY)
def test_it_is_stored_as_a_small_list_of_ints(latencies: list[float]) -> None:
    sketch = sketch_of(latencies)
    stored = sketch.to_ints()
    assert Latency.from_ints(json.loads(json.dumps(stored))) == sketch
    assert len(stored) <= 225
    assert Latency.from_ints(Latency().to_ints()) == Latency()


@pytest.mark.parametrize("stored", [[], [1, 2], [9, 1, 0, 5], [1, 1, -1, 5], [1, 1, 0, -5], [1, 1, 10_000, 5]])
def test_what_is_no_sketch_is_refused(stored: list[int]) -> None:
    with pytest.raises(ValueError, match="latency sketch"):
        Latency.from_ints(stored)


def test_a_typical_endpoint_takes_few_ints_and_follows_a_change() -> None:
    rng = random.Random(1)
    sketch = sketch_of([rng.lognormvariate(-1.5, 0.4) for _ in range(5000)])
    assert len(sketch.to_ints()) <= 60
    sketch_later = sketch
    for call in range(200):
        sketch_later = observe(sketch_later, rng.lognormvariate(0.5, 0.1), NOW + 12 * HALF_LIFE_S + call)
    found = percentiles(sketch_later)
    assert found is not None
    assert 1.5 < found.p50 < 1.8
    assert found.p50 <= found.p95 <= found.p99
    assert percentiles(Latency()) is None


@given(
    st.one_of(st.floats(-1e9, SHORTEST_S), st.floats(LONGEST_S, 1e300), st.just(float("nan")), st.just(float("inf")))
)
def test_no_latency_breaks_it(seconds: float) -> None:
    found = quantile(observe(Latency(), seconds, NOW), 0.5)
    assert found in (None, SHORTEST_S) or found == pytest.approx(LONGEST_S, rel=PROMISED)


@given(MANY, st.integers(-3, 5000), st.floats(0, 0.999), st.floats(0, 0.999))
def test_pauses_grow_with_the_attempt_and_are_capped(
    latencies: list[float], attempt: int, first: float, second: float
) -> None:
    def pause(number: int) -> float:
        return retry_pause(sketch, number, iter([first, second]).__next__, now=NOW)

    sketch = sketch_of(latencies)
    assert 0 <= pause(attempt) <= pause(attempt + 1) <= LONGEST_PAUSE_S
    if observations(sketch, NOW) >= ENOUGH:
        assert pause(attempt) >= LEAST_PAUSE_S / 2


@given(st.lists(SECONDS, max_size=int(ENOUGH) - 1), st.integers(1, 12), st.floats(0, 0.999))
def test_with_few_observations_it_is_full_jitter(latencies: list[float], attempt: int, drawn: float) -> None:
    ceiling = min(15.0, 0.25 * 2**attempt)
    assert retry_pause(sketch_of(latencies), attempt, lambda: drawn, now=NOW) == drawn * ceiling


def test_an_old_past_is_not_followed() -> None:
    sketch = sketch_of([2.0] * 1000)
    assert retry_pause(sketch, 1, lambda: 0.5, now=NOW) == pytest.approx(2.0, rel=PROMISED)
    assert retry_pause(sketch, 1, lambda: 0.5, now=NOW + 9 * HALF_LIFE_S) == 0.25


def test_pauses_are_spread_as_the_endpoints_latencies() -> None:
    """Of a heavy-tailed endpoint the pauses are heavy-tailed too; of one that always takes as long they still differ."""
    rng = random.Random(3)
    latencies = [rng.lognormvariate(-0.5, 0.6) for _ in range(3000)]
    sketch = sketch_of(latencies)
    pauses = [retry_pause(sketch, 1, rng.random, now=NOW) for _ in range(3000)]
    spread = np.asarray(latencies) * np.asarray([0.5 + rng.random() for _ in latencies])
    for share in (0.1, 0.5, 0.9, 0.99):
        assert np.quantile(pauses, share) == pytest.approx(float(np.quantile(spread, share)), rel=0.15)
    same = sketch_of([0.2] * 100)
    together = [retry_pause(same, 1, rng.random, now=NOW) for _ in range(1000)]
    assert np.histogram(together, bins=10, range=(0.1, 0.3))[0].max() <= 160
