"""Foreign use against servers that count everybody's calls: never more is booked than was made."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.gateway.foreign import LEAST_SHARE, Foreign, expected, left, observe, occupied, ours
from sync_pipeline.kernel.feed import QuotaFeedback

NOW = datetime(2026, 3, 1, tzinfo=UTC)
STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 40)), min_size=1, max_size=60)
"""Our calls, others' calls, seconds."""


@dataclass(slots=True)
class FixedServer:
    limit: int
    seconds: int
    window: int = 0
    used: int = 0

    def call(self, now: datetime, calls: int) -> QuotaFeedback:
        window = int((now - NOW).total_seconds()) // self.seconds
        if window != self.window:
            self.window, self.used = window, 0
        self.used += calls
        reset = NOW + timedelta(seconds=(window + 1) * self.seconds)
        return QuotaFeedback("w", self.limit, self.limit - self.used, reset)


@given(STEPS, st.booleans())
def test_in_a_fixed_window_each_call_of_others_is_booked_once(
    steps: list[tuple[int, int, int]], says_reset: bool
) -> None:
    server, state, now, booked, foreign = FixedServer(10_000, 97), Foreign(), NOW, 0, 0
    state, _ = observe(state, server.call(now, 0), own_calls=0, now=now, kind="fixed")
    for own, others, seconds in steps:
        now += timedelta(seconds=seconds)
        window = server.window
        word = server.call(now, own + others)
        state, fresh = observe(
            state, word if says_reset else replace(word, reset_at=None), own_calls=own, now=now, kind="fixed", slack=0
        )
        assert fresh >= 0
        booked += fresh
        foreign += others
        if server.window == window:
            assert fresh == others
        elif says_reset:
            assert state.booked == fresh <= others
        assert booked <= foreign


@given(STEPS, st.integers(0, 12), st.randoms(use_true_random=False))
def test_calls_on_their_way_are_never_booked_as_foreign(
    steps: list[tuple[int, int, int]], lag: int, rng: random.Random
) -> None:
    """The vendor counts our calls up to `lag` late, and answers overtake each other; in the end nothing is missing."""
    state, now, booked, foreign, sent, counted = Foreign(), NOW, 0, 0, 0, 0
    said: list[int] = []
    state, _ = observe(state, QuotaFeedback("w", remaining=10_000), own_calls=0, now=now)
    for own, others, seconds in steps:
        now += timedelta(seconds=seconds)
        sent, foreign = sent + own, foreign + others
        counted = max(counted, sent - rng.randint(0, lag))
        said = [*said, 10_000 - counted - foreign][-2:]
        # An older answer may come last; it shows more than is left, by at most what one step took.
        state, fresh = observe(
            state, QuotaFeedback("w", remaining=rng.choice(said)), own_calls=own, now=now, slack=lag + 12
        )
        booked += fresh
        assert 0 <= booked <= foreign
    state, fresh = observe(
        state, QuotaFeedback("w", remaining=10_000 - sent - foreign), own_calls=0, now=now, slack=lag + 12
    )
    assert booked + fresh == foreign


@given(STEPS, st.integers(1, 300))
def test_a_sliding_windows_recoveries_are_never_booked(steps: list[tuple[int, int, int]], length: int) -> None:
    state, now, booked, foreign = Foreign(), 0, 0, 0
    calls: deque[tuple[int, int, int]] = deque()
    for own, others, seconds in steps:
        now += seconds
        calls.append((now, own, others))
        while calls[0][0] <= now - length:
            calls.popleft()
        used = sum(mine + theirs for _, mine, theirs in calls)
        word = QuotaFeedback("w", 10_000, 10_000 - used, NOW + timedelta(seconds=calls[0][0] + length))
        state, fresh = observe(state, word, own_calls=own, now=NOW + timedelta(seconds=now))
        booked, foreign = booked + fresh, foreign + others
        assert 0 <= booked <= foreign
        assert occupied(10_000, 10_000 - used, sum(mine for _, mine, _ in calls)) == sum(each for *_, each in calls)


def test_a_clock_ahead_of_the_vendors_books_nothing_of_ours() -> None:
    """By our clock the window is over; by the vendor's word it is still the old one, with our 90 calls in it."""
    reset = NOW + timedelta(seconds=60)
    state, _ = observe(Foreign(), QuotaFeedback("w", 100, 100, reset), own_calls=0, now=NOW, kind="fixed")
    state, _ = observe(state, QuotaFeedback("w", 100, 11, reset), own_calls=89, now=NOW, kind="fixed")
    late = NOW + timedelta(seconds=64)
    state, fresh = observe(state, QuotaFeedback("w", 100, 10, reset), own_calls=1, now=late, kind="fixed")
    assert fresh == 0
    word = QuotaFeedback("w", 100, 95, reset + timedelta(seconds=60))
    state, fresh = observe(state, word, own_calls=1, now=late + timedelta(seconds=2), kind="fixed")
    assert fresh == state.booked == 4


def test_an_answer_without_a_count_keeps_our_calls_for_the_next() -> None:
    state, _ = observe(Foreign(), QuotaFeedback("w", remaining=100), own_calls=1, now=NOW)
    state, fresh = observe(state, QuotaFeedback("w"), own_calls=5, now=NOW)
    assert fresh == 0
    assert observe(state, QuotaFeedback("w", remaining=92), own_calls=1, now=NOW)[1] == 2


