"""Waiting: `Retry-After`, cooling off, who is let through a breaker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.gateway.breaker import Breaker, admit
from sync_pipeline.gateway.feedback import retry_after
from sync_pipeline.gateway.quota import cool_off

NOW = datetime(2026, 1, 1, tzinfo=UTC)


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


@given(states)
def test_a_request_goes_freely_only_through_a_closed_breaker(breaker: Breaker) -> None:
    assert (admit(breaker) == "send") == (breaker.state == "closed")
