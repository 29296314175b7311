"""What one who knows every rate and its rhythm could reach at best: a lower bound, by a solver apart from the policy.

Every call has a price by the hour of the week. At given prices the sources are independent, and each has a best schedule of
its own: a dynamic program over one week without end (value iteration). What all lose, plus what they pay, less what the
quota's calls are worth at these prices, is never more than any schedule within the quota can lose (Lagrangian duality). The
prices that make it largest are found by raising those of the hours that are asked for too often.

A source asked more often than every half hour is taken to see a constant rate within the hour. The others are asked at
instants of a grid, at least eight to a mean interval, which costs them about 0.1 % at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sync_pipeline_tests.simulation import optimum
from sync_pipeline_tests.simulation.optimum import HOUR, Floats, summed

WEEK = 168
FINE = 8
"""Instants of the grid in a mean interval."""
GRIDS = np.array([1, 2, 3, 4, 6, 8, 12, 16])
"""Instants an hour."""
FAST_S = FINE * HOUR / 16
LONGEST = 8
"""An interval of a source is at most so many times its mean, at night and on Sundays."""
WEEKS = 12
SETTLED = 0.01
FLAT_STEPS, HOUR_STEPS = 7, 14
EDGES = np.array([0.1, 0.2, 0.4, 0.2, 0.1])


@dataclass(frozen=True, slots=True)
class _Alike:
    """Sources on one grid of `a_hour` instants. `lost`: n x instants of a week x reach, what a source has lost when it is asked
    at that instant, the poll before having been 1, 2, ... instants earlier."""

    a_hour: int
    lost: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Fast:
    rates: Floats
    weights: Floats


def least(
    objective: str, rate: Floats, weight: Floats, factors: Floats, budget: float, floor: float, ceiling: float
) -> float:
    """A loss per unit of time that no schedule of `budget` calls per second goes below. `factors`: n x 168."""
    constant = optimum.log_price(objective, rate, weight, budget, floor, ceiling)
    mean = optimum.intervals(objective, rate, weight, constant, floor, ceiling)
    fast = mean < FAST_S
    alike = _grouped(objective, rate, weight, factors, mean, ceiling, np.flatnonzero(~fast))
    busy = _Fast((rate[:, None] * factors)[fast], weight[fast])
    hourly = budget * HOUR

    def dual(price: Floats) -> tuple[float, Floats]:
        cost, polls = _quick(objective, busy, price, floor)
        for group in alike:
            more, asked = _program(group, price)
            cost, polls = cost + more, polls + asked
        return cost - budget * float(price.mean()), polls

    # A flat price first, as if the week's calls could be spent at any hour of it.
    low, high = constant - np.log(4), constant + np.log(4)
    best, found, wanted = -np.inf, np.zeros(WEEK), np.zeros(WEEK)
    for _ in range(FLAT_STEPS):
        middle = (low + high) / 2
        value, polls = dual(np.full(WEEK, np.exp(middle)))
        if value > best:
            best, found, wanted = value, np.full(WEEK, middle), polls
        low, high = (middle, high) if polls.sum() > hourly * WEEK else (low, middle)
    logs = found
    for step in range(HOUR_STEPS):
        around = np.convolve(np.concatenate([wanted[-2:], wanted, wanted[:2]]), EDGES, "valid")
        logs = logs + 0.25 / (1 + step / 5) * np.clip(around / hourly - 1, -1, 1)
        value, wanted = dual(np.exp(logs))
        best = max(best, value)
    return best


def _quick(objective: str, busy: _Fast, price: Floats, floor: float) -> tuple[float, Floats]:
    """Cost per unit of time, and polls by hour, of sources that see a constant rate between two polls."""
    if not busy.rates.size:
        return 0.0, np.zeros(WEEK)
    polls, cost = np.zeros(WEEK), 0.0
    for hour in range(WEEK):
        rates = busy.rates[:, hour]
        interval = optimum.intervals(objective, rates, busy.weights, float(np.log(price[hour])), floor, 100 * HOUR)
        cost += optimum.loss(objective, rates, busy.weights, interval) + float(np.sum(price[hour] / interval))
        polls[hour] = np.sum(HOUR / interval)
    return cost / WEEK, polls


def _grouped(
    objective: str, rate: Floats, weight: Floats, factors: Floats, mean: Floats, ceiling: float, slow: NDArray[np.int64]
) -> Sequence[_Alike]:
    a_hour = GRIDS[np.searchsorted(GRIDS, np.minimum(np.ceil(FINE * HOUR / mean[slow]), GRIDS[-1]))]
    groups: list[_Alike] = []
    for each in np.unique(a_hour):
        rows = slow[a_hour == each]
        length = HOUR / each
        reach = int(min(ceiling / length, max(2 * FINE, np.ceil(LONGEST * mean[rows].max() / length))))
        rates = np.repeat(factors[rows] * rate[rows, None], each, axis=1)
        week = rates.shape[1]
        lost = np.empty((rows.shape[0], week, reach), dtype=np.float32)
        unseen, so_far, start = np.zeros_like(rates), np.zeros_like(rates), np.arange(week)
        for steps in range(reach):
            there = rates[:, (start + steps) % week]
            then = unseen + there * length
            so_far = so_far + (summed(objective, then) - summed(objective, unseen)) / there
            unseen = then
            lost[:, (start + steps + 1) % week, steps] = so_far * weight[rows, None]
        groups.append(_Alike(int(each), lost))
    return groups


def _program(group: _Alike, price: Floats) -> tuple[float, Floats]:
    """Cost per unit of time of the best schedules, and their polls by hour."""
    n, week, reach = group.lost.shape
    pay, back = np.repeat(price, group.a_hour), group.lost[:, :, ::-1]
    sources = np.arange(n)
    cheapest = np.zeros((n, reach + WEEKS * week))
    before = np.zeros((n, WEEKS * week), dtype=np.int32)
    weeks, risen = 0, np.zeros((n, week))
    for weeks in range(1, WEEKS + 1):
        for at in range((weeks - 1) * week, weeks * week):
            choices = cheapest[:, at : at + reach] + back[:, at % week, :]
            chosen = choices.argmin(axis=1)
            before[:, at] = reach - chosen
            cheapest[:, reach + at] = choices[sources, chosen] + pay[at % week]
        end = reach + weeks * week
        if weeks >= 3:
            risen = cheapest[:, end - week : end] - cheapest[:, end - 2 * week : end - week]
            if bool((np.ptp(risen, axis=1) <= SETTLED * risen.mean(axis=1)).all()):
                break
    # Value iteration rises by no more than the true cost of a week where it rises least.
    cost = float(risen.min(axis=1).sum()) / (WEEK * HOUR)
    polls, at = np.zeros(WEEK), np.full(n, weeks * week - 1)
    while bool((at >= (weeks - 2) * week).any()):
        counted = (at >= (weeks - 2) * week) & (at < (weeks - 1) * week)
        np.add.at(polls, (at[counted] % week) // group.a_hour, 1.0)
        at = np.where(at >= (weeks - 2) * week, at - before[sources, np.maximum(at, 0)], at)
    return cost, polls
