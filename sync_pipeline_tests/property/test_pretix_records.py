"""pretix records judged as a page and one by one come to the same, and a position is itself wherever it stands."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.contracts.pretix import OrderContract, PositionContract
from sync_pipeline.contracts.tiers import tiers_at
from sync_pipeline.kernel.canonical import Canonical
from sync_pipeline.kernel.feed import RawRecord

TEXT = st.sampled_from(
    [None, "", "  ", "Ada", " A\u0301da ", "x\x0by", "\\u0000", "a\x00b", "a@example.com", "A@@x", 7]
)
AMOUNT = st.sampled_from(["5.00", "-5.00", "-0.00", "-0", "1e3", "-1e11", -3, 0, None, 1.5, "x"])
PARTS = st.one_of(
    st.none(),
    st.just("Ada"),
    st.fixed_dictionaries({}, optional={"_scheme": st.just("given_family"), "given_name": TEXT, "family_name": TEXT}),
)
POSITION = st.fixed_dictionaries(
    {"id": st.sampled_from([1, 2, "3", None, -4]), "positionid": st.integers(1, 3), "item": st.just(1)},
    optional={"attendee_email": TEXT, "attendee_name": TEXT, "attendee_name_parts": PARTS, "price": AMOUNT,
              "company": TEXT, "secret": st.just("door"), "canceled": st.booleans()},
)  # fmt: skip
ORDER = st.fixed_dictionaries(
    {"code": st.sampled_from(["A", "B"]), "event": st.just("conf"), "status": st.sampled_from("npec"),
     "datetime": st.just("2026-01-01T00:00:00Z"), "last_modified": st.just("2026-01-02T00:00:00.5Z")},
    optional={"email": TEXT, "total": AMOUNT, "comment": TEXT, "secret": st.just("door"),
              "invoice_address": st.fixed_dictionaries({}, optional={"name": TEXT, "name_parts": PARTS})},
)  # fmt: skip

ORDERS, POSITIONS = OrderContract(tiers=tiers_at(None)), PositionContract(tiers=tiers_at(None))


def agree(made: OrderContract | PositionContract, records: list[dict[str, Any]]) -> None:
    for record, outcome in zip(records, made.check([RawRecord(value) for value in records]), strict=True):
        assert outcome == made.alone(RawRecord(record))
        assert not isinstance(outcome, Canonical) or b"door" not in outcome.row


@given(st.lists(ORDER, min_size=1, max_size=4))
def test_orders(records: list[dict[str, Any]]) -> None:
    agree(ORDERS, records)


@given(st.lists(st.builds(lambda one, order: {**one, "_order": order}, POSITION, ORDER), min_size=1, max_size=4))
def test_positions(records: list[dict[str, Any]]) -> None:
    agree(POSITIONS, records)


@given(POSITION, ORDER, ORDER, st.integers(1, 9))
def test_a_position_keeps_its_key_in_any_order(
    one: dict[str, Any], first: dict[str, Any], second: dict[str, Any], place: int
) -> None:
    shown = [RawRecord({**one, "_order": first}), RawRecord({**one, "positionid": place, "_order": second})]
    keys = {outcome.vendor_id for outcome in POSITIONS.check(shown) if outcome.vendor_id is not None}
    assert len(keys) <= 1
