"""Records of a YAML mapping, checked by columns: each comes out as it does alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync_pipeline.contracts.mapped import MappedContract, MappedOptions
from sync_pipeline.contracts.tiers import tiers_at
from sync_pipeline.kernel.canonical import Canonical
from sync_pipeline.kernel.feed import RawRecord

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2**64 - 1), st.floats(), st.text(max_size=5), st.just([]), st.just({})
)


def mostly(*good: Any) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(good), st.sampled_from(good), st.sampled_from(good), ODD)


ALWAYS = {
    "id": mostly("a", "b", 7), "event": mostly("conf", 3), "state": mostly("paid", "open"),
    "made": mostly("2026-01-01T00:00:00.000Z", "2026-01-01T02:00:00+02:00", 1_700_000_000),
    "moved": mostly("2026-01-02T00:00:00.000Z", "2026-01-02T00:00:00Z", 1_700_000_001.5),
}  # fmt: skip
SOMETIMES = {
    "person": mostly({"mail": "a@b.example"}, {"mail": " A@B.example ", "name": "É"}, {}),
    "sku": mostly("VIP-1", "STD", 9), "title": mostly("Speaker", "Early bird"), "sum": mostly("1.50", 12, "x"),
    "note": ODD, "kind": mostly("order", "attendee"), "nested.state": mostly("paid"),
}  # fmt: skip
RECORD = st.fixed_dictionaries(ALWAYS, optional=SOMETIMES)
ALIKE = st.sets(st.sampled_from(sorted(SOMETIMES))).flatmap(
    lambda names: st.lists(st.fixed_dictionaries({**ALWAYS, **{name: SOMETIMES[name] for name in names}}), max_size=5)
)
"""Pages of records that have the same fields, as most vendors send them."""

CLEAN = {
    "id": "a", "event": "conf", "state": "paid", "made": "2026-01-01T00:00:00.000Z", "moved": "2026-01-02T00:00:00.000Z",
    "nested.state": "paid",
}  # fmt: skip

FIELDS = {
    "vendor_id": "id", "event_id": "event", "created_at": "made", "modified_at": "moved", "ticket_sku": "sku",
    "ticket_name": "title", "amount": "sum", "email": "person.mail", "last_name": "person.name",
}  # fmt: skip
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "epoch": {"timestamps": "epoch"},
    "constants": {"constants": {"currency": "EUR", "kind": "order", "quantity": 2}},
    "kind by the vendor": {"fields": {**FIELDS, "kind": "kind"}},
    "own order and word": {"fields": {**FIELDS, "order_id": "event", "vendor_status": "note"}},
    "known": {"known": ["note"]},
    "one field": {"fields": {"vendor_id": "id"}},
    "nested word": {"status": "nested.state"},
}


def contract(options: dict[str, Any]) -> MappedContract:
    given = {"fields": FIELDS, "status": "state", "statuses": {"paid": "COMPLETED", "open": "PENDING"}, **options}
    return MappedContract(tiers=tiers_at(None), options=MappedOptions.model_validate(given))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@example(values=[CLEAN, CLEAN])
@given(values=st.one_of(ALIKE, st.lists(st.one_of(RECORD, RECORD, RECORD, ODD), max_size=5)))
def test_together_is_as_alone(options: dict[str, Any], values: list[Any]) -> None:
    together, alone = contract(options), contract(options)
    records = [RawRecord(value) for value in values]
    assert together.check(records) == [alone.alone(record) for record in records]
    assert together.drift() == alone.drift()


def test_a_clean_record_is_taken_by_columns() -> None:
    made = contract({})
    record = RawRecord({"id": "a", "event": "e", "state": "paid", "made": "2026-01-01T00:00:00Z",
                        "moved": "2026-01-01T00:00:00Z", "sku": "VIP"})  # fmt: skip
    expected = made.alone(record)
    assert isinstance(expected, Canonical)

    def never(record: RawRecord) -> Canonical:
        raise AssertionError("it was judged alone")

    made.alone = never  # type: ignore[method-assign]
    assert made.check([record, record]) == [expected, expected]


def test_a_record_with_a_fault_is_never_taken_by_columns() -> None:
    """Whatever it was parsed to: its parser says that something of it was lost."""
    made, record = contract({}), RawRecord(CLEAN, fault="DUPLICATE_KEY")
    sound, faulty = made.check([RawRecord(CLEAN), record])
    assert isinstance(sound, Canonical)
    assert faulty == made.alone(record)
    assert not isinstance(faulty, Canonical)
