"""Registrations from vendors' records: tables exhaustively, every refusal coded, no value in a problem."""

from __future__ import annotations

import copy
import json
import unicodedata
from typing import Any

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.contracts import fields
from sync_pipeline.contracts.eventbrite import (
    ATTENDEE_STATUS,
    ORDER_STATUS,
    attendee_payment_status,
    order_payment_status,
)
from sync_pipeline.contracts.fields import Refused
from sync_pipeline.contracts.loading import load_contract
from sync_pipeline.contracts.pretix import order_payment_status as pretix_status
from sync_pipeline.contracts.pretix import position_payment_status
from sync_pipeline.contracts.tiers import Tier, load_tiers, tiers_at
from sync_pipeline.kernel.canonical import Canonical, Contract, Rejection
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import RawRecord
from sync_pipeline.kernel.wire import parse_record
from sync_pipeline.simulator.malformed import KINDS, kinds_for

CANARY = "Zyxcanary"
ATTENDEE: dict[str, Any] = {
    "id": "5500000305", "created": "2026-09-28T18:11:23Z", "changed": "2026-09-28T18:11:23Z", "ticket_class_id": "700602",
    "ticket_class_name": "Early Bird", "variant_id": None, "quantity": 1,
    "profile": {"name": f"{CANARY} Røed", "first_name": f"{CANARY}", "last_name": "Røed", "email": f" {CANARY}@Example.COM ",
                "cell_phone": "+49 30 1393311"},
    "answers": [], "barcodes": [{"barcode": "5500000305183072999", "status": "unused"}], "checked_in": False,
    "cancelled": False, "refunded": False,
    "costs": {"gross": {"currency": "EUR", "value": 3411}, "base_price": {"currency": "EUR", "value": 3411}},
    "status": "Attending", "event_id": "900100000006", "order_id": "4400006105",
}  # fmt: skip
ORDER: dict[str, Any] = {
    "id": "4400006105", "created": "2026-09-28T18:11:23Z", "changed": "2026-09-29T03:13:49Z", "name": f"{CANARY} Røed",
    "first_name": CANARY, "last_name": "Røed", "email": f"{CANARY}@example.com", "event_id": "900100000006",
    "costs": {"gross": {"currency": "JPY", "value": 3411}, "base_price": {"currency": "JPY", "value": 3411}},
    "status": "placed", "attendees": [{"refunded": False, "cancelled": False}], "time_remaining": None,
}  # fmt: skip
PRETIX: dict[str, Any] = {
    "code": "LZRQG", "event": "sampleconf", "status": "p", "testmode": False, "email": f"{CANARY}@post.example.org",
    "phone": None, "locale": "en", "datetime": "2026-09-22T07:23:23Z", "total": "23.00",
    "invoice_address": {"name": f"{CANARY} Şahin"}, "payments": [{"state": "confirmed", "amount": "23.00"}], "refunds": [],
    "last_modified": "2026-09-23T00:30:36.708891Z",
    "positions": [{"id": 23442, "positionid": 1, "item": 1001, "variation": None, "price": "23.00", "attendee_name": CANARY,
                   "attendee_email": None, "addon_to": None, "canceled": False, "checkins": []}],
}  # fmt: skip


def contract(name: str, **options: Any) -> Contract:
    return load_contract(f"sync_pipeline.contracts.{name}", options=options, connection="c", vendor="v")


CONTRACTS = {
    "eventbrite/orders": ("eventbrite:OrderContract", ORDER),
    "eventbrite/attendees": ("eventbrite:AttendeeContract", ATTENDEE),
    "pretix/orders": ("pretix:OrderContract", PRETIX),
}


def check(made: Contract, record: RawRecord) -> Canonical | Rejection:
    [outcome] = made.check([record])
    return outcome


def named(made: Contract, outcome: Canonical | Rejection) -> dict[str, Any]:
    assert isinstance(outcome, Canonical), outcome
    values = [value.replace("\\\\", "\\") for value in outcome.row.decode().split("\t")]
    return dict(zip((column.name for column in made.columns), values, strict=True))


def position(**more: Any) -> dict[str, Any]:
    order = {name: value for name, value in PRETIX.items() if name != "positions"}
    return {**PRETIX["positions"][0], "_order": order, **more}


def test_an_attendee_in_canonical_form() -> None:
    made = contract("eventbrite:AttendeeContract")
    row = named(made, check(made, RawRecord(ATTENDEE)))
    assert row["email"] == "zyxcanary@example.com"
    assert (row["kind"], row["tier"], row["payment_status"], row["currency"]) == (
        "attendee",
        "EARLY_BIRD",
        "COMPLETED",
        "EUR",
    )
    assert str(row["amount"]) == "34.11"
    assert json.loads(row["metadata"])["barcodes"] == [{"status": "unused"}]


