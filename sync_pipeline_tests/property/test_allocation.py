"""The split of a budget: never over it, exact at clamps, and no small change of it is better."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sync_pipeline.polling.allocate import Objective, Sources, allocate, gain, intervals, inverse_gain
from sync_pipeline_tests.simulation import optimum

OBJECTIVES: tuple[Objective, ...] = ("lag", "staleness", "freshness")
objectives = st.sampled_from(OBJECTIVES)


@st.composite
def pools(draw: st.DrawFn) -> Sources:
    n = draw(st.integers(2, 12))

    def column(low: float, high: float) -> np.ndarray:
        exponents = draw(st.lists(st.floats(low, high), min_size=n, max_size=n))
        return np.power(10.0, exponents)

    floor = column(0, 2)
    return Sources(column(-7, -1), column(-2, 2), column(0, 1), floor, floor * column(0.5, 4))


def loss(sources: Sources, interval: np.ndarray, objective: Objective) -> float:
    return optimum.loss(objective, sources.rate, sources.weight, interval)


@settings(max_examples=150, deadline=None)
@given(pools(), objectives, st.floats(-4, 2))
def test_a_budget_is_never_exceeded_and_never_left_over(
    sources: Sources, objective: Objective, exponent: float
) -> None:
    budget = 10.0**exponent
    split = allocate(sources, budget, objective)
    spent = float(np.sum(sources.cost / split.interval_s))
    assert spent <= budget * (1 + 1e-9)
    assert split.spent == pytest.approx(spent)
    assert bool((split.interval_s >= sources.floor_s * (1 - 1e-12)).all())
    if split.ceilings_exceed_budget:
        assert float(np.sum(sources.cost / sources.ceiling_s)) > budget
        assert split.interval_s == pytest.approx(sources.ceiling_s * split.stretched)
        return
    assert bool((split.interval_s <= sources.ceiling_s * (1 + 1e-12)).all())
    if bool((split.interval_s > sources.floor_s).any()):
        assert spent == pytest.approx(budget, rel=1e-6)


@settings(max_examples=100, deadline=None)
@given(pools(), objectives, st.floats(0.05, 0.95))
def test_no_exchange_of_calls_between_two_sources_is_better(
    sources: Sources, objective: Objective, part: float
) -> None:
    dearest, cheapest = np.sum(sources.cost / sources.floor_s), np.sum(sources.cost / sources.ceiling_s)
    budget = float(np.exp(np.log(cheapest) * (1 - part) + np.log(dearest) * part))
    assume(cheapest * 1.001 < budget < dearest * 0.999)
    split = allocate(sources, budget, objective)
    least = loss(sources, split.interval_s, objective)
    polls = 1 / split.interval_s
    for giver in range(sources.rate.size):
        for taker in range(sources.rate.size):
            for step in (1e-3, 0.1):
                moved = polls[giver] * step
                changed = polls.copy()
                changed[giver] -= moved
                changed[taker] += moved * sources.cost[giver] / sources.cost[taker]
                interval = 1 / changed
                if bool((interval < sources.floor_s).any() or (interval > sources.ceiling_s).any()):
                    continue
                # The reference's table of the exponential integral is exact to about 1e-7.
                assert loss(sources, interval, objective) >= least * (1 - 1e-6)


def test_clamped_sources_leave_the_pool_and_the_rest_share_by_the_square_root_law() -> None:
    rate = np.array([1.0, 1e-9, 1e-2, 4e-2])
    one = np.ones(4)
    sources = Sources(rate, one, one, np.full(4, 10.0), np.full(4, 1000.0))
    split = allocate(sources, 0.131, "lag")
    # By hand: the first at its floor (0.1/s), the second at its ceiling (0.001/s); 0.03/s is left, split 1 : 2.
    assert split.interval_s == pytest.approx([10.0, 1000.0, 100.0, 50.0])
    assert split.spent == pytest.approx(0.131)


def test_ceilings_that_alone_cost_too_much_are_said_and_stretched_alike() -> None:
    one = np.ones(3)
    split = allocate(Sources(one, one, one, one, np.full(3, 30.0)), 0.05)
    assert split.ceilings_exceed_budget
    assert split.stretched == pytest.approx(2.0)
    assert split.interval_s == pytest.approx([60.0] * 3)


def test_a_rich_budget_stops_at_the_floors() -> None:
    one = np.ones(2)
    split = allocate(Sources(one, one, one, np.array([2.0, 4.0]), np.full(2, 60.0)), 5.0)
    assert split.interval_s.tolist() == [2.0, 4.0]
    assert split.spent == 0.75


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_split_is_that_of_another_solver(objective: Objective) -> None:
    rng = np.random.default_rng(7)
    rate, weight = rng.lognormal(-11, 2, 300), rng.lognormal(0, 1, 300)
    one = np.ones(300)
    sources = Sources(rate, weight, one, one * 60, one * 86_400)
    for budget in (0.01, 0.1, 1.0):
        ours = allocate(sources, budget, objective).interval_s
        assert ours == pytest.approx(optimum.optimum(objective, rate, weight, budget, 60.0, 86_400.0), rel=2e-3)


@given(st.floats(-12, 2.5), objectives)
def test_the_inverse_of_the_gain_is_its_inverse(exponent: float, objective: Objective) -> None:
    y = np.array([10.0**exponent])
    z = gain(y, objective)
    assume(objective != "freshness" or y[0] < 15)
    assert inverse_gain(z, objective) == pytest.approx(y, rel=1e-6)


@given(pools(), objectives, st.floats(-9, 9), st.floats(1.0, 100.0))
def test_a_dearer_call_never_shortens_an_interval(
    sources: Sources, objective: Objective, exponent: float, factor: float
) -> None:
    cheap, dear = 10.0**exponent, 10.0**exponent * factor
    assert bool((intervals(sources, cheap, objective) <= intervals(sources, dear, objective) * (1 + 1e-9)).all())


@pytest.mark.parametrize("wrong", ["rate", "weight", "cost", "floor_s"])
def test_sources_that_make_no_sense_are_refused(wrong: str) -> None:
    columns = {name: np.ones(2) for name in ("rate", "weight", "cost", "floor_s", "ceiling_s")}
    columns[wrong] = np.array([1.0, -1.0])
    with pytest.raises(ValueError, match=r"never negative|positive"):
        Sources(**columns)
    with pytest.raises(ValueError, match="mandatory"):
        allocate(Sources(**{name: np.ones(2) for name in columns}), 0.0)


def test_seventeen_thousand_sources_are_split_in_well_under_a_second() -> None:
    rng = np.random.default_rng(3)
    one = np.ones(17_000)
    sources = Sources(rng.lognormal(-12, 2, 17_000), rng.lognormal(0, 1, 17_000), one, one * 10, one * 86_400)
    began = time.process_time()
    split = allocate(sources, 3.3, "staleness")
    # Measured: 0.2 s.
    assert time.process_time() - began < 1.0
    assert split.spent == pytest.approx(3.3)
