"""Nothing planted survives masking, whatever it is wrapped in; and what operators need stays readable."""

from __future__ import annotations

import json
import traceback
import uuid
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.trust.masking import DEEPEST, MASKED, PERSONAL, SECRET, Masker, mask, mask_text
from sync_pipeline.trust.secrets import Secret

Person = namedtuple("Person", ["id", "email"])


class Colour(Enum):
    PLANTED = "ada.lovelace@example.org"


@dataclass(frozen=True)
class Attendee:
    id: str
    first_name: str
    note: object


class Shows:
    """An object of a library: only its repr is known."""

    def __init__(self, shown: object) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return f"<Shows {self._shown!r}>"


def raised(value: object) -> BaseException:
    try:
        try:
            raise KeyError(value)
        except KeyError as error:
            raise ValueError(f"row failed: {value}") from error
    except ValueError as error:
        return error


WRAPPERS: list[Callable[[Any], Any]] = [
    lambda value: {"detail": value},
    lambda value: {"outer": {"inner": [value]}},
    lambda value: [1, value],
    lambda value: (value, None),
    lambda value: {frozenset([1]): value},
    lambda value: Person("1", value),
    lambda value: Attendee("1", "x", value),
    lambda value: Shows(value),
    raised,
    lambda value: "".join(traceback.format_exception(raised(value))),
    lambda value: f"before {value} after",
    lambda value: f"{value!r}",
    lambda value: json.dumps({"note": str(value)}),
    lambda value: str(value).encode(),
    lambda value: bytearray(str(value).encode()),
]
nested = st.lists(st.sampled_from(WRAPPERS), max_size=6)

words = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ", min_size=8, max_size=16)
tokens = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGH0123456789-_.~+/", min_size=10, max_size=40).map(lambda t: "zq" + t)
emails = st.builds("{}.{}@{}.example".format, words, st.integers(0, 99), words)


@st.composite
def phones(draw: st.DrawFn) -> str:
    digits = draw(st.text("23456789", min_size=9, max_size=19))
    separators = draw(st.lists(st.sampled_from(["", "", "-", " ", ") ", " ("]), min_size=19, max_size=19))
    return "".join(digit + separator for digit, separator in zip(digits, separators, strict=False)).rstrip(" (-)")


def wrap(value: object, wrappers: list[Callable[[Any], Any]]) -> object:
    for wrapper in wrappers:
        value = wrapper(value)
    return value


def shown(value: object) -> str:
    """The result as every renderer may show it."""
    return json.dumps(value, ensure_ascii=False, default=repr) + repr(value)


@given(emails, nested)
def test_no_address_survives(planted: str, wrappers: list[Callable[[Any], Any]]) -> None:
    result = shown(mask({"note": wrap(planted, wrappers)}))
    assert planted not in result
    assert planted.partition("@")[0] not in result


@given(phones(), nested)
def test_no_long_number_survives(planted: str, wrappers: list[Callable[[Any], Any]]) -> None:
    assert planted not in shown(mask({"note": wrap(planted, wrappers)}))


@given(st.integers(min_value=10**8, max_value=10**19), nested)
def test_no_long_integer_survives(planted: int, wrappers: list[Callable[[Any], Any]]) -> None:
    assert str(planted) not in shown(mask({"note": wrap(planted, wrappers)}))


@given(tokens, st.sampled_from(["Bearer {}", "bearer {}", "Basic {}", "Authorization: Token {}"]), nested)
def test_no_credential_survives(token: str, scheme: str, wrappers: list[Callable[[Any], Any]]) -> None:
    assert token not in shown(mask({"note": wrap(scheme.format(token), wrappers)}))


@given(
    tokens,
    st.sampled_from(["token", "api_key", "apikey", "access_token", "password", "first_name", "continuation"]),
    nested,
)
def test_no_query_parameter_survives(token: str, name: str, wrappers: list[Callable[[Any], Any]]) -> None:
    for url in (f"https://v.example/o/?{name}={token}", f"https://v.example/o/?page=2&{name}={token}&x=1"):
        assert token not in shown(mask({"note": wrap(url, wrappers)}))


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=8, max_size=40), nested)
def test_no_registered_secret_survives(body: str, wrappers: list[Callable[[Any], Any]]) -> None:
    secret = f"s3cret{body}"
    assert secret not in shown(mask({"note": wrap(secret, wrappers)}, secrets=[secret]))