def test_sentinels_stand_for_what_is_not_given() -> None:
    made = contract("pretix:OrderContract")
    row = named(made, check(made, RawRecord({**PRETIX, "email": None, "locale": None, "invoice_address": None})))
    assert (row["email"], row["phone"], row["last_name"]) == ("NOT_PROVIDED",) * 3
    assert (row["currency"], row["locale"], row["tier"]) == ("XXX", "und", "NOT_A_TICKET")


def test_yen_have_no_cents() -> None:
    made = contract("eventbrite:OrderContract")
    assert str(named(made, check(made, RawRecord(ORDER)))["amount"]) == "3411"


@pytest.mark.parametrize("name", ["Attendee", "Order"])
@pytest.mark.parametrize("currency", [{}, {"currency": None}, {"currency": ""}, {"currency": "XXX"}])
def test_cents_of_no_currency_are_no_amount(name: str, currency: dict[str, Any]) -> None:
    made = contract(f"eventbrite:{name}Contract")
    good = ATTENDEE if name == "Attendee" else ORDER
    refused = check(made, RawRecord({**good, "costs": {"gross": {"value": 432, **currency}}}))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("MISSING_FIELD", "costs.gross.currency")]
    free = named(made, check(made, RawRecord({**good, "costs": {"gross": {"value": 0, **currency}}})))
    assert (free["amount"], free["currency"]) == ("0", "XXX")


@pytest.mark.parametrize("feed", CONTRACTS)
def test_every_malformed_kind_is_refused_with_a_code_and_no_value(feed: str) -> None:
    name, good = CONTRACTS[feed]
    made = contract(name)
    assert isinstance(check(made, RawRecord(good)), Canonical)
    kinds = kinds_for(feed)
    assert len(kinds) >= 20
    for kind in kinds:
        raw = KINDS[kind](copy.deepcopy(good))
        outcome = check(made, parse_record(raw))
        assert isinstance(outcome, Rejection), kind
        assert outcome.raw == raw
        assert outcome.problems
        for problem in outcome.problems:
            assert problem.code.isupper()
            assert CANARY.lower() not in (problem.code + problem.path).lower()


def test_eventbrite_order_statuses() -> None:
    person = {"refunded": False, "cancelled": False}
    refunded, cancelled = {**person, "refunded": True}, {**person, "cancelled": True}
    assert {status: order_payment_status(status, [person]) for status in ORDER_STATUS} == dict(ORDER_STATUS)
    assert order_payment_status("placed", [refunded, person]) == "COMPLETED"
    assert order_payment_status("placed", [refunded, cancelled]) == "REFUNDED"
    assert order_payment_status("placed", [cancelled]) == "FAILED"
    for status, attendees, code in (
        ("quantum", [], "UNKNOWN_STATUS"),
        (None, [], "MISSING_FIELD"),
        ("placed", None, "MISSING_EXPANSION"),
    ):
        with pytest.raises(Refused) as caught:
            order_payment_status(status, attendees)
        assert caught.value.code == code


def test_eventbrite_attendee_statuses() -> None:
    for status, expected in ATTENDEE_STATUS.items():
        assert attendee_payment_status(status, refunded=False, cancelled=False) == expected
        assert attendee_payment_status(status, refunded=True, cancelled=True) == "REFUNDED"
        assert attendee_payment_status(status, refunded=False, cancelled=True) == "FAILED"
    with pytest.raises(Refused):
        attendee_payment_status("Elsewhere", refunded=False, cancelled=False)


GIVEN_NAMES = [
    ({"name": "Björk  Guðmundsdóttir"}, "NOT_PROVIDED", "Björk  Guðmundsdóttir"),
    ({"name": " Ada\tLovelace ", "first_name": None, "last_name": " "}, "NOT_PROVIDED", "Ada Lovelace"),
    ({"name": "Ada Lovelace", "first_name": "Ada"}, "Ada", "NOT_PROVIDED"),
    ({"name": "Ada Lovelace", "first_name": "", "last_name": "Lovelace"}, "NOT_PROVIDED", "Lovelace"),
    ({"name": None}, "NOT_PROVIDED", "NOT_PROVIDED"),
    ({}, "NOT_PROVIDED", "NOT_PROVIDED"),
]


