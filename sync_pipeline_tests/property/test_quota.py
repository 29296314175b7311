"""Quota arithmetic against an independent sliding-window counter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.gateway.breaker import THRESHOLD, Breaker, admit, decide
from sync_pipeline.gateway.feedback import retry_after
from sync_pipeline.gateway.quota import SLACK_S, SLACK_SHARE, Pace, cool_off
from sync_pipeline.kernel.feed import QuotaWindow

NOW = datetime(2026, 1, 1, tzinfo=UTC)
windows = st.builds(
    lambda limit, seconds, share: QuotaWindow("w", limit, seconds, burst=max(1, int(limit * share))),
    st.integers(1, 500),
    st.floats(0.5, 90_000),
    st.floats(0, 1),
)


@given(
    window=windows,
    gaps=st.lists(st.floats(0, 1.5), min_size=1, max_size=120),
    lateness=st.lists(st.floats(0, 1), min_size=1),
)
def test_no_window_at_the_vendor_holds_more_than_its_limit(
    window: QuotaWindow, gaps: list[float], lateness: list[float]
) -> None:
    """Requests are asked for at any times and arrive up to the slack after their grant."""
    pace = Pace.of(window)
    slack = min(SLACK_S, SLACK_SHARE * window.seconds)
    tat, now, arrivals = float("-inf"), 0.0, []
    for number in range(min(3 * window.limit, 400)):
        now += gaps[number % len(gaps)] * pace.emission * 0.3
        tat = max(tat, now) + pace.emission
        granted = max(now, tat - pace.burst * pace.emission)
        arrivals.append(granted + lateness[number % len(lateness)] * slack)
    arrivals.sort()
    first = 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - window.seconds:
            first += 1
        assert last - first + 1 <= window.limit


@given(window=windows)
def test_a_saturated_window_is_well_used(window: QuotaWindow) -> None:
    pace = Pace.of(window)
    assert pace.burst <= window.limit
    assert window.limit == 1 or pace.burst + (window.seconds + SLACK_S) / pace.emission >= window.limit * 0.99


@given(st.text(max_size=40))
def test_any_retry_after_is_sane_or_ignored(value: str) -> None:
    found = retry_after({"retry-after": value}, NOW)
    assert found is None or timedelta(0) <= found <= timedelta(days=31)


@given(st.integers(0, 86_400 * 30))
def test_seconds_and_dates_are_honoured_exactly(seconds: int) -> None:
    assert retry_after({"retry-after": str(seconds)}, NOW) == timedelta(seconds=seconds)
    later = NOW + timedelta(seconds=seconds)
    assert retry_after({"retry-after": f"{later:%a, %d %b %Y %H:%M:%S} GMT"}, NOW) == timedelta(seconds=seconds)


@given(st.integers(1, 50), st.floats(0, 0.999))
def test_cooling_off_grows_and_is_bounded(times: int, jitter: float) -> None:
    assert 1.5 <= cool_off(times, jitter) <= 750
    assert cool_off(times + 1, jitter) >= cool_off(times, jitter)


states = st.builds(
    Breaker,
    st.just("/things"),
    st.sampled_from(["closed", "open", "half_open"]),
    st.integers(0, 20),
    st.floats(-10, 10),
    st.floats(0, 300),
    st.one_of(st.none(), st.floats(-10, 10)),
)


@given(states, st.integers(0, 30))
def test_breaker_decisions(breaker: Breaker, failures: int) -> None:
    assert decide(breaker, failures, "permanent").kind == "none"
    assert decide(breaker, failures, "good").kind == ("none" if breaker.state == "closed" else "close")
    assert decide(breaker, failures, "auth").kind == "open"
    opened = decide(breaker, failures, "transient")
    assert opened.kind == ("open" if breaker.state != "closed" or failures >= THRESHOLD else "none")
    if opened.kind == "open":
        assert breaker.cool_down_s <= opened.cool_down_s <= 300 or opened.cool_down_s == 300
    assert (admit(breaker) == "send") == (breaker.state == "closed")
