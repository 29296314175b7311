"""Any JSON at any place of a record: it is judged, together as alone, and never stops a feed."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.contracts import eventbrite, pretix
from sync_pipeline.contracts.codes import CODES
from sync_pipeline.contracts.mapped import MappedContract, MappedOptions
from sync_pipeline.contracts.registration import Mapped, RegistrationContract, Whole
from sync_pipeline.contracts.tiers import tiers_at
from sync_pipeline.kernel.canonical import Canonical, Problem, Rejection
from sync_pipeline.kernel.feed import RawRecord

TIERS = tiers_at(None)
Place = tuple[str | int, ...]

WORDS = st.sampled_from(
    ["confirmed", "done", "refunded", "c", "p", "n", "placed", "0E-20000", "0E+20000", "1e9", "NaN", "2026-01-01T00:00:00Z",
     "0001-01-01T00:00:00+23:59", "a@b.example", "x" * 5000]
)  # fmt: skip
NAMES = st.sampled_from(["state", "amount", "a", "name", "gross", "currency", "value", "email", "given_name", "status"])
SINGLE = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=6), WORDS
)  # fmt: skip
JSON = st.recursive(
    SINGLE, lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=3)), max_leaves=5
)  # fmt: skip

STAMP = "2026-01-01T00:00:00Z"
COSTS = {"gross": {"currency": "USD", "value": 100}}
ATTENDEE: dict[str, Any] = {
    "id": "1", "created": STAMP, "changed": STAMP, "event_id": "9", "order_id": "4", "ticket_class_id": "7",
    "ticket_class_name": "VIP", "quantity": 1, "checked_in": False, "cancelled": False, "refunded": False,
    "status": "Attending", "costs": COSTS, "barcodes": [{"barcode": "1", "status": "unused"}],
    "profile": {"name": "A", "email": "a@example.com", "first_name": "A", "last_name": "B", "cell_phone": "1"},
}  # fmt: skip
ORDER: dict[str, Any] = {
    "id": "4", "created": STAMP, "changed": STAMP, "event_id": "9", "name": "A", "first_name": "A", "last_name": "B",
    "email": "a@example.com", "status": "placed", "attendees": [ATTENDEE], "costs": COSTS,
}  # fmt: skip
POSITION: dict[str, Any] = {
    "id": 1, "positionid": 1, "item": 5, "variation": 2, "price": "1.00", "attendee_name": "A", "attendee_email": None,
    "attendee_name_parts": {"given_name": "A", "family_name": "B"}, "canceled": True, "checkins": [{"list": 1}],
    "addon_to": None, "answers": [],
}  # fmt: skip
PRETIX: dict[str, Any] = {
    "code": "A", "event": "conf", "status": "c", "testmode": False, "email": "a@example.com", "phone": None, "locale": "en",
    "total": "1.00", "datetime": STAMP, "last_modified": STAMP, "positions": [POSITION],
    "payments": [{"state": "confirmed", "amount": "1.00", "details": {"gift_card": {"secret": "a"}}}],
    "refunds": [{"state": "done", "amount": "1.00"}], "invoice_address": {"name": "A", "name_parts": {}},
}  # fmt: skip
PARENT = {name: value for name, value in PRETIX.items() if name != "positions"}
FLAT: dict[str, Any] = {
    "id": 1, "event": {"id": 1}, "mail": "a@b.example", "sku": "1", "title": "VIP", "price": "1", "currency": "EUR",
    "made": STAMP, "moved": STAMP, "seen": False, "number": 1, "state": "paid",
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "fields": {"vendor_id": "id", "event_id": "event.id", "email": "mail", "ticket_sku": "sku", "ticket_name": "title",
               "amount": "price", "currency": "currency", "created_at": "made", "modified_at": "moved", "checked_in": "seen",
               "quantity": "number"},
    "status": "state", "statuses": {"paid": "COMPLETED"},
}  # fmt: skip


def mapped(**more: Any) -> MappedContract:
    return MappedContract(tiers=TIERS, options=MappedOptions.model_validate({**OPTIONS, **more}))


CASES: dict[str, tuple[RegistrationContract, dict[str, Any]]] = {
    "eventbrite attendee": (eventbrite.AttendeeContract(tiers=TIERS, hold_for_parent=True), ATTENDEE),
    "eventbrite order": (eventbrite.OrderContract(tiers=TIERS), ORDER),
    "pretix order": (pretix.OrderContract(tiers=TIERS), PRETIX),
    "pretix position": (pretix.PositionContract(tiers=TIERS, hold_for_parent=True), {**POSITION, "_order": PARENT}),
    "pretix position of a living order": (
        pretix.PositionContract(tiers=TIERS),
        {**POSITION, "_order": {**PARENT, "status": "p"}},
    ),
    "mapped": (mapped(), FLAT),
    "mapped, epoch": (mapped(timestamps="epoch"), {**FLAT, "made": 1.7e9, "moved": 1_700_000_000}),
}


def places(value: Any, above: Place = ()) -> Iterator[Place]:
    yield above
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from places(one, (*above, name))


def put(value: Any, place: Place, new: Any) -> Any:
    if not place:
        return new
    changed = copy.copy(value)
    changed[place[0]] = put(changed[place[0]], place[1:], new)
    return changed


@pytest.mark.parametrize("case", CASES)
@given(data=st.data(), new=JSON)
def test_any_value_at_any_place_is_judged(case: str, data: st.DataObject, new: Any) -> None:
    contract, good = CASES[case]
    odd = RawRecord(put(good, data.draw(st.sampled_from(list(places(good)))), new))
    found, beside = contract.check([odd, RawRecord(good)])
    assert found == contract.alone(odd)
    assert isinstance(beside, Canonical)
    if isinstance(found, Rejection):
        assert {problem.code for problem in found.problems} <= set(CODES) - {"CONTRACT_FAILED"}


STATES: list[Any] = [["confirmed"], {"value": "confirmed"}, 5, True]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("part", ["payments", "refunds"])
def test_a_state_of_money_that_is_no_text_is_a_wrong_type(part: str, state: Any) -> None:
    order = {**PRETIX, part: [{"state": state, "amount": "1.00"}]}
    [found] = pretix.OrderContract(tiers=TIERS).check([RawRecord(order)])
    assert isinstance(found, Rejection)
    assert found.problems == (Problem("WRONG_TYPE", f"{part}.state"),)
    position = {**POSITION, "_order": {**PARENT, "status": "p", "refunds": [{"state": state}]}}
    [found] = pretix.PositionContract(tiers=TIERS).check([RawRecord(position)])
    assert isinstance(found, Rejection)
    assert found.problems == (Problem("WRONG_TYPE", "_order.refunds.state"),)


class Faulty(RegistrationContract):
    """Fails on records that say so."""

    columns_fail = False

    def __init__(self) -> None:
        super().__init__(
            version="faulty", mapping=self.fail, identify=lambda record: record.get("id"), paths={}, known=None
        )

    @staticmethod
    def fail(record: Mapping[str, Any]) -> Mapped:
        if "secret" in record:
            raise KeyError(record["secret"])
        return eventbrite.OrderContract.map_order(record)

    def _columns(self, records: Any) -> Whole:
        if self.columns_fail:
            raise ZeroDivisionError("Zyxcanary")
        return super()._columns(records)


@pytest.mark.parametrize("columns_fail", [False, True])
def test_a_contract_that_fails_costs_the_record_it_failed_on(
    columns_fail: bool, caplog: pytest.LogCaptureFixture
) -> None:
    contract = Faulty()
    contract.columns_fail = columns_fail
    bad = {**ORDER, "id": "8", "secret": "Zyxcanary"}
    with caplog.at_level(logging.ERROR, "sync_pipeline"):
        first, *rest = contract.check([RawRecord(ORDER), RawRecord(bad), RawRecord({**bad, "id": ["8"]})])
    assert isinstance(first, Canonical)
    for found, name in zip(rest, ("8", None), strict=True):
        assert isinstance(found, Rejection)
        assert (found.vendor_id, found.problems) == (name, (Problem("CONTRACT_FAILED", ""),))
    [line] = caplog.messages
    assert "KeyError" in line
    assert ("ZeroDivisionError" in line) is columns_fail
    assert "Zyxcanary" not in caplog.text