@pytest.mark.parametrize(("given", "first", "last"), GIVEN_NAMES)
def test_an_eventbrite_name_that_is_given_whole_is_the_last_name(given: dict[str, Any], first: str, last: str) -> None:
    made = contract("eventbrite:AttendeeContract")
    row = named(made, check(made, RawRecord({**ATTENDEE, "profile": given})))
    assert (row["first_name"], row["last_name"]) == (first, last)
    made = contract("eventbrite:OrderContract")
    order = {name: value for name, value in ORDER.items() if name not in ("name", "first_name", "last_name")}
    row = named(made, check(made, RawRecord(order | given)))
    assert (row["first_name"], row["last_name"]) == (first, last)


def test_a_name_of_another_type_is_refused_by_its_path() -> None:
    profile = {**ATTENDEE["profile"], "name": ["Ada"]}
    refused = check(contract("eventbrite:AttendeeContract"), RawRecord({**ATTENDEE, "profile": profile}))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("WRONG_TYPE", "profile.name")]


@pytest.mark.parametrize("name", ["eventbrite:AttendeeContract", "eventbrite:OrderContract"])
def test_documented_fields_are_no_drift(name: str) -> None:
    made = contract(name)
    documented = {"contact_list_preferences": {"has_opted_in": True}, "questions": [], "survey_responses": {}}
    good = ATTENDEE if "Attendee" in name else ORDER
    assert isinstance(check(made, RawRecord({**good, **documented})), Canonical)
    assert made.drift() == frozenset()


def coded(*statuses: Any, **more: Any) -> dict[str, Any]:
    return {**ATTENDEE, "barcodes": [{"barcode": "1", "status": status} for status in statuses], **more}


@pytest.mark.parametrize(
    ("ticket", "expected"),
    [
        (coded("refunded"), "REFUNDED"),
        (coded("refunded", "refunded"), "REFUNDED"),
        (coded("refunded", cancelled=True, status="Not Attending"), "REFUNDED"),
        (coded("refunded", "unused"), "COMPLETED"),
        (coded("refunded", None), "COMPLETED"),
        (coded("used"), "COMPLETED"),
        (coded(), "COMPLETED"),
        (coded(barcodes=None), "COMPLETED"),
        (coded("unused", refunded=True), "REFUNDED"),
    ],
)
def test_a_ticket_refunded_only_in_its_barcodes_is_refunded(ticket: dict[str, Any], expected: str) -> None:
    made = contract("eventbrite:AttendeeContract")
    assert named(made, check(made, RawRecord(ticket)))["payment_status"] == expected
    made = contract("eventbrite:OrderContract")
    assert named(made, check(made, RawRecord({**ORDER, "attendees": [ticket]})))["payment_status"] == expected
    with_another = {**ORDER, "attendees": [ticket, coded("used")]}
    assert named(made, check(made, RawRecord(with_another)))["payment_status"] == "COMPLETED"


@pytest.mark.parametrize("more", [{}, {"refunded": True}, {"cancelled": True}])
def test_a_code_that_opens_the_door_is_not_kept_whatever_became_of_the_ticket(more: dict[str, Any]) -> None:
    made = contract("eventbrite:AttendeeContract")
    printed = {"barcode": "door-code", "status": "used", "checkin_type": 0, "is_printed": True}
    outcomes = made.check([RawRecord({**ATTENDEE, **more, "barcodes": [printed, printed]})] * 2)
    for outcome in outcomes:
        row = named(made, outcome)
        assert "door-code" not in str(row)
        assert (
            json.loads(row["metadata"])["barcodes"] == [{"status": "used", "checkin_type": 0, "is_printed": True}] * 2
        )
    assert made.drift() == frozenset()
    refused = check(made, RawRecord({**ATTENDEE, **more, "barcodes": {"barcode": "door-code"}}))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("WRONG_TYPE", "barcodes")]


def test_barcodes_that_are_none_are_a_wrong_type() -> None:
    ticket = coded(barcodes=["refunded"])
    for name, record, path in (
        ("Attendee", ticket, "barcodes"),
        ("Order", {**ORDER, "attendees": [ticket]}, "attendees.barcodes"),
    ):
        refused = check(contract(f"eventbrite:{name}Contract"), RawRecord(record))
        assert isinstance(refused, Rejection)
        assert [(problem.code, problem.path) for problem in refused.problems] == [("WRONG_TYPE", path)]


def test_pretix_statuses() -> None:
    def order(status: str, paid: str = "0", back: str = "0", state: str = "confirmed") -> dict[str, Any]:
        return {
            "status": status,
            "payments": [{"state": state, "amount": paid}],
            "refunds": [{"state": "done", "amount": back}],
        }

    assert [pretix_status(order(status)) for status in "nper"] == ["PENDING", "COMPLETED", "FAILED", "REFUNDED"]
    assert pretix_status(order("c", "23.00", "23.00", "refunded")) == "REFUNDED"
    assert pretix_status(order("c", "23.00", "10.00")) == "FAILED"
    assert pretix_status(order("c")) == "FAILED"
    assert position_payment_status(order("p", "23", "5"), canceled=True) == "REFUNDED"
    assert position_payment_status({**order("p", "23"), "refunds": []}, canceled=True) == "FAILED"
    assert position_payment_status(order("n"), canceled=False) == "PENDING"
    with pytest.raises(Refused):
        pretix_status(order("x"))


