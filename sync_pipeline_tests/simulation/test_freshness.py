"""Freshness measured by simulation against an optimum worked out apart. Short forms here; the long ones are `slow`."""

from __future__ import annotations

import pytest

from sync_pipeline.polling.allocate import Objective
from sync_pipeline_tests.simulation import clairvoyant, optimum
from sync_pipeline_tests.simulation.figures import Compared, compare, hotel_figures
from sync_pipeline_tests.simulation.ideal import IdealLearner
from sync_pipeline_tests.simulation.run import Adaptive, Setting, Sight, simulate
from sync_pipeline_tests.simulation.worlds import DAY, world


def report(row: Compared) -> None:
    print(
        f"{row.name}: ours {row.ours:.3f}, wrong prior {row.wrong_prior:.3f}, told {row.told:.3f}, "
        f"round robin {row.round_robin:.3f}, gain {row.gain_captured:.2f}, over ceiling {row.ceiling_violations}"
    )


def test_learned_rates_come_close_to_the_optimum() -> None:
    row = compare(tail="lognormal", n=150, quota=0.5, tied=True, objective="staleness", warm_days=21, days=10)
    report(row)
    # Ten days are a small sample: the closed form is a mean, one who is told meets the same luck as ours.
    assert row.told < 1.06
    assert row.ours < 1.05 * row.told
    assert row.ours < 1.10
    assert row.wrong_prior < 1.15
    assert row.gain_captured > 0.85
    assert row.ceiling_violations == 0


def test_told_how_many_changed_the_lag_comes_close_to_the_optimum_too() -> None:
    row = compare(tail="lognormal", n=150, quota=0.5, tied=False, objective="lag", sight="count", warm_days=21, days=10)
    report(row)
    assert row.ours < 1.06
    assert row.wrong_prior < 1.10
    assert row.gain_captured > 0.90


def test_mostly_equal_sources_teach_each_other() -> None:
    here = world(tail="pareto", n=1000, days=12, seed=1, tied=False, strength=0.0)
    setting = Setting(polls_per_day=4000, warm_days=9, objective="staleness", step=80, solve_every=20)
    least = optimum.best("staleness", here.rates, here.weights, setting.per_s, setting.floor_s, setting.ceiling_s)
    ours = simulate(here, Adaptive(here, setting, known=False), setting).expected / least
    # Each for itself, though its prior is the true mean rate.
    alone = simulate(here, Adaptive(here, setting, known=False, pooled=False), setting).expected / least
    print(f"together {ours:.4f}, alone {alone:.4f}")
    assert ours - 1 < 0.85 * (alone - 1)


def test_a_small_hotel_world_is_three_times_fresher_and_hints_add_to_it() -> None:
    figures = hotel_figures(hotels=40, warm_days=1.5, days=1.0)
    fixed, ours, hinted = figures.round_robin, figures.ours, figures.hinted
    assert fixed.polls == pytest.approx(ours.polls, rel=0.01)
    assert fixed.stale_share > 2.5 * ours.stale_share
    assert figures.cron.stale_share > 2.5 * ours.stale_share
    assert fixed.delay_mean_s > 6 * ours.delay_mean_s
    assert fixed.stale_share > 6 * hinted.stale_share
    assert ours.over_ceiling == hinted.over_ceiling == 0


WORLDS = [
    ("lognormal", 50, 0.3, True), ("lognormal", 50, 1.0, True), ("lognormal", 300, 0.3, False),
    ("lognormal", 300, 1.0, False), ("lognormal", 300, 1.0, True), ("pareto", 50, 1.0, False),
    ("pareto", 300, 0.3, True), ("pareto", 300, 1.0, True), ("lognormal", 50, 5.0, True),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("tail", "n", "quota", "tied"), WORLDS)
