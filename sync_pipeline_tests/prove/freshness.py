"""Proofs about polling: how much fresher than a fixed order, how far from the optimum, in simulated worlds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

from sync_pipeline.polling.allocate import Objective
from sync_pipeline_tests.simulation.figures import Compared, HotelFigures, compare, hotel_figures
from sync_pipeline_tests.simulation.run import Sight

TAILS = ("lognormal", "pareto")
QUOTAS = (0.3, 1.0, 5.0)
"""Polls a change."""


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
    solved: bool = False

    def compared(self) -> Compared:
        return compare(**asdict(self))


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
        for tail in TAILS
        for quota in QUOTAS
        for tied in (True, False)
    ]


def _rhythmic(objective: Objective, sight: Sight, *, solved: bool = True) -> list[World]:
    """Rates with a daily and weekly rhythm, measured over a whole week: a weekday loses more than a Sunday. Those that are
    `solved`, or the others. At five polls a change the heaviest source of Pareto's, tied, is worth one more often than calls
    come: at a whole call a turn it could not have them."""
    return [
        World(
            tail,
            50,
            quota,
            tied,
            objective,
            sight,
            days=7,
            step=0.5 if quota < 5 else 0.25,
            saved=4,
            warm_step=None if quota < 5 else 1,
            strength=1.0,
            solved=solved,
        )
        for tail, tied in (("lognormal", solved), ("pareto", not solved))
        for quota in QUOTAS
    ]


def _large(tail: str, tied: bool, quota: float, objective: Objective, sight: Sight, *, strength: float) -> World:
    """A turn of 400 calls, or of 100 where the heaviest source is worth a poll more often than 400 calls come: by lag, and at
    five polls a change."""
    return World(
        tail,
        17_000,
        quota,
        tied,
        objective,
        sight,
        warm_days=56 if quota < 1 else 28 if strength else 7,
        days=7 if strength else 3,
        step=400 if objective == "staleness" and quota <= 1 else 100,
        warm_step=400,
        strength=strength,
    )


def _all_large(objective: Objective, sight: Sight) -> list[World]:
    return [
        _large(tail, tied, quota, objective, sight, strength=strength)
        for strength in (0.0, 1.0)
        for quota in QUOTAS
        for tail in TAILS
        for tied in (True, False)
    ]


FULL = (
    _small("staleness", "changed")
    + _small("lag", "count")
    + _rhythmic("staleness", "changed")
    + _rhythmic("lag", "count")
    + [
        _large("lognormal", True, 0.3, "staleness", "changed", strength=1.0),
        _large("lognormal", True, 1.0, "staleness", "changed", strength=0.0),
        _large("lognormal", True, 5.0, "staleness", "changed", strength=0.0),
        _large("pareto", False, 0.3, "staleness", "changed", strength=0.0),
        _large("pareto", False, 1.0, "staleness", "changed", strength=1.0),
        _large("lognormal", True, 0.3, "lag", "count", strength=0.0),
        _large("pareto", False, 0.3, "lag", "count", strength=1.0),
    ]
)
EVERY = (
    FULL
    + _rhythmic("staleness", "changed", solved=False)
    + _rhythmic("lag", "count", solved=False)
    + [world for world in (*_all_large("staleness", "changed"), *_all_large("lag", "count")) if world not in FULL]
)
"""Each combination of spread, number, weights, quota, loss and rhythm: hours on two cores."""
QUICK = [
    World("lognormal", 1000, 0.5, True, "staleness", "changed", warm_days=21, days=10, step=40),
    World("lognormal", 1000, 0.5, False, "lag", "count", warm_days=21, days=10, step=40),
    World("lognormal", 20, 0.5, True, "staleness", "changed", 21, 7, 1, 4, strength=1.0, solved=True),
]


def _compared(world: World) -> Compared:
    return world.compared()


def _hotel(arguments: tuple[int, float]) -> HotelFigures:
    hotels, warm_days = arguments
    return hotel_figures(hotels=hotels, warm_days=warm_days)


def freshness(worlds: Sequence[World], *, hotels: int, say: Callable[[str], None]) -> dict[str, Any]:
    """The worst world of each figure. Ratios of losses: 1.0 is the optimum's, worked out apart from the policy."""
    rows: list[tuple[World, Compared]] = []
    with ProcessPoolExecutor(min(4, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        hotel = pool.submit(_hotel, (hotels, 1.5 if hotels < 1000 else 2.0))
        for world, row in zip(worlds, pool.map(_compared, worlds), strict=True):
            rows.append((world, row))
            bound = f", ideal learner {row.learner:.3f}, least possible {row.least:.3f}" if world.solved else ""
            say(
                f"  {row.name}: {row.ours:.3f} of the optimum, wrong prior {row.wrong_prior:.3f}, told the rates "
                f"{row.told:.3f}, round robin {row.round_robin:.3f}, gain {row.gain_captured:.2f}{bound}"
            )
        figures = hotel.result()
    everywhere = [row for _, row in rows]
    staleness = [row for world, row in rows if world.objective == "staleness"]
    lag = [row for world, row in rows if world.objective == "lag"]
    constant = [row for world, row in rows if not world.strength]
    rhythm = [row for world, row in rows if world.strength]
    solved = [row for world, row in rows if world.solved]
    return {
        "staleness_vs_optimum": round(max(row.ours for row in staleness), 4),
        "staleness_vs_optimum_wrong_prior": round(max(row.wrong_prior for row in staleness), 4),
        "lag_vs_optimum": round(max(row.ours for row in lag), 4),
        "lag_vs_optimum_wrong_prior": round(max(row.wrong_prior for row in lag), 4),
        "gain_captured_min": round(min(row.gain_captured for row in constant), 4),
        "constant_vs_told": round(max(row.ours / row.told for row in constant), 4),
        "rhythm_vs_optimum": round(max(row.ours for row in rhythm), 4),
        "rhythm_vs_told": round(max(row.ours / row.told for row in rhythm), 4),
        "rhythm_vs_ideal_learner": round(max(row.ours / row.learner for row in solved), 4),
        "rhythm_vs_least_possible": round(max(row.ours / row.least for row in solved), 4),
        "rhythm_least_possible": round(min(row.least for row in solved), 4),
        "round_robin_over_ours": round(figures.round_robin.stale_share / figures.ours.stale_share, 3),
        "cron_over_ours": round(figures.cron.stale_share / figures.ours.stale_share, 3),
        "round_robin_over_ours_hinted": round(figures.round_robin.stale_share / figures.hinted.stale_share, 3),
        "detection_round_robin_over_ours": round(figures.round_robin.delay_mean_s / figures.ours.delay_mean_s, 3),
        "detection_cron_over_ours": round(figures.cron.delay_mean_s / figures.ours.delay_mean_s, 3),
        "ceiling_violations": sum(row.ceiling_violations for row in everywhere)
        + figures.ours.over_ceiling
        + figures.hinted.over_ceiling,
    }
