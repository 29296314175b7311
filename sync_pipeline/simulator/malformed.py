"""Ways in which one record of a page can be broken, as the bytes that go over the wire. Its neighbours stay good."""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable
from typing import Any

from sync_pipeline.simulator.entities import Doc, Entity

_HUGE_FIELD = 5 * 1024 * 1024
_DEPTH = 2000
MARK = "\ue000raw\ue000"  # a private-use text that no record holds, replaced by raw bytes after encoding


def encode(doc: Any) -> bytes:
    return json.dumps(doc, ensure_ascii=False, separators=(",", ":")).encode()


def splice(doc: Doc, raw: bytes) -> bytes:
    """The document with these bytes in place of the value that is `MARK`."""
    return encode(doc).replace(encode(MARK), raw)


def _id_field(doc: Doc) -> str:
    return next(name for name in ("code", "id") if name in doc)


def _changed_field(doc: Doc) -> str:
    return "last_modified" if "last_modified" in doc else "changed"


def _place_text(doc: Doc, value: Any) -> None:
    """Put a value where the person's name is."""
    if "profile" in doc:
        doc["profile"]["first_name"] = doc["profile"]["name"] = value
    elif "first_name" in doc:
        doc["first_name"] = doc["name"] = value
    elif "attendee_name" in doc:
        doc["attendee_name"] = value
    else:
        invoice = dict(doc["invoice_address"] or {})
        invoice["name"] = value
        doc["invoice_address"] = invoice
        for position in doc["positions"]:
            position["attendee_name"] = value


def _place_controls(doc: Doc, value: Any) -> None:
    """Put a value where the name is, and where a pretix position says a company: forms take control characters in names."""
    _place_text(doc, value)
    for position in doc.get("positions", [doc] if "attendee_name" in doc else []):
        position["company"] = value


def _place_money(doc: Doc, value: Any) -> None:
    if "costs" in doc:
        doc["costs"]["gross"]["value"] = value
        doc["costs"]["base_price"]["value"] = value
    elif "total" in doc:
        doc["total"] = value
    else:
        doc["price"] = value


def _spliced(place: Callable[[Doc, Any], None], raw: bytes) -> Callable[[Doc], bytes]:
    def build(doc: Doc) -> bytes:
        place(doc, MARK)
        return splice(doc, raw)

    return build


def _edited(edit: Callable[[Doc], object]) -> Callable[[Doc], bytes]:
    def build(doc: Doc) -> bytes:
        edit(doc)
        return encode(doc)

    return build


def _set_id(doc: Doc, value: Any) -> None:
    doc[_id_field(doc)] = value


def _set_changed(doc: Doc, value: Any) -> None:
    doc[_changed_field(doc)] = value


def _set_email(doc: Doc, value: Any) -> None:
    if "profile" in doc:
        doc["profile"]["email"] = value
    elif "attendee_email" in doc:
        doc["attendee_email"] = value
    else:
        doc["email"] = value


def _wrong_nested(doc: Doc) -> None:
    for name, value in (("profile", "a string"), ("costs", [1, 2]), ("positions", "none"), ("answers", {"a": 1})):
        if name in doc:
            doc[name] = value
            return


def _currency(doc: Doc) -> None:
    for cost in doc["costs"].values():
        cost["currency"] = "ZZQ"


def _money_text(doc: Doc, minor: int, text: str) -> None:
    _place_money(doc, minor if "costs" in doc else text)


def _naive(doc: Doc) -> None:
    name = _changed_field(doc)
    doc[name] = str(doc[name])[:19]


def _duplicate_keys(doc: Doc) -> bytes:
    """The same keys again, with other values: parsers disagree on which one counts."""
    again = {_id_field(doc): "999999", "status": "placed", "email": "other@example.com"}
    return encode(doc)[:-1] + b"," + encode(again)[1:]


def _deep(doc: Doc) -> bytes:
    return encode(doc)[:-1] + b',"nested":' + b"[" * _DEPTH + b"]" * _DEPTH + b"}"


