"""Proofs about polling: how much fresher than a fixed order, how far from the optimum, in simulated worlds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from sync_pipeline.polling.allocate import Objective
from sync_pipeline_tests.simulation.figures import Compared, HotelFigures, compare, hotel_figures
from sync_pipeline_tests.simulation.run import Sight


@dataclass(frozen=True, slots=True)
class World:
    tail: str
    n: int
    quota: float
    tied: bool
    objective: Objective
    sight: Sight
    warm_days: float = 28.0
    days: float = 14.0
    step: float = 5
    saved: int = 0
    warm_step: float | None = None
    strength: float = 0.0

    def compared(self) -> Compared:
        return compare(
            tail=self.tail,
            n=self.n,
            quota=self.quota,
            tied=self.tied,
            objective=self.objective,
            sight=self.sight,
            warm_days=self.warm_days,
            days=self.days,
            step=self.step,
            saved=self.saved,
            warm_step=self.warm_step,
            strength=self.strength,
        )


def _small(objective: Objective, sight: Sight) -> list[World]:
    return [
        World(
            tail,
            50,
            quota,
            tied,
            objective,
            sight,
            warm_days=21 if quota < 5 else 7,
            days=7 if quota < 5 else 3,
            step=0.25,
            saved=4,
        )
        for tail in ("lognormal", "pareto")
        for quota in (0.3, 1.0, 5.0)
        for tied in (True, False)
    ]


def _large(objective: Objective, sight: Sight, quotas: Sequence[float], *, step: float) -> list[World]:
    """`step`: by lag the heaviest source is worth 125 polls a day, which must have a turn as often as that."""
    return [
        World(
            tail,
            17_000,
            quota,
            tied,
            objective,
            sight,
            warm_days=56 if quota < 1 else 7,
            days=3,
            step=step,
            warm_step=400,
        )
        for tail, tied in (("lognormal", True), ("pareto", False))
        for quota in quotas
    ]


FULL = (
    _small("staleness", "changed")
    + _small("lag", "count")
    + _large("staleness", "changed", (0.3, 1.0), step=400)
    + _large("lag", "count", (0.3,), step=100)
    + [World("lognormal", 300, 1.0, tied, "staleness", "changed", step=10, strength=1.0) for tied in (True, False)]
)
QUICK = [
    World("lognormal", 1000, 0.5, True, "staleness", "changed", warm_days=21, days=10, step=40),
    World("lognormal", 1000, 0.5, False, "lag", "count", warm_days=21, days=10, step=40),
    World("lognormal", 100, 1.0, True, "staleness", "changed", step=10, strength=1.0),
]


def _compared(world: World) -> Compared:
    return world.compared()


def _hotel(arguments: tuple[int, float]) -> HotelFigures:
    hotels, warm_days = arguments
    return hotel_figures(hotels=hotels, warm_days=warm_days)


def freshness(*, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The worst world of each figure. Ratios of losses: 1.0 is the optimum's, worked out apart from the policy."""
    worlds = QUICK if quick else FULL
    staleness: list[Compared] = []
    lag: list[Compared] = []
    rhythm: list[Compared] = []
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        hotel = pool.submit(_hotel, (100, 1.5) if quick else (1000, 2.0))
        for world, row in zip(worlds, pool.map(_compared, worlds), strict=True):
            (rhythm if world.strength else staleness if world.objective == "staleness" else lag).append(row)
            say(
                f"  {row.name}: {row.ours:.3f} of the optimum, wrong prior {row.wrong_prior:.3f}, told the rates "
                f"{row.clairvoyant:.3f}, round robin {row.round_robin:.3f}, gain {row.gain_captured:.2f}"
            )
        figures = hotel.result()
    rows = staleness + lag
    return {
        "staleness_vs_optimum": round(max(row.ours for row in staleness), 4),
        "staleness_vs_optimum_wrong_prior": round(max(row.wrong_prior for row in staleness), 4),
        "lag_vs_optimum": round(max(row.ours for row in lag), 4),
        "lag_vs_optimum_wrong_prior": round(max(row.wrong_prior for row in lag), 4),
        "gain_captured_min": round(min(row.gain_captured for row in rows), 4),
        "staleness_vs_told_the_rates": round(max(row.ours / row.clairvoyant for row in staleness), 4),
        "rhythm_staleness_vs_constant": round(max(row.ours for row in rhythm), 4),
        "rhythm_staleness_vs_told": round(max(row.ours / row.clairvoyant for row in rhythm), 4),
        "round_robin_over_ours": round(figures.round_robin.stale_share / figures.ours.stale_share, 3),
        "cron_over_ours": round(figures.cron.stale_share / figures.ours.stale_share, 3),
        "round_robin_over_ours_hinted": round(figures.round_robin.stale_share / figures.hinted.stale_share, 3),
        "detection_round_robin_over_ours": round(figures.round_robin.delay_mean_s / figures.ours.delay_mean_s, 3),
        "ceiling_violations": sum(row.ceiling_violations for row in rows + rhythm)
        + figures.ours.over_ceiling
        + figures.hinted.over_ceiling,
    }