@pytest.mark.parametrize("rate", [0.05, 0.5, 7.0])
@pytest.mark.parametrize("burst", [1, 10])
def test_the_rate_is_learned_with_an_honest_error(rate: float, burst: int) -> None:
    """Poisson arrivals of bursts: within 4 standard errors, and the errors are of the size that is really made."""
    misses = []
    for seed in range(20):
        rng = random.Random(seed)
        state, now, remaining, next_at = Foreign(), NOW, 10**7, rng.expovariate(rate / burst)
        for second in range(0, 7200, 4):
            foreign = 0
            while next_at <= second:
                foreign += burst
                next_at += rng.expovariate(rate / burst)
            now, remaining = NOW + timedelta(seconds=second), remaining - 1 - foreign
            state, _ = observe(state, QuotaFeedback("w", remaining=remaining), own_calls=1, now=now)
        assert abs(state.rate - rate) <= 4 * state.rate_error + 0.05 * rate
        misses.append(((state.rate - rate) / state.rate_error) ** 2)
    assert 0.1 <= sum(misses) / len(misses) <= 3


def test_what_is_planned_covers_what_comes() -> None:
    """Of 400 spans of ten minutes, others stay under the plan in about 19 of 20."""
    rng = random.Random(7)
    state, now, remaining, covered = Foreign(), NOW, 10**7, []
    planned = total = 0
    for second in range(0, 400 * 600, 5):
        if second % 600 == 0:
            covered.append(total <= planned)
            planned, total = expected(state, 600), 0
        foreign = sum(rng.random() < 0.1 for _ in range(5)) * 2
        total += foreign
        remaining -= foreign
        now = NOW + timedelta(seconds=second)
        state, _ = observe(state, QuotaFeedback("w", remaining=remaining), own_calls=0, now=now)
    assert 0.9 <= sum(covered[10:]) / len(covered[10:]) <= 0.995
    assert planned < 1.6 * 0.2 * 600


states = st.builds(
    Foreign,
    calls=st.floats(0, 1e6),
    exposure_s=st.floats(1, 1800),
    dispersion=st.floats(1, 1e3),
)


@given(states, st.integers(1, 10**6), st.floats(0, 1e6), st.integers(0, 10**6))
def test_plans_are_bounded_and_fall_with_foreign_use(
    state: Foreign, limit: int, seconds: float, remaining: int
) -> None:
    share = ours(state, limit, seconds)
    assert min(limit, limit * LEAST_SHARE) <= share <= limit
    until = NOW + timedelta(seconds=seconds)
    assert 0 <= left(state, remaining, NOW, until) <= remaining
    busier = replace(state, calls=state.calls * 2 + 1)
    assert ours(busier, limit, seconds) <= share
    assert left(busier, remaining, NOW, until) <= left(state, remaining, NOW, until)
    assert left(state, remaining, until, NOW) == remaining
    assert ours(Foreign(), limit, seconds) == limit


@pytest.mark.parametrize(("share", "least_use"), [(0.0, 0.95), (0.3, 0.9), (0.6, 0.8)])
def test_with_others_on_the_key_we_are_hardly_ever_refused(share: float, least_use: float) -> None:
    """600 a minute, others take `share` of it at random; we send as fast as the plan allows, answers take 0.3 s.

    The figure of the design: at most one refusal in 10,000 calls once foreign use is seen. What is left unused is the
    room for chance: 1.64 standard deviations of what others may take.
    """
    rng, limit, length = random.Random(11), 600, 60
    server, state, now = FixedServer(limit, length), Foreign(), 0.0
    flying: deque[tuple[float, QuotaFeedback]] = deque()
    next_foreign, unsaid, ours_in_window, window = rng.expovariate(10 * share or 1e-9), 0, 0, 0
    calls = refusals = 0
    remaining = limit
    while calls < 20_000:
        if int(now) // length != window:
            window, ours_in_window, remaining = int(now) // length, 0, limit
        until = NOW + timedelta(seconds=(window + 1) * length)
        moment = NOW + timedelta(seconds=now)
        while flying and flying[0][0] <= now:
            at, word = flying.popleft()
            state, _ = observe(state, word, own_calls=unsaid, now=NOW + timedelta(seconds=at), kind="fixed")
            unsaid = 0
            if word.reset_at == until:
                remaining = min(remaining, word.remaining or 0)
        while next_foreign <= now:
            if server.used < limit or int(next_foreign) // length != server.window:
                server.call(NOW + timedelta(seconds=next_foreign), 1)
            next_foreign += rng.expovariate(10 * share or 1e-9)
        in_hand = left(state, remaining - len(flying), moment, until)
        if ours_in_window >= ours(state, limit, length) or in_hand <= 0:
            now = (window + 1) * length + 0.1 if in_hand <= 0 else now + 0.5
            continue
        word = server.call(moment, 0)
        warm = now > 1800
        calls += warm
        ours_in_window += 1
        if (word.remaining or 0) <= 0:
            refusals += warm
        else:
            word = server.call(moment, 1)
            unsaid += 1
        flying.append((now + 0.3, word))
        now += length / limit
    used = calls / ((now - 1800) / length * limit * (1 - share))
    print(f"others {share:.0%}: {refusals} of {calls} refused, {used:.3f} of what others left was used")
    assert refusals * 10_000 <= calls
    assert used >= least_use
