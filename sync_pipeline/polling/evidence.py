"""What polls and hints teach about change rates, for many feeds at once: columns in, columns out.

A poll sees its window through censoring: "something changed" hides how much. Such an answer becomes the pair of changes and
exposed seconds that moves a gamma posterior as its likelihood would; the fixed point is that of the EM form in hotel.md
6.1, the maximum-likelihood rate of Cho & Garcia-Molina. Evidence is forgotten on a slow and a fast scale. A gamma prior
stands behind both, so that a silent feed keeps a rate above zero and is explored.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOUR = 3600.0
WEEK_HOURS = 168
THURSDAY = 72
"""The epoch began on a Thursday; our weeks begin on Monday 00:00 UTC."""
FAST_S = 6 * HOUR
SLOW_S = 14 * 24 * HOUR
"""Memory in seconds (hotel.md 6.1 says 6 h and 7 d; two weeks see each hour of the week twice)."""
FAST_CHANGES = 6.0
SLOW_CHANGES = 60.0
"""A memory is never shorter than this many changes: a rare event must not be forgotten before its next."""
LEAST_CLEAR = 0.1
"""Nor shorter than that many as polls can tell apart: where each finds many changes and says only "yes", up to ten times."""
ALONE = 0.5
"""How many changes the prior weighs where a "yes" is turned into evidence: little, or it would count again at each poll."""
SURPRISE = 9.0
"""The squared standard score at which the fast scale weighs as much as the slow one."""
PROFILE_S = 8 * 7 * 24 * HOUR
PROFILE_SHRINK = 20.0
"""Expected changes behind a factor for an hour of the day, or a day, at which evidence weighs as much as the neutral 1."""
PROFILE_REACH = 2
"""An hour of the day is seen with so many hours before and after it: a rhythm is smooth, and changes are few."""
BIN_SHRINK = 40.0
"""Expected changes in a bin at which its own evidence weighs as much as its hour times its day."""
PROFILE_SPAN_S = 24 * HOUR
"""A longer window says nothing about hours."""
VOLATILITY_WEIGHT = 0.05
VOLATILITY_CAP = 25.0
RECALL_PRIOR = (2.0, 2.0)
"""Changes that were, and were not, announced by a hint, before any is seen."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Evidence of n feeds. Rates per second, instants as epoch seconds (0 = never), counts already forgotten up to `at`.

    `seen`, `flat`: n x 168, changes in an hour of the week and how many a constant rate would have brought.
    `heard`, `unheard`: changes with and without a hint; `false_hints`; `listened_s`: seconds behind these three.
    """

    prior_shape: Floats
    prior_rate: Floats
    at: Floats
    fast_changes: Floats
    fast_s: Floats
    slow_changes: Floats
    slow_s: Floats
    volatility: Floats
    seen: Floats
    flat: Floats
    heard: Floats
    unheard: Floats
    false_hints: Floats
    listened_s: Floats


@dataclass(frozen=True, slots=True)
class Seen:
    """One poll a row: what changed in [since, until). `count`: changes, or -1 where the vendor tells only that `changed`.
    `hints` arrived in the window; -1 where the feed has no hints."""

    since: Floats
    until: Floats
    changed: NDArray[np.bool_]
    count: Floats
    hints: Floats


def fresh(prior_shape: Floats, prior_rate: Floats) -> Rows:
    """Feeds of which nothing is known but the prior."""
    n = prior_rate.shape[0]
    columns = {item.name: np.zeros(n) for item in fields(Rows)}
    columns |= {"prior_shape": prior_shape, "prior_rate": prior_rate, "volatility": np.ones(n)}
    columns |= {"seen": np.zeros((n, WEEK_HOURS)), "flat": np.zeros((n, WEEK_HOURS))}
    return Rows(**columns)


def profile(rows: Rows) -> Floats:
    """n x 168 factors with mean 1: hour of day (and its neighbours) times day of week, then the bin itself, each shrunk
    towards the coarser."""
    n = rows.seen.shape[0]
    seen, flat = rows.seen.reshape(n, 7, 24), rows.flat.reshape(n, 7, 24)
    whole = np.maximum(flat.sum(axis=(1, 2)), 1e-12)
    level = (seen.sum(axis=(1, 2)) + PROFILE_SHRINK) / (whole + PROFILE_SHRINK)
    flat = flat * level[:, None, None]
    hour = (_around(seen.sum(axis=1)) + PROFILE_SHRINK) / (_around(flat.sum(axis=1)) + PROFILE_SHRINK)
    day = (seen.sum(axis=2) + PROFILE_SHRINK) / (flat.sum(axis=2) + PROFILE_SHRINK)
    coarse = hour[:, None, :] * day[:, :, None]
    factors = ((seen + BIN_SHRINK * coarse) / (flat + BIN_SHRINK)).reshape(n, WEEK_HOURS)
    return np.asarray(factors / factors.mean(axis=1, keepdims=True), dtype=np.float64)


def _around(hours: Floats) -> Floats:
    """n x 24: each hour of the day with the hours about it, across midnight too."""
    whole = np.concatenate([hours[:, -PROFILE_REACH:], hours, hours[:, :PROFILE_REACH]], axis=1)
    summed = np.cumsum(np.concatenate([np.zeros((hours.shape[0], 1)), whole], axis=1), axis=1)
    return np.asarray(summed[:, 2 * PROFILE_REACH + 1 :] - summed[:, : -2 * PROFILE_REACH - 1], dtype=np.float64)


def cumulative(factors: Floats) -> Floats:
    """n x 169: hours of mean rate from Monday 00:00 UTC on."""
    return np.concatenate([np.zeros((factors.shape[0], 1)), np.cumsum(factors, axis=1)], axis=1)


def exposure(summed: Floats, since: Floats, until: Floats) -> Floats:
    """Seconds of mean rate in [since, until): the integral of the profile, from its `cumulative` form."""
    return np.maximum(_hours(summed, until) - _hours(summed, since), 0.0) * HOUR


def _hours(summed: Floats, at: Floats) -> Floats:
    hours = at / HOUR + THURSDAY
    weeks = np.floor(hours / WEEK_HOURS)
    rest = hours - weeks * WEEK_HOURS
    left = np.minimum(rest.astype(np.int64), WEEK_HOURS - 1)
    rows = np.arange(summed.shape[0])
    start = summed[rows, left]
    return np.asarray(weeks * WEEK_HOURS + start + (rest - left) * (summed[rows, left + 1] - start), dtype=np.float64)


def slow_rate(rows: Rows) -> Floats:
    """Mean changes per second by the slow scale: the gamma posterior's mean."""
    prior_s = rows.prior_shape / rows.prior_rate
    return (rows.prior_shape + rows.slow_changes) / (prior_s + rows.slow_s)


