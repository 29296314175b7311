"""Cursors against a vendor that shows changes late: every change is in some window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.kernel.feed import Cursor, NextPage, PageRead, Validator
from sync_pipeline.polling import cursors

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OVERLAP = timedelta(seconds=60)
instants = st.integers(-3600, 3600).map(lambda seconds: NOW + timedelta(seconds=seconds))
cursor_values = st.builds(
    Cursor,
    watermark=st.none() | instants,
    since=st.none() | instants,
    opened_at=st.none() | instants,
    part=st.integers(0, 5),
    position=st.integers(0, 10_000),
    token=st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=200),
    last_key=st.none() | st.text(st.characters(exclude_categories=("Cs",)), max_size=50),
    high=st.none() | instants,
    vendor_now=st.none() | instants,
    pages=st.integers(0, 1000),
    of=st.none() | st.just("gala"),
    walk=st.none() | st.just("gala,ball"),
    validator=st.none() | st.builds(Validator, st.just("0f"), st.none() | st.just('"v1"'), st.none() | st.just("Sat")),
)


@given(cursor_values)
def test_a_cursor_survives_its_row(cursor: Cursor) -> None:
    shown = cursors.to_json(cursor)
    assert cursors.from_json(shown) == cursor
    assert len(str(shown)) < 4096


@given(
    changes=st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 59)), max_size=40),
    gaps=st.lists(st.floats(0.5, 200), min_size=1, max_size=12),
    skew=st.floats(-30, 30),
    tells_time=st.booleans(),
    parts=st.integers(0, 3),
)
def test_every_change_is_in_some_window(
    changes: list[tuple[float, float]], gaps: list[float], skew: float, tells_time: bool, parts: int
) -> None:
    """A change stamped t by the vendor's clock is shown at most the overlap later. Our clock differs by `skew`; without the
    vendor's clock it may be ahead by less than the overlap leaves."""
    cursor, seconds, seen, marks = Cursor(), 0.0, set(), []
    for gap in [*gaps, 2000.0]:
        seconds += gap
        vendor_now = NOW + timedelta(seconds=seconds)
        ours = vendor_now + timedelta(seconds=skew if tells_time else min(0.0, skew))
        cursor = cursors.open_window(cursor, now=ours, overlap=OVERLAP)
        for _ in range(max(1, parts)):
            shown = [
                (number, NOW + timedelta(seconds=stamp))
                for number, (stamp, late) in enumerate(changes)
                if stamp + late <= seconds and (cursor.since is None or NOW + timedelta(seconds=stamp) >= cursor.since)
            ]
            seen |= {number for number, _ in shown}
            high = max((at for _, at in shown), default=None)
            read = PageRead({}, None, high=high, vendor_now=vendor_now if tells_time else None)
            cursor, drained = cursors.after_page(cursor, read, parts=[f"e{part}" for part in range(parts)])
        assert drained
        assert not cursor.is_open
        marks.append(cursor.watermark)
    assert marks == sorted(marks)
    assert seen == set(range(len(changes)))


@given(cursor_values, st.booleans())
def test_a_page_moves_on_and_a_spent_token_starts_again(cursor: Cursor, last: bool) -> None:
    opened = cursors.open_window(cursor, now=NOW, overlap=OVERLAP)
    read = PageRead({}, None if last else NextPage(token="t", position=2))
    moved, drained = cursors.after_page(opened, read)
    assert drained == last
    again = cursors.from_start(moved if not last else opened)
    assert (again.token, again.position, again.part) == (None, 0, 0)
    assert again.since == opened.since


@given(st.integers(-3600, 10**7))
def test_a_clock_that_is_far_ahead_is_not_believed(ahead: int) -> None:
    opened = cursors.open_window(Cursor(), now=NOW, overlap=OVERLAP)
    read = PageRead({}, None, vendor_now=NOW + timedelta(seconds=ahead))
    closed, _ = cursors.after_page(opened, read)
    assert closed.watermark == NOW + min(cursors.AHEAD, timedelta(seconds=ahead))


def test_what_a_list_was_known_by_is_kept_only_where_one_page_was_all_of_it() -> None:
    known = Validator("0f", '"v1"')
    opened = cursors.open_window(Cursor(), now=NOW, overlap=OVERLAP)
    whole, _ = cursors.after_page(opened, PageRead({}, None, validator=known))
    assert whole.validator == known
    assert cursors.open_window(whole, now=NOW, overlap=OVERLAP).validator == known
    first, _ = cursors.after_page(opened, PageRead({}, NextPage(token="t"), validator=known))
    assert first.validator is None
    last, drained = cursors.after_page(first, PageRead({}, None, validator=known))
    assert drained
    assert last.validator is None
    part, _ = cursors.after_page(opened, PageRead({}, None, validator=known), parts=("gala", "ball"))
    assert part.validator is None
    assert part.of == "ball"
    assert cursors.from_start(cursors.open_window(whole, now=NOW, overlap=OVERLAP)).validator is None


@given(st.timedeltas(timedelta(0), timedelta(days=3)), st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_window_at_the_beginning_of_time_starts_there(since_then: timedelta, overlap: timedelta) -> None:
    first = datetime.min.replace(tzinfo=UTC)
    opened = cursors.open_window(Cursor(watermark=first + since_then), now=NOW, overlap=overlap)
    assert opened.since == first + max(since_then - overlap, timedelta(0))