@pytest.mark.parametrize(("objective", "sight"), [("staleness", "changed"), ("staleness", "count"), ("lag", "count")])
def test_within_five_percent_of_the_optimum(
    tail: str, n: int, quota: float, tied: bool, objective: Objective, sight: Sight
) -> None:
    row = compare(
        tail=tail,
        n=n,
        quota=quota,
        tied=tied,
        objective=objective,
        sight=sight,
        step=2 if tail == "pareto" or n == 50 else 5,
    )
    report(row)
    # With 50 or 300 sources two weeks are luck too, by up to 9 % of the closed form: one who is told meets the same.
    assert row.ours < 1.05 * max(1.0, row.told)
    assert row.wrong_prior < 1.15
    assert row.gain_captured > 0.88
    assert row.ceiling_violations == 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("tail", "quota", "tied", "objective", "sight"),
    [
        ("lognormal", 0.5, True, "staleness", "changed"),
        ("pareto", 1.0, False, "staleness", "changed"),
        ("lognormal", 0.3, False, "lag", "count"),
    ],
)
def test_seventeen_thousand_sources_within_five_percent_of_the_closed_form(
    tail: str, quota: float, tied: bool, objective: Objective, sight: Sight
) -> None:
    row = compare(
        tail=tail, n=17_000, quota=quota, tied=tied, objective=objective, sight=sight, warm_days=7, days=3, step=400
    )
    report(row)
    assert row.ours < 1.05
    assert row.wrong_prior < 1.15
    assert row.gain_captured > 0.90
    assert row.ceiling_violations == 0


def test_at_constant_rates_the_solver_finds_the_closed_form() -> None:
    here = world(tail="pareto", n=20, days=7, seed=3, tied=False, strength=0.0)
    for objective, quota in (("staleness", 0.3), ("lag", 1.0)):
        bounds = quota * 80 / DAY, 1.0, 7 * DAY
        closed = optimum.best(objective, here.rates, here.weights, *bounds)
        solved = clairvoyant.least(objective, here.rates, here.weights, here.profiles, *bounds)
        assert solved == pytest.approx(closed, rel=0.004)


def test_no_schedule_loses_less_than_the_solver_says_and_one_that_knows_the_rhythm_comes_near() -> None:
    row = compare(
        tail="lognormal", n=20, quota=0.5, tied=True, objective="staleness", strength=1.0, warm_days=14, days=7,
        step=0.5, saved=4, solved=True,
    )  # fmt: skip
    report(row)
    assert row.least < row.told < 1.12 * row.least
    assert row.least < row.ours < row.round_robin
    assert row.least < row.learner < row.ours < 1.1 * row.learner


@pytest.mark.parametrize("sight", ["changed", "count"])
def test_an_ideal_learner_finds_whose_rhythm_is_whose(sight: Sight) -> None:
    here = world(tail="lognormal", n=30, days=15, seed=1, tied=True, strength=1.0)
    setting = Setting(polls_per_day=360, warm_days=14, objective="staleness", sight=sight, step=2, saved=4)
    learner = IdealLearner(here, setting)
    assert learner.belief == pytest.approx(1 / 3)
    simulate(here, learner, setting)
    right = (learner.shapes[None] == here.profiles[:, None]).all(axis=2)
    believed = learner.belief[right]
    assert believed.shape == (here.n,)
    assert float(believed @ here.rates / here.rates.sum()) > 0.95
    # Who hardly changes shows nothing.
    assert float(believed[here.rates.argmin()]) < 0.9


def test_a_rhythm_is_learned_and_beats_the_best_constant_schedule() -> None:
    row = compare(
        tail="lognormal", n=50, quota=0.5, tied=True, objective="staleness", strength=1.0, warm_days=28, days=7,
        step=1, saved=4,
    )  # fmt: skip
    report(row)
    assert row.ours < 0.93
    assert row.wrong_prior < 0.95


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tied", [True, False])
def test_with_daily_and_weekly_rhythm_learned_rates_match_the_best_constant_schedule(tied: bool) -> None:
    row = compare(tail="lognormal", n=300, quota=1.0, tied=tied, objective="staleness", strength=1.0, days=7, step=10)
    report(row)
    assert row.ours < 1.0
    assert row.ours < 1.15 * row.told


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_yes_or_no_alone_cannot_tell_the_busiest_apart_when_calls_are_few() -> None:
    """A known limit: at 0.3 calls a change every poll of the busiest says yes; measured 31 % above the optimum's lag."""
    row = compare(tail="lognormal", n=300, quota=0.3, tied=False, objective="lag", sight="changed", step=10)
    report(row)
    assert row.ours < 1.45
    assert row.gain_captured > 0.80


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_hotel_world() -> None:
    figures = hotel_figures()
    for name in ("round_robin", "cron", "ours", "hinted"):
        print(name, getattr(figures, name))
    assert figures.round_robin.stale_share > 3 * figures.ours.stale_share
    assert figures.cron.stale_share > 3 * figures.ours.stale_share
    assert figures.round_robin.delay_mean_s > 8 * figures.ours.delay_mean_s
    assert figures.round_robin.stale_share > 7 * figures.hinted.stale_share
    assert figures.ours.over_ceiling == figures.hinted.over_ceiling == 0