def test_positions_are_keyed_by_their_own_id() -> None:
    made = contract("pretix:PositionContract")
    outcome = check(made, RawRecord(position()))
    assert isinstance(outcome, Canonical)
    assert outcome.vendor_id == "sampleconf/23442"
    assert json.loads(named(made, outcome)["metadata"])["positionid"] == 1
    elsewhere = check(made, RawRecord({**position(), "_order": {**position()["_order"], "code": "K7UAD"}}))
    assert isinstance(elsewhere, Canonical)
    assert (elsewhere.vendor_id, named(made, elsewhere)["order_id"]) == ("sampleconf/23442", "sampleconf/K7UAD")
    place_used_again = check(made, RawRecord(position(id=23443)))
    assert isinstance(place_used_again, Canonical)
    assert place_used_again.vendor_id == "sampleconf/23443"
    for wrong in (None, "", 1.5, {"value": 1}):
        refused = check(made, RawRecord(position(id=wrong)))
        assert isinstance(refused, Rejection)
        assert [problem.path for problem in refused.problems] == ["id"]
    row = named(made, outcome)
    assert (row["tier"], row["email"]) == ("GENERAL", "zyxcanary@post.example.org")
    assert named(made, check(made, RawRecord(position(item=999, addon_to=3))))["tier"] == "ADD_ON"
    assert named(made, check(made, RawRecord(position(item=999))))["tier"] == "UNKNOWN_TIER"


@pytest.mark.parametrize("own", [None, "", "  "])
def test_a_holder_without_an_address_has_the_buyers(own: str | None) -> None:
    made = contract("pretix:PositionContract")
    row = named(made, check(made, RawRecord(position(attendee_email=own))))
    assert row["email"] == "zyxcanary@post.example.org"
    wrong = position(attendee_email=own)
    wrong["_order"]["email"] = "nobody@@example"
    refused = check(made, RawRecord(wrong))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("INVALID_EMAIL", "_order.email")]


def test_a_holders_own_wrong_address_is_named_as_theirs() -> None:
    refused = check(contract("pretix:PositionContract"), RawRecord(position(attendee_email="nobody@@example")))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("INVALID_EMAIL", "attendee_email")]


def test_the_clean_way_uses_the_buyers_address_too() -> None:
    """A whole page at once, one clean and one not: both ways must come to the same."""
    made = contract("pretix:PositionContract")
    outcomes = made.check(
        [RawRecord(position(attendee_email="")), RawRecord(position(id=2, attendee_name=" Ada\u0301 "))]
    )
    assert [named(made, outcome)["email"] for outcome in outcomes] == ["zyxcanary@post.example.org"] * 2


NAMES = [
    ({"_scheme": "given_family", "given_name": "Ada", "family_name": "Lovelace"}, "Ada", "Lovelace"),
    ({"_scheme": "family_nospace_given", "given_name": "文", "family_name": "孫"}, "文", "孫"),
    ({"_scheme": "title_given_middle_family", "title": "Dr", "given_name": "Ada", "middle_name": "K", "family_name": "L"},
     "Ada", "L"),
    ({"_scheme": "given_family", "given_name": " Ada ", "family_name": ""}, "Ada", "NOT_PROVIDED"),
    ({"_scheme": "given_family", "given_name": "", "family_name": None}, "NOT_PROVIDED", CANARY),
    ({"_scheme": "full", "full_name": "Ada Lovelace"}, "NOT_PROVIDED", CANARY),
    ({"_scheme": "calling_full", "calling_name": "Ada", "full_name": "Ada Lovelace"}, "NOT_PROVIDED", CANARY),
    ({"_legacy": "Ada Lovelace"}, "NOT_PROVIDED", CANARY),
    ({}, "NOT_PROVIDED", CANARY),
    (None, "NOT_PROVIDED", CANARY),
    ("Ada", "NOT_PROVIDED", CANARY),
    ({"_scheme": "given_family", "given_name": 5, "family_name": "L"}, "NOT_PROVIDED", CANARY),
    ({"_scheme": "given_family", "given_name": "Ada", "family_name": ["L"]}, "NOT_PROVIDED", CANARY),
    ({"_scheme": "given_family", "given_name": "A\tda\n", "family_name": "Love\x85lace"}, "A da", "Love lace"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "first", "last"), NAMES)