@given(words, st.sampled_from(sorted(PERSONAL | SECRET)), st.booleans(), nested, nested)
def test_no_value_under_a_hidden_name_survives(
    word: str, name: str, dashed: bool, inside: list[Callable[[Any], Any]], around: list[Callable[[Any], Any]]
) -> None:
    planted = f"zq{word}"
    name = name.replace("_", "-").title() if dashed else name
    assert planted not in shown(mask({"note": wrap({name: wrap(planted, inside[:2])}, around)}))


@pytest.mark.parametrize(
    "text",
    [
        "{'id': 'A1', 'first_name': 'Ada Maria', 'last_name': \"O'Ada\"}",
        '{"attendee_name": "Ada \\"A\\" Maria", "answers": [{"question": 1, "answer": "Ada vegan"}]}',
        "Attendee(id='1', first_name='Ada', email=None)",
        '"{\\"first_name\\": \\"Ada\\"}"',
        "name='Ada Maria' type=x",
        "DETAIL: Key (email)=(ada@example.org) already exists Ada@example.org",
        "postgresql://sync:Ada/pw@db.example/sync",
        "GET /orders/?email=ada%40Ada.example&page=2",
        "Authorization: Basic QWRhAda==",
    ],
)
def test_named_values_inside_texts(text: str) -> None:
    assert "ada" not in mask_text(text).lower()


@pytest.mark.parametrize(
    "text",
    [
        "eventbrite/orders: the vendor answered 503 for /organizations/{id}/orders/; tried again in 1.25 s",
        "window 2026-01-31T10:20:30.123456Z..2026-02-01T00:00:00+00:00",
        "2026-01-31 10:20:30,123 closed",
        "session 550e8400-e29b-41d4-a716-446655440000",
        "payload 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "key 00000000a00000000000000000000000",
        "received 1000, applied 998, quarantined 2 in 0.123456789 s",
        "12345.678901234",
        "the paging token is spent",
    ],
)
def test_what_operators_need_stays(text: str) -> None:
    assert mask_text(text) == text


def test_plain_fields_stay() -> None:
    event = {
        "correlation_id": uuid.UUID(int=1).hex.replace("0", "a"),
        "connection": "eventbrite",
        "feed": "orders",
        "status_code": 429,
        "retry_count": 0,
        "seconds": 1.5,
        "done": True,
        "payload_hash": "9f86d081884c7d659a2feaa0c55ad015",
        "timestamp": "2026-01-31T10:20:30.123456Z",
        "codes": {"MISSING_EMAIL": 3},
        "nothing": None,
    }
    assert Masker().event(event) == event


def test_kinds_of_value() -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    assert mask((1, [moment], {"k": Secret("hidden-value")})) == (1, [str(moment)], {"k": "Secret(***)"})
    assert mask(Colour.PLANTED) == MASKED
    assert mask({"ada@example.org": 1}) == {MASKED: 1}
    assert mask({b"ada@example.org": 1, 5551234567: 2, ("ada@example.org",): 3}) == {
        MASKED: 2,
        "('[masked]',)": 3,
    }
    assert mask(5551234567.0) == MASKED
    assert mask(time := 1767225600.25) == time


def test_a_circle_ends() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    assert mask(circle) == [1, MASKED]


def test_what_is_too_deep_is_masked_whole() -> None:
    value: object = "planted"
    for _ in range(DEEPEST + 5):
        value = [value]
    assert "planted" not in repr(mask(value))


def test_a_broken_repr_does_not_break_the_log_call() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("ada@example.org")

    assert mask({"it": Broken()}) == {"it": "<Broken>"}


def test_short_values_are_no_secrets() -> None:
    assert mask_text("a page of pages", secrets=["page", ""]) == "a page of pages"
    assert mask_text("longer-secret and longer-secret-2", secrets=["longer-secret", "longer-secret-2"]) == (
        f"{MASKED} and {MASKED}"
    )


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "part", ["x", "ab@", "name='", "12 ", "a%40", "\\", "'", "://a:", "2026-", "bearer ", "token="]
)
def test_hostile_texts_take_no_time(part: str) -> None:
    mask_text(part * 20_000)