def own_rate(rows: Rows) -> Floats:
    """Mean changes per second as this feed alone shows them, its prior next to nothing."""
    return (ALONE + rows.slow_changes) / (ALONE / slow_rate(rows) + rows.slow_s)


def mean_rate(rows: Rows) -> Floats:
    """Changes per second at the mean hour. The slow scale holds until the fast one contradicts it by more than chance,
    and than this feed's own volatility, explains."""
    slow = slow_rate(rows)
    expected = slow * rows.fast_s
    score = (rows.fast_changes - expected) ** 2 / ((expected + 1.0) * np.maximum(rows.volatility, 1.0))
    trust = score / (score + SURPRISE)
    fast = (rows.fast_changes + 1.0) / (rows.fast_s + 1.0 / slow)
    return (1.0 - trust) * slow + trust * fast


def recall(rows: Rows) -> Floats:
    """The share of changes that a hint announces; 0 for a feed that never had a hint window."""
    known = (rows.heard + RECALL_PRIOR[0]) / (rows.heard + rows.unheard + sum(RECALL_PRIOR))
    return np.where(rows.listened_s > 0, known, 0.0)


def false_rate(rows: Rows) -> Floats:
    """False hints per second, with a prior of one in the time of twenty changes."""
    return (rows.false_hints + 1.0) / (rows.listened_s + 20.0 / mean_rate(rows))


def learn(rows: Rows, poll: Seen) -> Rows:
    """The evidence after one poll a row. A window of no length, or one that ends before what is known, teaches nothing."""
    factors = profile(rows)
    summed = cumulative(factors)
    until = np.maximum(poll.until, rows.at)
    since = np.minimum(np.maximum(poll.since, rows.at), until)
    seconds = exposure(summed, since, until)
    rate = mean_rate(rows)
    expected = rate * seconds
    useful = until > since
    changes, share, true = (np.where(useful, part, 0.0) for part in _told(rows, poll, seconds, expected))
    informed_s = seconds * share

    gone = np.where(rows.at > 0, until - rows.at, 0.0)
    # A burst after long silence: the fast memory drops the silence at once, not by the clock that silence set.
    surprise = np.maximum(true - 2.0 * np.maximum(expected, 0.5), 0.0) / FAST_CHANGES
    distinct = rate * _clear(poll, expected)
    fast = np.exp(-gone / np.maximum(FAST_S, FAST_CHANGES / distinct) - surprise)
    slow = np.exp(-gone / np.maximum(SLOW_S, SLOW_CHANGES / distinct))
    faded = np.exp(-gone / PROFILE_S)[:, None]
    seen, flat = _by_hour(factors, since, until, changes, rate * share)
    hinted = (poll.hints >= 0) & useful
    heard = np.where(hinted, np.minimum(true, poll.hints), 0.0)
    return Rows(
        prior_shape=rows.prior_shape,
        prior_rate=rows.prior_rate,
        at=until,
        fast_changes=rows.fast_changes * fast + changes,
        fast_s=rows.fast_s * fast + informed_s,
        slow_changes=rows.slow_changes * slow + changes,
        slow_s=rows.slow_s * slow + informed_s,
        volatility=np.where(useful, _volatility(rows, poll, expected), rows.volatility),
        seen=rows.seen * faded + seen,
        flat=rows.flat * faded + flat,
        heard=rows.heard * slow + heard,
        unheard=rows.unheard * slow + np.where(hinted, true - heard, 0.0),
        false_hints=rows.false_hints * slow + np.where(hinted, np.maximum(poll.hints - heard, 0.0), 0.0),
        listened_s=rows.listened_s * slow + np.where(hinted, seconds, 0.0),
    )


