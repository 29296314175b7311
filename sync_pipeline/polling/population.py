"""What many feeds teach each other: how change rates are spread among them, learned from all their evidence at once.

A gamma prior has one bend; real fleets have a sharp lower edge and a heavy tail. So the spread is a mixture of narrow gammas
on a logarithmic grid, its shares found by a few steps of expectation maximisation (empirical Bayes; Laird, *Nonparametric
maximum likelihood estimation of a mixing distribution*, JASA 73:805, 1978). Each feed then gets the one gamma prior that,
with its own evidence, has the mean and the variance of its posterior under the mixture: nothing else need know of it, and it
may be hours old.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sync_pipeline.polling.estimate import Prior, RateEstimate, as_rows
from sync_pipeline.polling.evidence import Floats, Rows

STEP = 1.2
"""Two neighbours of the grid differ by this factor, as far as POINTS of them reach (seven decades)."""
POINTS = 96
EM_STEPS = 40
"""From a smooth start; many more would fit the noise."""
BELIEVED = 5.0
"""The configured prior counts as this many feeds, and as fewer the more real ones there are: 0.5 beside fifty."""
FEW = 6
"""Fewer feeds than this teach each other nothing: the configured prior stays."""
LEAST_SHAPE = 1e-3
LEAST_SHARE = 1e-12


@dataclass(frozen=True, slots=True)
class Population:
    """`share` of the feeds change at about each of `rates` (per second); `shape` of the gamma around each."""

    rates: Floats
    share: Floats
    shape: float

    def prior(self) -> Prior:
        """The gamma for a feed without evidence of its own."""
        mean = float(self.share @ self.rates)
        square = float(self.share @ self.rates**2) * (1 + 1 / self.shape)
        return Prior(rate=mean, shape=mean**2 / max(square - mean**2, 1e-12 * mean**2))


def learned(rows: Rows, believed: Prior) -> Population:
    """The population that these feeds show, beside what was `believed` of it. Feeds without evidence say nothing."""
    watched = rows.slow_s > 0
    changes, seconds = rows.slow_changes[watched], rows.slow_s[watched]
    low = float(np.min((changes + 0.5) / seconds, initial=believed.rate)) / 8
    high = float(np.max(changes / seconds, initial=believed.rate)) * 4
    points = min(POINTS, math.ceil(math.log(high / low) / math.log(STEP)) + 1)
    rates = np.geomspace(low, high, points)
    shape = 1 / math.log(rates[1] / rates[0]) ** 2
    # The density of a gamma over ln(rate), up to its constant.
    start = np.exp(believed.shape * (np.log(rates / believed.rate) - rates / believed.rate + 1))
    start = np.maximum(start / start.sum(), LEAST_SHARE)
    start /= start.sum()
    # A firm belief leaves parts of the grid empty, where no step could bring anyone: half begins level.
    share = (start + 1 / points) / 2 if changes.size else start
    likelihood = _likelihood(rates, shape, changes, seconds)
    doubt = BELIEVED**2 / (changes.size + BELIEVED)
    for _ in range(EM_STEPS if changes.size else 0):
        members = share * (likelihood.T @ (1 / (likelihood @ share)))
        share = (members + doubt * start) / (changes.size + doubt)
    share = np.maximum(share, LEAST_SHARE)
    return Population(rates, share / share.sum(), shape)


def behind(population: Population, rows: Rows) -> Rows:
    """The same evidence, each feed behind the gamma prior that stands for the population where this feed is."""
    changes, seconds = rows.slow_changes, rows.slow_s
    belongs = _likelihood(population.rates, population.shape, changes, seconds) * population.share
    belongs /= belongs.sum(axis=1, keepdims=True)
    exposed = population.shape / population.rates + seconds[:, None]
    rate = (population.shape + changes[:, None]) / exposed
    mean = (belongs * rate).sum(axis=1)
    spread = (belongs * (rate**2 + rate / exposed)).sum(axis=1) - mean**2
    # The gamma with this mean and variance, less the evidence; never less than nothing, and the mean always kept.
    firm = mean / np.maximum(spread, 1e-12 * mean**2) - seconds
    firm = np.maximum(firm, np.maximum((changes + LEAST_SHAPE) / mean - seconds, LEAST_SHAPE / mean))
    prior_shape = np.maximum(mean * (firm + seconds) - changes, LEAST_SHAPE)
    return replace(rows, prior_shape=prior_shape, prior_rate=prior_shape / firm)


def shared(estimates: Sequence[RateEstimate], believed: Prior) -> tuple[list[RateEstimate], Prior]:
    """The same feeds behind what they teach each other, and the prior of a new one among them. Unchanged, and `believed`,
    where they are too FEW."""
    watched = sum(estimate.slow_s > 0 for estimate in estimates)
    if watched < FEW:
        return list(estimates), believed
    rows = as_rows(estimates)
    population = learned(rows, believed)
    moved = behind(population, rows)
    priors = zip(moved.prior_shape.tolist(), moved.prior_rate.tolist(), strict=True)
    taught = [
        replace(estimate, prior_shape=shape, prior_rate=rate)
        for estimate, (shape, rate) in zip(estimates, priors, strict=True)
    ]
    return taught, population.prior()


def _likelihood(rates: Floats, shape: float, changes: Floats, seconds: Floats) -> Floats:
    """n x points: how well each part of the mixture explains each feed, 1 for the best (negative binomial counts)."""
    prior_s = shape / rates
    logs = shape * np.log(prior_s) - (shape + changes)[:, None] * np.log(prior_s + seconds[:, None])
    return np.asarray(np.exp(logs - logs.max(axis=1, keepdims=True)), dtype=np.float64)
