"""How often one feed changes, as far as its polls and hints tell. One small value, kept in one jsonb column.

The arithmetic is `evidence.py`, for many feeds at once; here is its form for one. Rates are changes per second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import numpy as np

from sync_pipeline.polling import evidence
from sync_pipeline.polling.evidence import WEEK_HOURS, Rows, Seen

DAY = 86_400.0
PRIOR_RATE = 1.0 / DAY
PRIOR_SHAPE = 0.5
VERSION = 1
DIGITS = 6
WEEKS = frozenset({"seen", "flat"})


@dataclass(frozen=True, slots=True)
class Prior:
    """What is believed of a feed before it is polled: `rate` changes per second, as firmly as `shape` changes would."""

    rate: float = PRIOR_RATE
    shape: float = PRIOR_SHAPE

    def __post_init__(self) -> None:
        """Raises ValueError for a prior that would explore nothing."""
        if not (0 < self.rate < math.inf and 0 < self.shape < math.inf):
            raise ValueError("a prior has a positive rate and a positive shape")


@dataclass(frozen=True, slots=True)
class Observation:
    """What a poll saw of the time since `since`. `count`: how many changes; None where the vendor tells only `changed`.
    `hints`: webhook hints that arrived in it; None for a feed without hints."""

    since: datetime
    changed: bool
    count: int | None = None
    hints: int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the count and the word disagree."""
        if self.count is not None and (self.count < 0 or (self.count > 0) != self.changed):
            raise ValueError("the count of changes contradicts whether there were any")
        if self.hints is not None and self.hints < 0:
            raise ValueError("a feed cannot have had fewer than no hints")


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """The columns of `evidence.Rows` for one feed. `seen` and `flat` have 168 bins (Monday 00:00 UTC first), or none
    before the first evidence."""

    prior_shape: float = PRIOR_SHAPE
    prior_rate: float = PRIOR_RATE
    at: float = 0.0
    fast_changes: float = 0.0
    fast_s: float = 0.0
    slow_changes: float = 0.0
    slow_s: float = 0.0
    volatility: float = 1.0
    seen: tuple[float, ...] = ()
    flat: tuple[float, ...] = ()
    heard: float = 0.0
    unheard: float = 0.0
    false_hints: float = 0.0
    listened_s: float = 0.0

    @classmethod
    def before_any_poll(cls, prior: Prior) -> RateEstimate:
        return cls(prior_shape=prior.shape, prior_rate=prior.rate)

    @property
    def recall(self) -> float:
        """The share of changes that a hint announces; 0 for a feed without hints."""
        return float(evidence.recall(as_rows([self]))[0])

    @property
    def false_hint_rate(self) -> float:
        """Hints per second that announce nothing."""
        return float(evidence.false_rate(as_rows([self]))[0])

    def to_json(self) -> dict[str, Any]:
        """Only what differs from an empty estimate, to six digits."""
        empty = RateEstimate()
        shown: dict[str, Any] = {"v": VERSION}
        for name in (item.name for item in fields(RateEstimate)):
            value = getattr(self, name)
            if value == getattr(empty, name):
                continue
            if name in WEEKS:
                shown[name] = [_short(bin_) for bin_ in value] if any(value) else []
            else:
                shown[name] = value if name == "at" else _short(value)
        return shown

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RateEstimate:
        """Raises ValueError for a version it does not know or values that are not of an estimate."""
        if value.get("v", VERSION) != VERSION:
            raise ValueError(f"an estimate of version {value.get('v')}; this code reads {VERSION}")
        known = {item.name for item in fields(cls)}
        if unknown := set(value) - known - {"v"}:
            raise ValueError(f"an estimate has no field {sorted(unknown)[0]}")
        read: dict[str, Any] = {
            name: tuple(float(bin_) for bin_ in part) if name in WEEKS else float(part)
            for name, part in value.items()
            if name != "v"
        }
        for name, part in read.items():
            numbers = part if name in WEEKS else (part,)
            if (name in WEEKS and len(part) not in (0, WEEK_HOURS)) or not all(0 <= x < math.inf for x in numbers):
                raise ValueError(f"an estimate cannot have this {name}")
        return cls(**read)


def recalled(stored: Mapping[str, Any] | None) -> RateEstimate | None:
    """A stored estimate; None where there is none, or one of another version: the next polls learn it anew."""
    try:
        return RateEstimate.from_json(stored) if stored else None
    except (ValueError, TypeError):
        return None


def observe(estimate: RateEstimate, seen: Observation, now: datetime) -> RateEstimate:
    """The estimate after a poll at `now` that saw what happened since `seen.since`. A clock that went back teaches
    nothing and harms nothing."""
    poll = Seen(
        since=np.array([seen.since.timestamp()]),
        until=np.array([now.timestamp()]),
        changed=np.array([seen.changed]),
        count=np.array([-1.0 if seen.count is None else float(seen.count)]),
        hints=np.array([-1.0 if seen.hints is None else float(seen.hints)]),
    )
    return from_rows(evidence.learn(as_rows([estimate]), poll))[0]


def rate_at(estimate: RateEstimate, now: datetime) -> float:
    """Changes per second in the hour of the week that `now` lies in."""
    at = now.timestamp()
    hour = int((at / evidence.HOUR + evidence.THURSDAY) % WEEK_HOURS)
    rows = as_rows([estimate])
    return float(evidence.mean_rate(rows)[0] * evidence.profile(rows)[0, hour])


def expected_changes(estimate: RateEstimate, since: datetime, until: datetime) -> float:
    """How many changes [since, until) should have brought; 0 for an empty interval."""
    rows = as_rows([estimate])
    summed = evidence.cumulative(evidence.profile(rows))
    seconds = evidence.exposure(summed, np.array([since.timestamp()]), np.array([until.timestamp()]))
    return float(evidence.mean_rate(rows)[0] * seconds[0])


def as_rows(estimates: Sequence[RateEstimate]) -> Rows:
    """The columns of these estimates, one row each."""
    none = (0.0,) * WEEK_HOURS
    columns: dict[str, Any] = {}
    for name in (item.name for item in fields(Rows)):
        values = [getattr(estimate, name) for estimate in estimates]
        columns[name] = np.array([value or none for value in values] if name in WEEKS else values, dtype=np.float64)
    return Rows(**columns)


def from_rows(rows: Rows) -> list[RateEstimate]:
    """One estimate a row; the other way round of `as_rows`."""
    columns = {item.name: getattr(rows, item.name).tolist() for item in fields(Rows)}
    for name in WEEKS:
        columns[name] = [tuple(week) for week in columns[name]]
    return [RateEstimate(**dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