def _clear(poll: Seen, expected: Floats) -> Floats:
    """What a poll tells of the rate, as a share of what a count would: 1 for a count, and for yes or no the ratio of Fisher
    informations, z / (e^z - 1)."""
    z = np.clip(expected, 1e-6, 500.0)
    return np.where(poll.count >= 0, 1.0, np.maximum(z / np.expm1(z), LEAST_CLEAR))


def _told(rows: Rows, poll: Seen, seconds: Floats, expected: Floats) -> tuple[Floats, Floats, Floats]:
    """What a poll is worth as evidence: changes, the share of its seconds they stand for, and the expected true number.

    "No" is exact: no change in all its seconds. "Yes" has the likelihood 1 - e^-z; the gamma term with the same slope and
    curvature at the feed's own rate stands in for it. The slope is that of EM (hotel.md 6.1), so the fixed point is too; but
    EM also counts what it only imagined, and where every poll says yes it would hardly move. At the own rate, not at the
    believed one: what the prior says would else be learned again from each yes. Hints explain part of a yes: beside them
    only unannounced changes are looked for.
    """
    unheard = np.where(poll.hints >= 0, 1.0 - recall(rows), 1.0)
    silent = unheard * expected
    believed = np.clip(silent, 1e-6, 500.0)
    z = np.clip(unheard * own_rate(rows) * seconds, 1e-6, 500.0)
    at_least_one = z / -np.expm1(-z)
    weight = at_least_one * np.exp(-z)
    yes = weight * at_least_one
    share = (yes - weight) / z
    hinted = np.maximum(1.0, poll.hints) + silent
    true = np.where(poll.hints > 0, hinted, believed / -np.expm1(-believed))
    changes = np.where(poll.hints > 0, hinted, yes)
    share = np.where(poll.hints > 0, 1.0, share)
    counted, told = poll.count >= 0, poll.changed
    return (
        np.where(counted, poll.count, np.where(told, changes, 0.0)),
        np.where(counted | ~told, 1.0, share),
        np.where(counted, poll.count, np.where(told, true, 0.0)),
    )


def _volatility(rows: Rows, poll: Seen, expected: Floats) -> Floats:
    """Mean squared standard score of what polls find: 1 for a Poisson stream, more for one that comes in bursts."""
    p = np.clip(-np.expm1(-expected), 1e-9, 1 - 1e-9)
    counted = (poll.count - expected) ** 2 / np.maximum(expected, 1e-9)
    told = (poll.changed - p) ** 2 / (p * (1 - p))
    score = np.minimum(np.where(poll.count >= 0, counted, told), VOLATILITY_CAP)
    return rows.volatility + VOLATILITY_WEIGHT * (score - rows.volatility)


def _by_hour(factors: Floats, since: Floats, until: Floats, changes: Floats, rate: Floats) -> tuple[Floats, Floats]:
    """Share a window's changes among its hours, in proportion to the present profile (the E-step again)."""
    n = factors.shape[0]
    seen, flat = np.zeros_like(factors), np.zeros_like(factors)
    short = (until > since) & (until - since <= PROFILE_SPAN_S)
    if not bool(short.any()):
        return seen, flat
    start, end = since / HOUR + THURSDAY, until / HOUR + THURSDAY
    first = np.floor(start)
    reach = int(np.max(np.where(short, np.floor(end) - first, 0.0))) + 1
    hours = first[:, None] + np.arange(reach)
    inside = np.minimum(hours + 1, end[:, None]) - np.maximum(hours, start[:, None])
    inside = np.where(short[:, None], np.maximum(inside, 0.0), 0.0)
    bins = (hours % WEEK_HOURS).astype(np.int64)
    rows = np.arange(n)[:, None]
    weight = factors[rows, bins] * inside
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    np.add.at(seen, (rows, bins), weight / total * changes[:, None])
    np.add.at(flat, (rows, bins), inside * HOUR * rate[:, None])
    return seen, flat