def test_names_in_parts_where_the_event_asks_for_them(parts: Any, first: str, last: str) -> None:
    made = contract("pretix:PositionContract")
    row = named(made, check(made, RawRecord(position(attendee_name_parts=parts))))
    assert (row["first_name"], row["last_name"]) == (first, last)
    made = contract("pretix:OrderContract")
    invoice = {"name": CANARY, "name_parts": parts}
    row = named(made, check(made, RawRecord({**PRETIX, "invoice_address": invoice})))
    assert (row["first_name"], row["last_name"]) == (first, last)


def test_a_part_of_a_name_is_judged_like_a_name() -> None:
    parts = {"_scheme": "given_family", "given_name": "A\ufdd0da", "family_name": "L"}
    refused = check(contract("pretix:PositionContract"), RawRecord(position(attendee_name_parts=parts)))
    assert isinstance(refused, Rejection)
    assert [problem.path for problem in refused.problems] == ["attendee_name_parts.given_name"]


@pytest.mark.parametrize("name", ["pretix:PositionContract", "eventbrite:AttendeeContract", "eventbrite:OrderContract"])
def test_a_control_character_in_a_name_is_one_space(name: str) -> None:
    """Record by record and page by page alike: a clean neighbour takes the short way, this one the model's."""
    wrong, right = "Ada\x0bLove\tlace\r", "Ada Love lace"
    good: dict[str, Any] = {
        "pretix:PositionContract": position(attendee_name=wrong, attendee_name_parts={}),
        "eventbrite:AttendeeContract": {
            **ATTENDEE,
            "profile": {**ATTENDEE["profile"], "last_name": wrong, "name": wrong},
        },
        "eventbrite:OrderContract": {**ORDER, "last_name": wrong, "name": wrong},
    }[name]
    made = contract(name)
    assert named(made, check(made, RawRecord(good)))["last_name"] == right
    [one, two] = made.check([RawRecord(good), RawRecord(good)])
    assert one == two == check(made, RawRecord(good))


def test_other_text_is_judged_as_before() -> None:
    refused = check(contract("pretix:OrderContract"), RawRecord({**PRETIX, "phone": "1\t2"}))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("CONTROL_CHARACTER", "phone")]


def test_codes_that_open_doors_are_not_kept() -> None:
    made = contract("pretix:PositionContract")
    outcome = check(made, RawRecord(position(secret="door-code", pdf_data={"secret": "door-code"}, seat=None)))
    assert isinstance(outcome, Canonical)
    assert b"door-code" not in outcome.row
    made_of_order = contract("pretix:OrderContract")
    link = "https://tickets.example.org/order/LZRQG/page-code/"
    payment = {"state": "created", "amount": "3.00", "payment_url": link}
    card = {"state": "done", "amount": "3.00", "details": {"gift_card": {"id": 5, "secret": "page-code"}, "more": 1}}
    order = {**PRETIX, "secret": "page-code", "url": link, "payments": [payment, card], "refunds": [card]}
    row = named(made_of_order, check(made_of_order, RawRecord(order)))
    assert "page-code" not in str(row)
    kept = json.loads(row["metadata"])
    assert kept["payments"][0] == {**payment, "payment_url": None}
    assert kept["refunds"][0]["details"] == {"gift_card": {"id": 5}, "more": 1}
    assert made.drift() == made_of_order.drift() == frozenset()


@pytest.mark.parametrize("amount", ["-5.00", "-0.01", "-12", -3, "-9999999999.99"])
def test_negative_prices_are_prices(amount: Any) -> None:
    made = contract("pretix:PositionContract")
    assert named(made, check(made, RawRecord(position(price=amount))))["amount"] == str(amount)
    made = contract("pretix:OrderContract")
    assert named(made, check(made, RawRecord({**PRETIX, "total": amount})))["amount"] == str(amount)


@pytest.mark.parametrize("amount", ["-1e11", "-0.00001", "--5", "-", "-Infinity"])
def test_absurd_negative_prices_are_refused(amount: str) -> None:
    refused = check(contract("pretix:PositionContract"), RawRecord(position(price=amount)))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("INVALID_MONEY", "price")]


def test_nothing_has_one_form() -> None:
    assert str(fields.amount("-0.00")) == "0.00"
    assert {str(fields.amount(zero)) for zero in ("-0", "0E-7", "0E-40", "-0E+40", "0." + "0" * 30)} == {"0"}


@pytest.mark.parametrize(("given", "expected"), [("1e3", "1000"), ("-1E+9", "-1000000000"), ("1e-4", "0.0001")])
def test_amounts_are_written_plainly(given: str, expected: str) -> None:
    assert str(fields.amount(given)) == expected


