from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.simulator.limits import Limiter, SlidingWindow

EXACT = st.integers(0, 20 * 1024).map(lambda parts: parts / 1024)
"""Binary fractions: their sums and differences are exact, so that a window's edge is where the test thinks it is."""
STEPS = st.lists(EXACT, min_size=1, max_size=80)


@given(limit=st.integers(1, 8), seconds=EXACT.filter(lambda seconds: seconds >= 0.5), steps=STEPS)
def test_no_window_ever_holds_more_than_the_limit(limit: int, seconds: float, steps: list[float]) -> None:
    limiter = Limiter([SlidingWindow(limit, seconds)])
    now, granted = 0.0, []
    for step in steps:
        now += step
        if limiter.take(now)[1] < 0:
            granted.append(now)
    for last in granted:
        assert sum(0 <= last - moment < seconds for moment in granted) <= limit


@given(limit=st.integers(1, 5), steps=STEPS)
def test_a_refusal_says_exactly_how_long_to_wait(limit: int, steps: list[float]) -> None:
    window = SlidingWindow(limit, 60.0)
    limiter = Limiter([window])
    now = 0.0
    for step in steps:
        now += step
        wait, refusing = limiter.take(now)
        if refusing < 0:
            continue
        assert wait > 0
        assert SlidingWindow(limit, 60.0, window.granted.copy()).wait(now + wait * 0.999 - 1e-6) > 0
        assert SlidingWindow(limit, 60.0, window.granted.copy()).wait(now + wait + 1e-6) == 0


def test_the_longer_wait_decides_and_refusals_are_not_counted() -> None:
    limiter = Limiter([SlidingWindow(2, 10), SlidingWindow(3, 1000)])
    assert [limiter.take(t)[1] for t in (0, 1, 2, 11, 12)] == [-1, -1, 0, -1, 1]
    assert limiter.take(12)[0] == 988


def test_without_windows_everything_is_granted() -> None:
    assert Limiter([]).take(5) == (0.0, -1)
