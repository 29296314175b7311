"""Worlds that change by laws we know: heavy-tailed rates, daily and weekly rhythm, every change written down beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
DAY = 86_400.0
HOUR = 3_600.0
WEEK = 168
MONDAY = 1_767_571_200.0
"""2026-01-05 00:00 UTC, a Monday: every world begins there."""
SPACING = 1e8
"""Seconds between two sources on the one sorted axis of all changes."""


@dataclass(frozen=True, slots=True)
class World:
    """`rates`: mean changes per second; `profiles`: n x 168 factors of mean 1, or one row for all; `changes`: the instant of
    each change (seconds after the world's start) plus SPACING * source, sorted. Hints likewise; none where empty."""

    name: str
    days: float
    rates: Floats
    weights: Floats
    profiles: Floats
    zones: NDArray[np.int64]
    changes: Floats
    hints: Floats

    @property
    def rhythms(self) -> Floats:
        """`profiles`, or one column of ones where the rates are constant."""
        return self.profiles if bool((self.profiles != 1.0).any()) else self.profiles[:, :1]

    @property
    def n(self) -> int:
        return int(self.rates.shape[0])


def heavy_tailed(name: str, n: int, rng: np.random.Generator) -> Floats:
    """Mean 1. Lognormal with s = 2, or Pareto with exponent 1.2: the distributions of hotel.md 6.3."""
    raw = rng.lognormal(0.0, 2.0, n) if name == "lognormal" else rng.pareto(1.2, n) + 1.0
    return raw / raw.mean()


def rhythm(strength: float) -> Floats:
    """3 x 168: a working day with two peaks and a weekend at half, in three time zones. Strength 0 is a constant rate."""
    hours = np.arange(WEEK)
    day = 1.0 + 0.9 * np.cos((hours % 24 - 14) / 24 * 2 * np.pi) + 0.3 * np.cos((hours % 24 - 9) / 12 * 2 * np.pi)
    week = np.where(hours // 24 >= 5, 0.5, 1.0)
    shape = np.maximum(day, 0.05) * week
    shape = 1.0 + strength * (shape / shape.mean() - 1.0)
    return np.stack([np.roll(shape, shift) for shift in (0, 8, -6)])


def world(
    *,
    tail: str,
    n: int,
    days: float,
    seed: int,
    tied: bool,
    strength: float,
    changes_per_day: float = 4.0,
) -> World:
    """`tied`: weights go with the root of the rate, times noise (hotel.md 6.3); else they are equal."""
    rng = np.random.default_rng(seed)
    rates = heavy_tailed(tail, n, rng) * changes_per_day / DAY
    weights = np.sqrt(rates / rates.mean()) * rng.lognormal(0.0, 0.5, n) if tied else np.ones(n)
    zones = rng.integers(0, 3, n)
    label = f"{tail} n={n} {'tied' if tied else 'equal'} rhythm={strength:g}"
    return finish(label, days, rates, weights, rhythm(strength), zones, rng)


def hotel(*, days: float, seed: int, recall: float = 0.0, hotels: int = 1000) -> World:
    """hotel.md 6.3: hotels x 17 windows of 31 days, 60,000 changes a day for 1,000 hotels. A fifth of the hotels makes 80 %
    of the changes (Channex), which is a lognormal with s = 1.68; changes and bookings fade with lead time as exp(-m/2.5).
    Weight: price x rooms x chance of booking. `recall`: share of changes with a webhook, plus a tenth of false ones."""
    rng = np.random.default_rng(seed)
    busy = rng.lognormal(0.0, 1.68, hotels)
    value = rng.lognormal(0.0, 0.5, hotels) * rng.lognormal(0.0, 0.7, hotels)
    lead = np.exp(-np.arange(17) / 2.5)
    rates = np.outer(busy, lead).ravel()
    rates *= 60.0 * hotels / DAY / rates.sum()
    weights = np.outer(value, lead).ravel()
    zones = np.repeat(rng.integers(0, 3, hotels), 17)
    return finish(f"hotel recall={recall:g}", days, rates, weights, rhythm(0.7), zones, rng, recall)


def finish(
    name: str,
    days: float,
    rates: Floats,
    weights: Floats,
    shapes: Floats,
    zones: NDArray[np.int64],
    rng: np.random.Generator,
    recall: float = 0.0,
) -> World:
    """Draw every change by inverting the rhythm's integral, and a hint for some."""
    whole = int(np.ceil(days * 24))
    summed = np.stack([np.concatenate([[0.0], np.cumsum(np.resize(shape, whole))]) for shape in shapes])
    horizon = whole * HOUR
    counts = rng.poisson(rates * summed[zones, -1] * HOUR)
    source = np.repeat(np.arange(rates.shape[0]), counts)
    drawn = rng.random(source.shape[0])
    at = np.empty_like(drawn)
    for zone, axis in enumerate(summed):
        mine = zones[source] == zone
        at[mine] = np.interp(drawn[mine] * axis[-1], axis, np.arange(whole + 1)) * HOUR
    changes = np.sort(source * SPACING + at)
    hints = np.empty(0)
    if recall > 0:
        told = changes[rng.random(changes.shape[0]) < recall]
        # One hint in ten is false: it names a source by its rate, at any moment.
        false = rng.choice(rates.shape[0], int(told.shape[0] / 9), p=rates / rates.sum())
        hints = np.sort(np.concatenate([told, false * SPACING + rng.random(false.shape[0]) * horizon]))
    return World(name, whole / 24, rates, weights, shapes[zones], zones, changes, hints)
