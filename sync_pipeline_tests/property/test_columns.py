"""Columns checked at once: what they call clean is what the model would have made of it; all else is left to the model."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.contracts import columns, fields
from sync_pipeline.contracts.registration import CHECKS, Registration, as_text
from sync_pipeline.contracts.tiers import Tier
from sync_pipeline.kernel.canonical import instant_text

VALID: dict[str, Any] = {
    "vendor_id": "1", "kind": "attendee", "order_id": "1", "event_id": "1", "payment_status": "PENDING",
    "tier": Tier.VIP, "created_at": "2026-01-01T00:00:00Z", "modified_at": "2026-01-01T00:00:00Z",
}  # fmt: skip

MOMENTS = st.datetimes(datetime.fromisoformat("1985-01-01"), datetime.fromisoformat("2205-01-01"))
STAMPS = st.one_of(
    MOMENTS.map(lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"),
    MOMENTS.map(lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}"),
    MOMENTS.map(lambda at: f"{at.isoformat()}+00:00"),
    MOMENTS.map(lambda at: f"{at.isoformat()}-00:00"),
    MOMENTS.map(lambda at: f"{at.isoformat()}+05:30"),
    MOMENTS.map(lambda at: at.isoformat()),
    st.from_regex(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,7})?Z?", fullmatch=True),
    st.sampled_from(
        ["2026-W01-1T12:00:00.123Z", "2026-01-01T00:00:00.000Z\n2026-01-01T00:00:00.000Z", "2026-02-30T00:00:00.000Z",
         "2026-01-01T24:00:00.000Z", "٢٠٢٦-01-01T00:00:00.000Z", "2026-01-01 00:00:00.000Z", "2026-01-01T00:00:00.000z"]
    ),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text("aé\u0301ï \u00a0\t\n\ufdd0\ud800", max_size=8),
    st.sampled_from(["NOT_PROVIDED", "e\u0301", "Å", "\u212b", " x", "x ", "", "한글"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65), st.floats(), st.decimals(allow_nan=False).map(str), st.booleans(),
    st.from_regex(r"-?[0-9]{0,12}(\.[0-9]{0,6})?(e-?[0-9]{1,5})?", fullmatch=True), st.integers(-2, 100_002),
)  # fmt: skip
LOOSE_NUMBERS = st.text("0159_.,eE+- ١２٣߅", max_size=6)
"""What Decimal takes beyond what vendors write, and what it does not."""
WORDS = st.sampled_from(
    ["EUR", "eur", "XXX", "ZZZ", "order", "attendee", "PENDING", "paid", "VIP", "COMPLETED", "de", "und"]
)
EMAILS = st.one_of(
    st.emails(),
    st.builds(
        "{}{}@{}{}".format,
        st.sampled_from(["", " "]),
        st.text("ab.+-_A'", max_size=8),
        st.text("ab.-A", max_size=8),
        st.sampled_from([".com", ".test", ".COM ", ".x--y.com", ""]),
    ),
)
VALUES = st.one_of(
    st.none(), TEXTS, NUMBERS, LOOSE_NUMBERS, WORDS, STAMPS, EMAILS,
    st.lists(st.none(), max_size=1), st.just({}), st.just(float("nan"))
)  # fmt: skip
CHECKED = {**CHECKS, "vendor_id": columns.identifier, "modified_at": columns.instant}


def by_model(field: str, value: Any) -> str | None:
    """What the model makes of one value, None when it refuses."""
    try:
        made = Registration.__pydantic_validator__.validate_python({**VALID, field: value})
    except ValueError:
        return None
    return as_text(getattr(made, field))


@pytest.mark.parametrize("field", CHECKED)
@given(values=st.lists(VALUES, max_size=6))
def test_a_clean_value_is_what_the_model_makes_of_it(field: str, values: list[Any]) -> None:
    found = CHECKED[field](values)
    assert len(found) == len(values)
    for value, text in zip(values, found, strict=True):
        assert text is None or text == by_model(field, value)


CONTROLLED = st.text("aé\u0301 \t\n\x00\x1f\x7f\x85\x9f", max_size=8)


@pytest.mark.parametrize("field", ["first_name", "last_name"])
@given(values=st.lists(CONTROLLED, max_size=6))
def test_names_with_controls_are_left_to_the_model_which_takes_them(field: str, values: list[str]) -> None:
    for value, text in zip(values, CHECKED[field](values), strict=True):
        made = by_model(field, value)
        assert made is not None
        assert text in (None, made)
        assert made.isprintable()
        assert text is None or value.isprintable()


PLAIN = st.from_regex(r"[a-z]{1,8}@[a-z]{1,8}[.](com|org|test|tests|local)", fullmatch=True)


@given(st.lists(st.one_of(PLAIN, EMAILS), max_size=5))
def test_an_address_is_judged_whatever_stands_beside_it(values: list[str]) -> None:
    assert columns.email(values) == [columns.email([value])[0] for value in values]


@given(PLAIN, st.sampled_from(["\n", "\n\n", "@", ".", " ", "\0"]), PLAIN)
def test_two_addresses_are_not_one(one: str, between: str, other: str) -> None:
    assert columns.email([f"{one}{between}{other}", one])[0] is None


TEN_TO_THE = st.builds(
    "{}E{}".format, st.sampled_from(["0", "-0", "0.0", "1", "-12.5"]), st.integers(-100_000, 100_000)
)


@given(st.lists(LOOSE_NUMBERS, min_size=1, max_size=4))
def test_an_amount_is_of_plain_digits_or_none(values: list[str]) -> None:
    for value, text in zip(values, columns.amount(values), strict=True):
        made = by_model("amount", value)
        assert text in (None, made)
        assert made is None or (value.strip().isascii() and "_" not in value and Decimal(made) == Decimal(value))


@given(st.one_of(NUMBERS, TEN_TO_THE))
def test_an_amount_is_written_plainly(value: Any) -> None:
    """Postgres refuses a zero with thousands of places as it does any other number."""
    made = by_model("amount", value)
    assert made is None or re.fullmatch(r"-?\d{1,11}(\.\d{1,40})?", made, re.ASCII)


@given(st.lists(STAMPS, min_size=1, max_size=5))
def test_clean_instants_are_the_instants_they_name(values: list[str]) -> None:
    for value, text in zip(values, columns.instant(values), strict=True):
        if text is not None:
            assert text == instant_text(datetime.fromisoformat(value))
            assert text == by_model("created_at", value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("created_at", "2026-01-01T00:00:00.123Z"), ("created_at", "2026-01-01T00:00:00Z"), ("email", " Ada@Example.com "),
        ("first_name", "Mária"), ("first_name", None), ("amount", "12.30"), ("amount", 5), ("amount", "-12.30"), ("amount", -5),
        ("quantity", 3),
        ("currency", "EUR"), ("checked_in", True), ("vendor_id", 7), ("tier", Tier.VIP), ("payment_status", "FAILED"),
    ],
)  # fmt: skip
def test_the_common_values_take_the_short_way(field: str, value: Any) -> None:
    """Else every page would be judged record by record and nobody would notice but the clock."""
    expected = by_model(field, value)
    assert expected is not None
    assert CHECKED[field]([value, value]) == [expected] * 2


@given(st.datetimes(datetime.fromisoformat("1990-01-01"), datetime.fromisoformat("2200-01-01")), st.integers(-720, 720))
def test_instants_in_text_sort_as_they_do(at: datetime, minutes: int) -> None:
    one, two = at.replace(tzinfo=UTC), at.replace(tzinfo=UTC) + timedelta(microseconds=minutes)
    assert (instant_text(one) < instant_text(two)) == (one < two)


@pytest.mark.parametrize("length", [200, 201, 4096, 4097])
def test_long_text(length: int) -> None:
    for field in ("vendor_id", "first_name"):
        [found] = CHECKED[field](["x" * length])
        assert found == by_model(field, "x" * length)


def test_sentinels_stand_for_absent_columns() -> None:
    absent = {name: check([None, None]) for name, check in CHECKS.items()}
    assert absent["email"] == [fields.NOT_PROVIDED] * 2
    assert absent["locale"] == [fields.UNDETERMINED] * 2
    assert absent["amount"] == ["0", "0"]
    assert absent["order_id"] == [None, None]