@pytest.mark.parametrize(
    "loose", ["1_000", "１２", "٣.٥", "٠", "1e٣", "5,00", "0x10", ".", "1e", "", " ", "1 000", "\u22125"]
)
def test_only_plain_digits_are_an_amount(loose: str) -> None:
    refused = check(contract("pretix:OrderContract"), RawRecord({**PRETIX, "total": loose}))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("INVALID_MONEY", "total")]


@pytest.mark.parametrize(
    ("given", "expected"), [(" 5 ", "5"), ("+5", "5"), ("5.", "5"), (".50", "0.50"), ("-1.50", "-1.50")]
)
def test_amounts_that_are_written_otherwise(given: str, expected: str) -> None:
    assert str(fields.amount(given)) == expected


@pytest.mark.parametrize("absurd", ["0E-20000", "0E+20000", "0E-41", "1E-20000", "1E+1000000", "1E+999999999", "-1e11"])
def test_absurd_exponents_are_refused(absurd: str) -> None:
    with pytest.raises(Refused, match="INVALID_MONEY"):
        fields.amount(absurd)


def test_free_text_is_no_reason_to_refuse_an_order() -> None:
    made = contract("pretix:OrderContract")
    for comment in (
        "see C:\\u0041\\u00dir and \\u00e9",
        "two\x0blines",
        "\x85\x1b\x7f\t",
        "\\",
        "\\u0000",
        "\\\\u0000",
    ):
        row = named(made, check(made, RawRecord({**PRETIX, "comment": comment})))
        assert json.loads(row["metadata"])["comment"] == comment


def test_what_jsonb_cannot_hold_is_refused_by_the_name_of_its_field() -> None:
    made = contract("pretix:OrderContract")
    for wrong, code, path in (
        ({"comment": "a\x00b"}, "CONTROL_CHARACTER", "comment"),
        ({"comment": "\\\x00"}, "CONTROL_CHARACTER", "comment"),
        ({"comment": "\\\\u0000", "api_meta": {"deep": ["\x00"]}}, "CONTROL_CHARACTER", "api_meta"),
        ({"api_meta": {"key\x00": 1}}, "CONTROL_CHARACTER", "api_meta"),
        ({"odd\x00": 1}, "CONTROL_CHARACTER", "metadata"),
        ({"comment": "small", "api_meta": "x" * 1_000_001}, "TOO_LARGE", "api_meta"),
    ):
        refused = check(made, RawRecord({**PRETIX, **wrong}))
        assert isinstance(refused, Rejection)
        assert [(problem.code, problem.path) for problem in refused.problems] == [(code, path)]


def test_held_for_its_parent_when_asked() -> None:
    made = contract("eventbrite:AttendeeContract", hold_for_parent=True)
    outcome = check(made, RawRecord(ATTENDEE))
    assert isinstance(outcome, Canonical)
    assert (made.parent_feed, outcome.parent) == ("orders", "4400006105")


def test_new_fields_are_kept_and_named() -> None:
    made = contract("eventbrite:AttendeeContract")
    row = named(made, check(made, RawRecord({**ATTENDEE, "shoe_size": CANARY})))
    assert json.loads(row["metadata"])["shoe_size"] == CANARY
    assert made.drift() == {"shoe_size"}


@given(st.permutations(list(ATTENDEE)))
def test_the_hash_does_not_depend_on_key_order(order: list[str]) -> None:
    made = contract("eventbrite:AttendeeContract")
    one, two = check(made, RawRecord(ATTENDEE)), check(made, RawRecord({name: ATTENDEE[name] for name in order}))
    assert isinstance(one, Canonical)
    assert isinstance(two, Canonical)
    assert one.content_hash == two.content_hash


@given(st.text(max_size=30))
def test_text_is_clean_or_refused(value: str) -> None:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
        with pytest.raises(Refused, match=r"CONTROL_CHARACTER|LONE_SURROGATE"):
            fields.text(value)
        return
    try:
        found = fields.text(value)
    except Refused:
        assert any(ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF for character in value)
        return
    assert found == unicodedata.normalize("NFC", found)
    assert found == fields.NOT_PROVIDED or found == found.strip()
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in found)
    assert fields.text(found) == found


@given(st.text(max_size=30))
def test_a_name_is_the_text_it_is_without_controls(value: str) -> None:
    spaced = "".join(" " if unicodedata.category(character) == "Cc" else character for character in value)
    try:
        expected = fields.text(spaced)
    except Refused as refused:
        with pytest.raises(Refused, match=refused.code):
            fields.name(value)
        return
    assert fields.name(value) == fields.name(fields.name(value)) == expected


