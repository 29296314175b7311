"""The freshness figures, as one function a world: what ours loses, beside the optimum and beside a fixed order."""

from __future__ import annotations

from dataclasses import dataclass

from sync_pipeline.polling.allocate import Objective
from sync_pipeline.polling.estimate import Prior
from sync_pipeline_tests.simulation import clairvoyant, optimum
from sync_pipeline_tests.simulation.ideal import IdealLearner
from sync_pipeline_tests.simulation.run import Adaptive, Cycle, Measured, Setting, Sight, simulate
from sync_pipeline_tests.simulation.worlds import DAY, hotel, world


@dataclass(frozen=True, slots=True)
class Compared:
    """`ours`, `wrong_prior`, `told` and `round_robin`: loss over the optimum's, which is the closed form at mean rates (1 = as
    good). `told`: our policy told the true rates and rhythm. Where rates have a rhythm and it was asked for, `least`: what no
    schedule goes below, by the solver; and `learner`: our rule with an ideal learner; else 1."""

    name: str
    ours: float
    wrong_prior: float
    told: float
    round_robin: float
    ceiling_violations: int
    least: float = 1.0
    learner: float = 1.0

    @property
    def gain_captured(self) -> float:
        """The share of what the best known schedule gains over round robin."""
        return (self.round_robin - self.ours) / (self.round_robin - min(self.least, self.told))


@dataclass(frozen=True, slots=True)
class HotelFigures:
    round_robin: Measured
    cron: Measured
    ours: Measured
    hinted: Measured


def compare(
    *,
    tail: str,
    n: int,
    quota: float,
    tied: bool,
    objective: Objective,
    sight: Sight = "changed",
    strength: float = 0.0,
    warm_days: float = 28.0,
    days: float = 14.0,
    step: float = 10,
    saved: int = 0,
    warm_step: float | None = None,
    seed: int = 1,
    solved: bool = False,
) -> Compared:
    """`quota`: polls per change. The wrong prior believes thirty times the mean rate, as firmly as three changes would.
    `solved`: work out `least` and `learner` too."""
    here = world(tail=tail, n=n, days=warm_days + days, seed=seed, tied=tied, strength=strength)
    setting = Setting(
        polls_per_day=quota * 4.0 * n,
        warm_days=warm_days,
        objective=objective,
        sight=sight,
        step=step,
        saved=saved,
        warm_step=warm_step,
        solve_every=20,
    )
    least = optimum.best(objective, here.rates, here.weights, setting.per_s, setting.floor_s, setting.ceiling_s)
    wrong = Prior(float(here.rates.mean()) * 30, 3.0)
    runs = (
        simulate(here, Adaptive(here, setting, known=False), setting),
        simulate(here, Adaptive(here, setting, known=False, prior=wrong), setting),
        simulate(here, Adaptive(here, setting, known=True), setting),
        simulate(here, Cycle(n), setting),
    )
    ours, mistaken, known, fixed = (run.expected / least for run in runs)
    over = sum(run.over_ceiling for run in runs[:2])
    bound = learner = 1.0
    if solved:
        learner = simulate(here, IdealLearner(here, setting), setting).expected / least
        bounds = setting.per_s, setting.floor_s, setting.ceiling_s
        bound = clairvoyant.least(objective, here.rates, here.weights, here.profiles, *bounds) / least
    return Compared(
        f"{here.name} quota={quota:g} {objective} {sight}", ours, mistaken, known, fixed, over, bound, learner
    )


def hotel_figures(
    *, hotels: int = 1000, warm_days: float = 3.0, days: float = 1.0, recall: float = 0.8, seed: int = 1
) -> HotelFigures:
    """hotel.md 6.3: 200 polls a minute for 1,000 hotels, ceiling 24 h."""
    plain = hotel(days=warm_days + days, seed=seed, hotels=hotels)
    told = hotel(days=warm_days + days, seed=seed, hotels=hotels, recall=recall)
    setting = hotel_setting(hotels, warm_days)
    return HotelFigures(
        round_robin=simulate(plain, Cycle(plain.n), setting),
        cron=simulate(plain, Cycle(plain.n, shuffled=True), setting),
        ours=simulate(plain, Adaptive(plain, setting, known=False), setting),
        hinted=simulate(told, Adaptive(told, setting, known=False), setting),
    )


def hotel_setting(hotels: int, warm_days: float) -> Setting:
    return Setting(
        polls_per_day=288.0 * hotels,
        warm_days=warm_days,
        objective="staleness",
        floor_s=6.0,
        ceiling_s=DAY,
        step=max(10, hotels // 5),
        solve_every=10,
    )