KINDS: dict[str, Callable[[Doc], bytes]] = {
    "missing_id": _edited(lambda doc: doc.pop(_id_field(doc))),
    "id_null": _edited(lambda doc: _set_id(doc, None)),
    "id_empty": _edited(lambda doc: _set_id(doc, "")),
    "id_wrong_type": _edited(lambda doc: _set_id(doc, {"value": 1})),
    "id_huge_int": _spliced(_set_id, b"1" + b"0" * 30),
    "nan_literal": _spliced(_place_money, b"NaN"),
    "infinity_literal": _spliced(_place_money, b"-Infinity"),
    "lone_surrogate": _spliced(_place_text, rb'"A\ud800B"'),
    "duplicate_keys": _duplicate_keys,
    "huge_field": _edited(lambda doc: _place_text(doc, "x" * _HUGE_FIELD)),
    "deep_nesting": _deep,
    "record_string": lambda doc: b'"not a record"',
    "record_number": lambda doc: b"42",
    "record_null": lambda doc: b"null",
    "record_array": lambda doc: b"[1,[2]]",
    "record_boolean": lambda doc: b"true",
    "unknown_status": _edited(lambda doc: doc.update(status="quantum")),
    "bad_email": _edited(lambda doc: _set_email(doc, "not an address@@example..com")),
    "email_wrong_type": _edited(lambda doc: _set_email(doc, ["a@example.com"])),
    "naive_timestamp": _edited(_naive),
    "impossible_timestamp": _edited(lambda doc: _set_changed(doc, "2024-02-30T10:00:00Z")),
    "timestamp_wrong_type": _edited(lambda doc: _set_changed(doc, {"at": 1700000000})),
    "far_future_changed": _edited(lambda doc: _set_changed(doc, "9999-01-01T00:00:00Z")),
    "missing_changed": _edited(lambda doc: doc.pop(_changed_field(doc))),
    "control_character": _spliced(_place_controls, rb'"A\u0000B\u0007C"'),
    "raw_control_byte": _spliced(_place_text, b'"A\x01B"'),
    "truncated_unicode": _spliced(_place_text, b'"A\xf0\x9f\x8e"'),
    "wrong_nested_type": _edited(_wrong_nested),
    "negative_money": _edited(lambda doc: _money_text(doc, -4500, "-45.00")),
    "absurd_money": _edited(lambda doc: _money_text(doc, 10**24, "9" * 24 + ".99")),
    "money_wrong_type": _edited(lambda doc: _place_money(doc, "twelve")),
    "unknown_currency": _edited(_currency),
}

_NOT_THERE = {
    # An attendee's `status` is on its way out at the vendor, so nonsense in it proves nothing.
    "eventbrite/orders": frozenset(),
    "eventbrite/attendees": frozenset({"unknown_status"}),
    # pretix sells at negative prices: discounts and corrections.
    "pretix/orders": frozenset({"unknown_currency", "negative_money"}),
    "pretix/positions": frozenset(
        {
            "negative_money",
            "unknown_status", "unknown_currency", "missing_changed", "far_future_changed", "timestamp_wrong_type",
            "impossible_timestamp", "naive_timestamp",
        }
    ),
}  # fmt: skip
FEEDS = tuple(_NOT_THERE)


def kinds_for(feed: str) -> tuple[str, ...]:
    """Kinds that make sense for a feed such as `pretix/orders`."""
    return tuple(kind for kind in KINDS if kind not in _NOT_THERE[feed])


def break_record(kind: str, doc: Doc) -> bytes:
    """The record's bytes with this defect. `doc` itself is left alone."""
    return KINDS[kind](copy.deepcopy(doc))


def choose(seed: int, feed: str, key: str, rate: float) -> bool:
    """Whether this record is one of the broken ones: fixed by seed and key, so that a walk sees the same each time."""
    return zlib.crc32(f"{seed}/{feed}/{key}".encode()) / 2**32 < rate


def mark(entities: list[Entity], *, seed: int, feed: str, rate: float, kinds: tuple[str, ...]) -> int:
    """Choose the broken records of a feed and deal the kinds out in turn. Returns how many there are."""
    count = 0
    for entity in entities:
        entity.malformed = None
        if choose(seed, feed, entity.id, rate):
            entity.malformed = kinds[count % len(kinds)]
            count += 1
    return count
