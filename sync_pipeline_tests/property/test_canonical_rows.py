"""Rows written many at a time are those that are written one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.kernel.canonical import Canonical

VALUE = st.text(st.sampled_from("aé\\\t\n\rN."), max_size=5)
RECORD = st.tuples(VALUE, VALUE, VALUE, st.none() | VALUE)


@given(st.lists(RECORD, max_size=6))
def test_many_are_as_each_alone(records: list[tuple[str, str, str, str | None]]) -> None:
    each = [Canonical.of(first, "at", (first, second, last), parent) for first, second, last, parent in records]
    made = Canonical.many(
        [first for first, *_ in records],
        ["at"] * len(records),
        [[first for first, *_ in records], [second for _, second, _, _ in records]],
        [last.encode() for _, _, last, _ in records],
        [parent for *_, parent in records],
    )
    assert made == each
