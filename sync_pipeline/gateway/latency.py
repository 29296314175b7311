"""An endpoint's latency as a sketch: quantiles within 5 % from a few dozen integers, mergeable, forgetting the old.

Buckets grow by a constant factor, so a bucket's middle is within ACCURACY of every value in it (Masson, Rim, Lee: DDSketch,
VLDB 2019). Forgetting is forward decay (Cormode et al., ICDE 2009): a newer observation weighs more, and nothing has to be
touched for an older one to weigh less; only at the turn of a half-life all weights are halved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

ACCURACY = 0.04
"""Relative error of a quantile, for latencies from SHORTEST_S to LONGEST_S. Beyond them it is the bound itself."""

SHORTEST_S = 0.0001
LONGEST_S = 3600.0

HALF_LIFE_S = 3600.0
"""An observation this old weighs half. Long, for an endpoint that is polled every few minutes must have a past."""

UNIT = 1024
"""Weight of one observation at the start of an era; ten half-lives make it vanish."""

ENOUGH = 20.0
"""Observations (in present weight) from which the pauses follow the sketch."""

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 15.0
"""A retry's pause: the full jitter's first ceiling, and the cap of every pause."""

LEAST_PAUSE_S = 0.1
"""Least mean pause of a first retry, however fast the endpoint answers: what broke needs a moment."""

_VERSION = 1
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_LOG_GAMMA = math.log(_GAMMA)
_LAST = math.ceil(math.log(LONGEST_S / SHORTEST_S) / _LOG_GAMMA)


@dataclass(frozen=True, slots=True)
class Latency:
    """`era`: which half-life since the epoch the weights belong to. `first`: bucket of `weights[0]`; none at either end
    is zero."""

    era: int = 0
    first: int = 0
    weights: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.weights)

    def to_ints(self) -> list[int]:
        """For one column: version, era, first bucket, weights."""
        return [_VERSION, self.era, self.first, *self.weights]

    @classmethod
    def from_ints(cls, stored: Sequence[int]) -> Latency:
        """Raises ValueError for what `to_ints` of this version did not make: better no past than a wrong one."""
        if len(stored) < 3 or stored[0] != _VERSION:
            raise ValueError(f"a latency sketch is [version {_VERSION}, era, first bucket, weights...]")
        _, era, first, *weights = stored
        if first < 0 or first + len(weights) > _LAST + 1 or any(weight < 0 for weight in weights):
            raise ValueError("a latency sketch holds weights that are not negative, in the buckets there are")
        return _trimmed(era, first, weights)


def observe(sketch: Latency, seconds: float, now: float) -> Latency:
    """With one more answer that took `seconds`; `now` in epoch seconds. A latency that is no number is not counted."""
    if not math.isfinite(seconds):
        return sketch
    era, bucket, weight = math.floor(now / HALF_LIFE_S), _bucket(seconds), _weight(now)
    place = bucket - sketch.first
    if era == sketch.era and 0 <= place < len(sketch.weights):  # as nearly always
        weights = list(sketch.weights)
        weights[place] += weight
        return Latency(era, sketch.first, tuple(weights))
    return merge(sketch, Latency(era, bucket, (weight,)))


def merge(one: Latency, other: Latency) -> Latency:
    """Both together, in any order; as of the later era."""
    era = max(one.era, other.era) if one.weights and other.weights else one.era if one.weights else other.era
    one, other = _aged(one, era), _aged(other, era)
    if not one.weights or not other.weights:
        return one if one.weights else other
    first = min(one.first, other.first)
    weights = [0] * (max(one.first + len(one.weights), other.first + len(other.weights)) - first)
    for sketch in (one, other):
        for place, weight in enumerate(sketch.weights, sketch.first - first):
            weights[place] += weight
    return Latency(era, first, tuple(weights))


def observations(sketch: Latency, now: float) -> float:
    """How many observations of this moment weigh as much as all of the sketch."""
    return _aged(sketch, max(sketch.era, math.floor(now / HALF_LIFE_S))).total / _weight(now)


def quantile(sketch: Latency, share: float) -> float | None:
    """The latency, in seconds, that `share` (0 to 1) of the weight does not exceed; None for an empty sketch."""
    if not sketch.weights:
        return None
    wanted = max(1.0, share * sketch.total)
    below = 0
    for bucket, weight in enumerate(sketch.weights, sketch.first):
        below += weight
        if below >= wanted:
            return _middle(bucket)
    return _middle(sketch.first + len(sketch.weights) - 1)


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds."""

    p50: float
    p95: float
    p99: float


def percentiles(sketch: Latency) -> Percentiles | None:
    """For telemetry; None for an empty sketch."""
    p50, p95, p99 = (quantile(sketch, share) for share in (0.5, 0.95, 0.99))
    return None if p50 is None or p95 is None or p99 is None else Percentiles(p50, p95, p99)


def retry_pause(sketch: Latency, attempt: int, random: Callable[[], float], *, now: float | None = None) -> float:
    """Seconds to wait after the `attempt`-th attempt (from 1) failed; `random` gives uniform numbers in [0, 1).

    A latency is drawn from what the endpoint showed: retries of many workers then spread as the endpoint's own answers do,
    and a slow endpoint is left alone for longer. It is doubled with each attempt, and spread by half to either side, since
    an endpoint that always takes as long would bring all retries back at once. Cap: LONGEST_PAUSE_S.

    With fewer than ENOUGH observations: full jitter (Brooker, "Exponential backoff and jitter", AWS 2015). Without `now`
    the sketch is judged as of its own era.
    """
    growth = 2.0 ** min(max(attempt, 1) - 1, 30)
    known = observations(sketch, now) if now is not None else sketch.total / (2 * UNIT)
    if known < ENOUGH:
        return random() * min(LONGEST_PAUSE_S, 2 * FIRST_PAUSE_S * growth)
    drawn = quantile(sketch, random()) or 0.0
    # Capped before it is spread, so that workers at the cap do not come back together either.
    mean = min(LONGEST_PAUSE_S / 1.5, max(LEAST_PAUSE_S, drawn) * growth)
    return mean * (0.5 + random())


def _bucket(seconds: float) -> int:
    if seconds <= SHORTEST_S:
        return 0
    return min(_LAST, math.ceil(math.log(seconds / SHORTEST_S) / _LOG_GAMMA))


def _middle(bucket: int) -> float:
    """The value with the least relative error to all in (gamma^(i-1), gamma^i]."""
    if bucket == 0:
        return SHORTEST_S
    return min(LONGEST_S, SHORTEST_S * _GAMMA**bucket * 2 / (_GAMMA + 1))


def _weight(now: float) -> int:
    """UNIT at the start of an era, twice that at its end: where halving brings the old ones down to it."""
    return round(UNIT * math.exp2(now / HALF_LIFE_S % 1.0))


def _aged(sketch: Latency, era: int) -> Latency:
    if era == sketch.era or not sketch.weights:
        return sketch
    halvings = min(era - sketch.era, 1024)
    return _trimmed(era, sketch.first, [weight >> halvings for weight in sketch.weights])


def _trimmed(era: int, first: int, weights: Sequence[int]) -> Latency:
    held = [place for place, weight in enumerate(weights) if weight]
    if not held:
        return Latency(era)
    return Latency(era, first + held[0], tuple(weights[held[0] : held[-1] + 1]))
