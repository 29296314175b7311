"""Why a record is refused: the codes that operators filter and replay by."""

from __future__ import annotations

CODES = {
    "NOT_AN_OBJECT": "the record is not a JSON object",
    "DUPLICATE_KEY": "a key stands twice in one object, so that readers disagree on its value",
    "NOT_A_NUMBER": "NaN or Infinity, which JSON does not have, or a number so large that it reads as such",
    "LONE_SURROGATE": "half of a UTF-16 pair, which is no character",
    "INVALID_UTF8": "bytes that are not UTF-8",
    "INVALID_JSON": "the record is not JSON",
    "TOO_DEEP": "nested deeper than any real record",
    "TOO_LARGE": "longer than any real record or field",
    "INT_OUT_OF_RANGE": "an integer beyond 64 bits",
    "MISSING_FIELD": "a required field is absent, null or empty",
    "WRONG_TYPE": "a field has another type than the vendor documents",
    "CONTROL_CHARACTER": "text with controls (not in names) or code points that are no characters; in metadata only U+0000",
    "INVALID_EMAIL": "not an e-mail address by RFC 5322, or its domain cannot be one",
    "INVALID_TIMESTAMP": "not an instant that exists",
    "NAIVE_TIMESTAMP": "a local time without an offset",
    "TIMESTAMP_OUT_OF_RANGE": "before 1990, or in the future for something that has happened",
    "INVALID_MONEY": "an amount that is not one, is absurd, or is negative where that cannot be",
    "UNKNOWN_CURRENCY": "not an ISO 4217 code",
    "UNKNOWN_STATUS": "a status that no table knows; it is never guessed",
    "MISSING_EXPANSION": "the order came without its attendees, so its payment status and its tickets cannot be told",
    "OUT_OF_RANGE": "a number outside what the field can mean",
    "CONTRACT_FAILED": "the contract itself failed on this record: a fault of ours, to be reported; replay after an update",
    "HANDOFF_REFUSED": "the receiver refuses the registration for good",
    "NO_EFFECT": "applied, but neither handed on nor waiting to be",
    "NO_ROW": "a change to hand on whose row is gone",
    "ORPHAN": "the record's parent did not come in time",
}