ADDRESSES = st.builds(
    lambda local, labels, top: f"{local}@{'.'.join(labels)}.{top}",
    st.text("ab0.+-_'!", min_size=1, max_size=12),
    st.lists(st.text("ab0-x", min_size=1, max_size=8), min_size=1, max_size=3),
    st.sampled_from(["com", "org", "test", "local", "x", "co", "invalid", "example", "xn--p1ai", "arpa"]),
)


@given(ADDRESSES)
def test_the_fast_path_agrees_with_email_validator(address: str) -> None:
    try:
        expected = validate_email(address, check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        with pytest.raises(Refused, match="INVALID_EMAIL"):
            fields.email(address)
        return
    assert fields.email(address) == expected
    assert fields.email(expected) == expected


@pytest.mark.parametrize(
    "address",
    [
        "a@b",
        "@example.com",
        "a@@example.com",
        "a b@example.com",
        "a@localhost",
        "a@x.test",
        "a..b@example.com",
        "<a@example.com>",
    ],
)
def test_bad_addresses_are_refused(address: str) -> None:
    with pytest.raises(Refused, match="INVALID_EMAIL"):
        fields.email(address)


def test_good_addresses_are_kept() -> None:
    assert fields.email(" O'Brien+Tag@Example.COM ") == "o'brien+tag@example.com"
    assert fields.email("Jürgen@example.org") == "jürgen@example.org"
    assert fields.email(None) == fields.email("  ") == "NOT_PROVIDED"


MAPPED: dict[str, Any] = {
    "fields": {
        "vendor_id": "id",
        "event_id": "event.id",
        "email": "mail",
        "created_at": "created",
        "modified_at": "changed",
    },
    "status": "state",
    "statuses": {"paid": "COMPLETED"},
}


def test_a_mapped_record() -> None:
    made = contract("mapped:MappedContract", **MAPPED)
    record = {"id": 7, "event": {"id": "e"}, "mail": "A@example.com", "created": "2026-01-01T00:00:00Z",
              "changed": "2026-01-02T02:00:00+02:00", "state": "paid", "more": 1}  # fmt: skip
    outcome = check(made, RawRecord(record))
    assert isinstance(outcome, Canonical)
    assert (outcome.vendor_id, outcome.modified_at) == ("7", "2026-01-02T00:00:00.000000Z")
    refused = check(made, RawRecord({**record, "state": "odd"}))
    assert isinstance(refused, Rejection)
    assert [(problem.code, problem.path) for problem in refused.problems] == [("UNKNOWN_STATUS", "state")]
    assert refused.vendor_id == "7"


FLAT: dict[str, Any] = {
    "id": 7,
    "event": {"id": "e"},
    "created": "2026-01-01T00:00:00Z",
    "changed": "2026-01-02T00:00:00Z",
}


def test_the_object_that_holds_the_status_is_no_drift() -> None:
    made = contract("mapped:MappedContract", **{**MAPPED, "status": "payment.status", "known": ["id"]})
    record = {**FLAT, "payment": {"status": "paid", "by": "card"}, "payment.status": "kept", "new": 1}
    row = named(made, check(made, RawRecord(record)))
    assert made.drift() == {"new", "payment.status"}
    kept = json.loads(row["metadata"])
    assert (kept["payment"], kept["payment.status"]) == (record["payment"], "kept")


@pytest.mark.parametrize("wrong", ["created", "changed"])
def test_an_epoch_is_refused_by_its_path(wrong: str) -> None:
    paths = {**MAPPED["fields"], "created_at": "times.created", "modified_at": "times.changed"}
    made = contract("mapped:MappedContract", **{**MAPPED, "fields": paths, "timestamps": "epoch"})
    record = {"id": 7, "event": {"id": "e"}, "state": "paid", "times": {"created": 1.7e9, "changed": 1_700_000_000}}
    assert isinstance(check(made, RawRecord(record)), Canonical)
    for value, code in (("soon", "WRONG_TYPE"), (None, "MISSING_FIELD"), (1e300, "INVALID_TIMESTAMP")):
        refused = check(made, RawRecord({**record, "times": {**record["times"], wrong: value}}))
        assert isinstance(refused, Rejection)
        assert [(problem.code, problem.path) for problem in refused.problems] == [(code, f"times.{wrong}")]


def fixed_at(moment: Any, timestamps: str = "iso") -> dict[str, Any]:
    """A mapping whose records were all made at one time."""
    found = {name: path for name, path in MAPPED["fields"].items() if name != "created_at"}
    return {**MAPPED, "fields": found, "constants": {"created_at": moment}, "timestamps": timestamps}


def test_constants_that_every_record_can_have() -> None:
    constants = {"kind": "order", "currency": "EUR", "amount": 5, "quantity": 2, "order_id": 3, "ticket_sku": "S", "locale": "de",
                 "checked_in": True, "phone": "", "last_name": "A\tB"}  # fmt: skip
    made = contract("mapped:MappedContract", **MAPPED, constants=constants)
    row = named(made, check(made, RawRecord({**FLAT, "state": "paid"})))
    assert (row["kind"], row["currency"], row["amount"], row["quantity"]) == ("order", "EUR", "5", "2")
    made = contract("mapped:MappedContract", **fixed_at(1_700_000_000, "epoch"))
    row = named(made, check(made, RawRecord({**FLAT, "state": "paid", "changed": 1_700_000_001})))
    assert row["created_at"].startswith("2023-11-14T22:13:20")


@pytest.mark.parametrize(
    ("path", "options", "sentence"),
    [
        ("nowhere:Thing", {}, "cannot be imported"),
        ("eventbrite:OrderContract", {"tires": 1}, "unknown key 'tires'"),
        ("mapped:MappedContract", {**MAPPED, "colour": 1}, "contract_options.colour"),
        ("mapped:MappedContract", {**MAPPED, "fields": {"shoe": "x"}}, "'shoe', which no registration has"),
        ("mapped:MappedContract", {**MAPPED, "fields": {"vendor_id": "id"}}, "needs 'modified_at'"),
        ("mapped:MappedContract", {**MAPPED, "constants": {"currncy": "EUR"}}, "constants has 'currncy', which no"),
        (
            "mapped:MappedContract",
            {
                **MAPPED,
                "fields": {"event_id": "e", "created_at": "c", "modified_at": "m"},
                "constants": {"vendor_id": "x"},
            },
            "fields needs 'vendor_id'; as a constant",
        ),
        (
            "mapped:MappedContract",
            {**MAPPED, "constants": {"email": "a@b.example"}},
            "'email' in fields and in constants",
        ),
        (
            "mapped:MappedContract",
            {**MAPPED, "constants": {"kind": "orders"}},
            "constants.kind cannot be 'orders': .*'order' or",
        ),
        (
            "mapped:MappedContract",
            {**MAPPED, "constants": {"currency": "EURO"}},
            "currency cannot be 'EURO': not an ISO 4217 code",
        ),
        ("mapped:MappedContract", {**MAPPED, "constants": {"quantity": True}}, "constants.quantity cannot be True: "),
        (
            "mapped:MappedContract",
            {**MAPPED, "constants": {"order_id": " "}},
            "constants.order_id cannot be ' ': a required field",
        ),
        (
            "mapped:MappedContract",
            {**MAPPED, "constants": {"amount": "1_0"}},
            "constants.amount cannot be '1_0': an amount that",
        ),
        (
            "mapped:MappedContract",
            {**MAPPED, "constants": {"ticket_sku": 7}},
            "constants.ticket_sku cannot be 7: a field has another type",
        ),
        ("mapped:MappedContract", fixed_at("yesterday"), "constants.created_at cannot be 'yesterday': not an instant"),
        ("mapped:MappedContract", fixed_at(1_700_000_000), "constants.created_at cannot be 1700000000: a field has"),
        (
            "mapped:MappedContract",
            fixed_at("2026-01-01T00:00:00Z", "epoch"),
            "constants.created_at cannot be '2026-.*: a field has",
        ),
        ("eventbrite:OrderContract", {"tiers": "gone.yaml"}, "cannot be read"),
        ("eventbrite:OrderContract", {"tiers": 5}, "tiers must be the name of a file"),
    ],
)
def test_wrong_options_are_one_sentence(path: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        contract(path, **options)
    assert "\n" not in str(caught.value)


def test_tiers_by_key_then_by_name(tmp_path: Any) -> None:
    file = tmp_path / "tiers.yaml"
    file.write_text("skus: {e1/10: STAFF, '10': SPEAKER}\nnames: {'gold|vip': VIP}\n")
    tiers = load_tiers(file)
    asked = [("e1", "10", "x"), ("e2", "10", "x"), ("e", "1", "Gold Pass"), ("e", "1", "x")]
    assert [tiers.tier(*one) for one in asked] == [Tier.STAFF, Tier.SPEAKER, Tier.VIP, Tier.UNKNOWN_TIER]
    for number, text in enumerate(("skus: {a: GOLD}", "names: {'(': VIP}", "tires: {}", "a: [")):
        wrong = tmp_path / f"{number}.yaml"
        wrong.write_text(text)
        with pytest.raises(ConfigurationError):
            load_tiers(wrong)
    assert tiers_at(None).tier("x", "y", "Press & Crew") is Tier.UNKNOWN_TIER
