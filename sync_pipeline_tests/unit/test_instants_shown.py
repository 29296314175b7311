from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.landing.shown import instants_shown

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_each_is_as_old_as_the_workers_clock_says() -> None:
    worker = NOON + timedelta(days=400)
    asked = [worker - 9 * SECOND, worker - 3 * SECOND]
    assert instants_shown(asked, now=worker, database_now=NOON, not_before=NOON - 60 * SECOND) == [
        NOON - 9 * SECOND,
        NOON - 3 * SECOND,
    ]


@given(st.lists(st.integers(-1000, 1000)), st.integers(0, 1000))
def test_in_the_order_of_fetching_never_in_the_future_never_before_the_last(ages: list[int], floor: int) -> None:
    shown = instants_shown(
        [NOON - age * SECOND for age in ages], now=NOON, database_now=NOON, not_before=NOON - floor * SECOND
    )
    assert len(shown) == len(ages)
    assert all(one <= other for one, other in pairwise([NOON - floor * SECOND, *shown, NOON]))
