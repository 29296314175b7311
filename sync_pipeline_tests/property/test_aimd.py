"""Rate control against vendors that publish nothing: its rules, and whether it finds a hidden limit."""

from __future__ import annotations

import heapq
import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.gateway.aimd import SILENCE_S, Bounds, Rate, accepted, begin, refused, resumed, spacing
from sync_pipeline.gateway.quota import cool_off

BOUNDS = st.tuples(st.floats(0.01, 1), st.floats(0, 10), st.floats(0, 1000)).map(
    lambda each: Bounds(each[0], sum(each), each[0] + each[1])
)
EVENTS = st.lists(
    st.tuples(st.sampled_from(["accepted", "refused", "resumed"]), st.floats(0, 2 * SILENCE_S), st.floats(0, 5)),
    max_size=60,
)


@given(BOUNDS, EVENTS)
def test_each_event_does_what_it_may(bounds: Bounds, events: list[tuple[str, float, float]]) -> None:
    state, now = begin(bounds), 0.0
    for kind, gap, flight in events:
        now += gap
        before = state
        if kind == "refused":
            state = refused(state, bounds, now, sent_at=now - flight)
            assert state.rate <= before.rate
            if now - flight > before.lowered_at:
                assert state.rate == max(bounds.floor, before.rate * (0.5 if before.phase == "slow start" else 0.85))
                assert state.phase == "probing"
        elif kind == "accepted":
            state = accepted(state, bounds, now)
            silent = now - before.answered_at
            assert state.rate >= before.rate or silent >= SILENCE_S
            if silent > 2 / before.rate:
                assert state.rate <= before.rate
        else:
            state = resumed(state, bounds, now)
            assert state.rate <= before.rate
        assert bounds.floor <= state.rate <= bounds.cap
        assert spacing(state) > 0


@given(BOUNDS, st.floats(0, 1), st.integers(1, 300))
def test_between_refusals_the_increase_is_additive(bounds: Bounds, share: float, calls: int) -> None:
    rate = bounds.floor + share * (bounds.cap - bounds.floor)
    state = refused(Rate(rate, rate, rate, -9.0, -9.0), bounds, 0.0, sent_at=0.0)
    now, rates = 0.0, [state.rate]
    for _ in range(calls):
        now += spacing(state)
        state = accepted(state, bounds, now)
        rates.append(state.rate)
    steps = [b - a for a, b in pairwise(rates)]
    assert all(step == pytest.approx(steps[0], abs=1e-9 * bounds.cap) for step in steps if rates[-1] < bounds.cap)


def test_refusals_of_calls_sent_before_the_decrease_lower_nothing_more() -> None:
    bounds = Bounds(0.1, 100, 10)
    state = refused(Rate(10, 10, 10), bounds, 50.0, sent_at=49.0)
    assert state.rate == 8.5
    for sent in (49.1, 49.9, 50.0):
        assert refused(state, bounds, 50.5, sent_at=sent).rate == 8.5
    assert refused(state, bounds, 52.0, sent_at=51.0).rate == 8.5 * 0.85


def test_slow_start_after_silence_ends_where_the_rate_was() -> None:
    bounds = Bounds(0.1, 100, 1)
    state = refused(Rate(20, 20, 20, 0.0, 0.0), bounds, 10.0, sent_at=9.0)
    assert resumed(state, bounds, 10 + SILENCE_S - 1) == state
    now = 10 + SILENCE_S
    state = resumed(state, bounds, now)
    assert (state.rate, state.threshold, state.phase) == (1, 17, "slow start")
    assert resumed(resumed(state, bounds, now + SILENCE_S), bounds, now + 2 * SILENCE_S).threshold == 17
    reached, calls = now, 0
    while state.phase == "slow start":
        reached += spacing(state)
        state, calls = accepted(state, bounds, reached), calls + 1
    assert state.rate == 17
    assert calls < 400
    assert reached - now < 120


@pytest.mark.parametrize("wrong", [(0, 1, 1), (2, 1, 1), (1, 2, 3), (1, float("inf"), 1), (float("nan"), 1, 1)])
def test_bounds_are_mandatory(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="floor"):
        Bounds(*wrong)


