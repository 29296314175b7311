"""What a planner who knew every rate could reach at best, worked out apart from the policy: other code, other methods.

Losses per source under polls T apart at rate d, with x = d * T:
lag        w x / 2                       (changes unseen on average)
staleness  w * mean over [0, x] of Ein   (mean of H(n); Ein(u) = integral of (1 - e^-v)/v)
freshness  w (1 - (1 - e^-x)/x)          (share of time with any change unseen)
All are convex in the number of polls, so one price for a call and bisection find the best split. Constant rates; what a
schedule loses where rates have a rhythm is here too (`accrued`), and the least that it can lose in `clairvoyant.py`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HOUR = 3600.0

GRID = np.concatenate([[0.0], np.geomspace(1e-9, 1e9, 36_001)])
_EIN_SLOPE = np.concatenate([[1.0], -np.expm1(-GRID[1:]) / GRID[1:]])
EIN = np.concatenate([[0.0], np.cumsum(np.diff(GRID) * (_EIN_SLOPE[1:] + _EIN_SLOPE[:-1]) / 2)])
EIN_SUM = np.concatenate([[0.0], np.cumsum(np.diff(GRID) * (EIN[1:] + EIN[:-1]) / 2)])


def loss(objective: str, rate: Floats, weight: Floats, interval: Floats) -> float:
    """The weighted sum over all sources, per unit of time."""
    x = rate * interval
    if objective == "lag":
        each = x / 2
    elif objective == "staleness":
        each = np.interp(x, GRID, EIN_SUM) / x
    else:
        each = np.where(x > 1e-6, 1 + np.expm1(-x) / np.maximum(x, 1e-300), x / 2)
    return float(np.sum(weight * each))


def summed(objective: str, x: Floats) -> Floats:
    """The loss of a source of weight 1 and rate 1 from a poll until x seconds after it, in expectation."""
    if objective == "lag":
        return x * x / 2
    if objective == "staleness":
        return np.interp(x, GRID, EIN_SUM)
    return x + np.expm1(-x)


def accrued(objective: str, rate: Floats, factors: Floats, polled: Floats, until: Floats) -> Floats:
    """The loss of a source of weight 1 from its poll at `polled` to `until`, in expectation. Its rate is `rate` times the
    factor of the hour (`factors`: n x 168, or n x 1 where it is constant); both instants are seconds since a Monday."""
    hours = factors.shape[1]
    if hours == 1:
        return summed(objective, rate * (until - polled)) / rate
    first = np.floor(polled / HOUR).astype(np.int64)
    pieces = np.floor(until / HOUR).astype(np.int64) - first + 1
    begins = np.cumsum(pieces) - pieces
    row = np.repeat(np.arange(rate.shape[0]), pieces)
    hour = np.arange(row.shape[0]) - np.repeat(begins - first, pieces)
    since = np.maximum(hour * HOUR, polled[row])
    there = rate[row] * factors[row, hour % hours]
    more = there * np.maximum(np.minimum((hour + 1) * HOUR, until[row]) - since, 0.0)
    so_far = np.cumsum(more) - more
    unseen = np.maximum(so_far - np.repeat(so_far[begins], pieces), 0.0)
    each = (summed(objective, unseen + more) - summed(objective, unseen)) / there
    return np.asarray(np.add.reduceat(each, begins), dtype=np.float64)


def _worth(objective: str, rate: Floats, weight: Floats, interval: Floats) -> Floats:
    """What one more poll per second takes off the loss: -d loss / d(1/T) by central differences, on purpose."""
    step = 1e-4
    up, down = 1 / interval * (1 + step), 1 / interval * (1 - step)

    def each(polls: Floats) -> Floats:
        x = rate / polls
        if objective == "lag":
            return weight * x / 2
        if objective == "staleness":
            return weight * np.interp(x, GRID, EIN_SUM) / x
        return weight * np.where(x > 1e-3, 1 + np.expm1(-x) / x, x / 2 - x * x / 6 + x**3 / 24)

    return (each(down) - each(up)) / (up - down)


def intervals(objective: str, rate: Floats, weight: Floats, log_price: float, floor: float, ceiling: float) -> Floats:
    """The best interval of each source at this price of a call (its natural logarithm), within floor and ceiling."""
    if objective == "lag":
        return np.clip(np.sqrt(2 * np.exp(log_price) / (weight * rate)), floor, ceiling)
    n = rate.shape[0]
    low, high = np.full(n, np.log(floor)), np.full(n, np.log(ceiling))
    for _ in range(40):
        middle = (low + high) / 2
        # Worth rises with the interval: too little worth means polls too dense.
        poor = _worth(objective, rate, weight, np.exp(middle)) < np.exp(log_price)
        low, high = np.where(poor, middle, low), np.where(poor, high, middle)
    return np.asarray(np.exp((low + high) / 2), dtype=np.float64)


def log_price(objective: str, rate: Floats, weight: Floats, budget: float, floor: float, ceiling: float) -> float:
    """The price of a call at which the best intervals cost `budget` calls per second (its natural logarithm)."""
    n = rate.shape[0]
    assert n / ceiling < budget < n / floor
    low, high = -60.0, 60.0
    for _ in range(50):
        middle = (low + high) / 2
        if float(np.sum(1 / intervals(objective, rate, weight, middle, floor, ceiling))) > budget:
            low = middle
        else:
            high = middle
    return high


def optimum(objective: str, rate: Floats, weight: Floats, budget: float, floor: float, ceiling: float) -> Floats:
    """The intervals of the best periodic schedule within floor and ceiling (seconds), for `budget` calls per second."""
    price = log_price(objective, rate, weight, budget, floor, ceiling)
    return intervals(objective, rate, weight, price, floor, ceiling)


def best(objective: str, rate: Floats, weight: Floats, budget: float, floor: float, ceiling: float) -> float:
    """The least possible loss of a periodic schedule at constant rates."""
    return loss(objective, rate, weight, optimum(objective, rate, weight, budget, floor, ceiling))