@dataclass(slots=True)
class HiddenLimit:
    """A server that counts what it answers, and says nothing but no."""

    kind: Literal["bucket", "fixed", "sliding"]
    rate: float
    seconds: float
    used: float = 0.0
    since: float = 0.0
    calls: deque[float] = field(default_factory=deque)

    def call(self, now: float) -> bool:
        most = self.rate * self.seconds
        if self.kind == "sliding":
            while self.calls and self.calls[0] <= now - self.seconds:
                self.calls.popleft()
            good = len(self.calls) + 1 <= most
            if good:
                self.calls.append(now)
            return good
        if self.kind == "bucket":
            self.used, self.since = max(0.0, self.used - (now - self.since) * self.rate), now
        elif now // self.seconds != self.since:
            self.used, self.since = 0.0, now // self.seconds
        good = self.used + 1 <= most
        self.used += good
        return good


@dataclass(frozen=True, slots=True)
class Outcome:
    use: float
    refusals: int
    calls: int


def run(server: HiddenLimit, bounds: Bounds, *, warm_s: float, for_s: float, seed: int, limit_to: float = 0) -> Outcome:
    """A saturated sender with answers on their way, and the pause that follows a refusal without `Retry-After`.

    After `warm_s` the limit becomes `limit_to`, if given, and there is as long again to find it.
    """
    rng = random.Random(seed)
    state, now, blocked, refusals_in_a_row = begin(bounds), 0.0, 0.0, 0
    answers: list[tuple[float, float, bool]] = []
    counts = [0, 0]
    start = warm_s * (2 if limit_to else 1)
    while now < start + for_s:
        now = max(now + spacing(state), blocked)
        if limit_to and now >= warm_s:
            server.rate = limit_to
        while answers and answers[0][0] <= now:
            at, sent, good = heapq.heappop(answers)
            if good:
                state, refusals_in_a_row = accepted(state, bounds, at), 0
                continue
            state = refused(state, bounds, at, sent_at=sent)
            if sent >= blocked:
                refusals_in_a_row += 1
                blocked = at + cool_off(refusals_in_a_row, rng.random())
        if now < blocked:
            continue
        good = server.call(now + 0.02)
        heapq.heappush(answers, (now + rng.lognormvariate(-1.6, 0.4), now, good))
        if now >= start:
            counts[good] += 1
    return Outcome(counts[True] / (server.rate * for_s), counts[False], sum(counts))


KINDS: list[tuple[Literal["bucket", "fixed", "sliding"], float]] = [("bucket", 1), ("fixed", 60), ("sliding", 10)]


@pytest.mark.parametrize("rate", [0.5, 5, 50])
@pytest.mark.parametrize(("kind", "seconds"), KINDS)
def test_a_hidden_limit_is_found_used_and_rarely_touched(
    kind: Literal["bucket", "fixed", "sliding"], seconds: float, rate: float
) -> None:
    """The worst of three seeds."""
    span, bounds = max(600.0, 3000 / rate), Bounds(0.05, 200, 1)
    for seed in range(3):
        server = HiddenLimit(kind, rate, max(seconds, 2 / rate))
        found = run(server, bounds, warm_s=span, for_s=span, seed=seed)
        print(f"{kind} {rate}/s: use {found.use:.3f}, one refusal in {found.calls / max(1, found.refusals):.0f} calls")
        assert found.use >= 0.85
        assert found.refusals * 300 <= found.calls


@pytest.mark.parametrize("limit_to", [2.0, 40.0])
@pytest.mark.parametrize(("kind", "seconds"), KINDS)
def test_a_limit_that_moves_is_followed(
    kind: Literal["bucket", "fixed", "sliding"], seconds: float, limit_to: float
) -> None:
    server = HiddenLimit(kind, 10, seconds)
    found = run(server, Bounds(0.05, 200, 1), warm_s=900, for_s=600, seed=6, limit_to=limit_to)
    print(f"{kind} 10/s to {limit_to}/s: use {found.use:.3f}, {found.refusals} of {found.calls} refused")
    assert found.use >= 0.85
    assert found.refusals * 300 <= found.calls


def test_a_rate_of_one_call_in_ten_minutes_may_still_rise() -> None:
    bounds = Bounds(1 / 600, 1, 1 / 600)
    state, now = begin(bounds), 0.0
    for _ in range(100):
        now += spacing(state)
        state = accepted(state, bounds, now)
    assert state.rate > 2 * bounds.floor


def test_a_refusal_never_silences_it_for_good() -> None:
    bounds = Bounds(0.2, 10, 1)
    state = begin(bounds)
    for second in range(100):
        state = refused(state, bounds, float(second), sent_at=second - 0.5)
    assert state.rate == 0.2
    state = replace(state, answered_at=100.0)
    now = 100.0
    for _ in range(2000):
        now += spacing(state)
        state = accepted(state, bounds, now)
    assert state.rate > 0.2
