"""One field of all of a page's records checked at once.

Most values are clean already, and to see that for a whole column costs little more than for one value. Each function
returns, place by place, the canonical text of a value, or None where it is not surely clean: that record is then judged
alone by the model and `fields`, which are the definition. A text given here is always the one that they would give.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, cast
from unicodedata import is_normalized

from sync_pipeline.contracts import fields
from sync_pipeline.contracts.currencies import CURRENCIES

Checked = list[str | None]
Check = Callable[[Sequence[Any]], Checked]

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,6}))?(?:Z|[+-]00:00)", re.ASCII).fullmatch
COMMON = "0000-00-00T00:00:00.000Z"
"""The commonest form of an instant, each digit a zero. Of one form, texts sort as the instants do."""

ZEROS = bytes.maketrans(b"123456789", b"000000000")
EARLIEST, LATEST = (f"{limit:%Y-%m-%dT%H:%M:%S}" for limit in (fields.EARLIEST, fields.LATEST))
AMOUNT = re.compile(r"(?!-[0.]+\Z)-?(?:0|[1-9]\d{0,8})(?:\.\d{1,4})?", re.ASCII).fullmatch
AMOUNTS = re.compile(r"(?:(?!-[0.]+\n)-?(?:0|[1-9]\d{0,8})(?:\.\d{1,4})?\n)+", re.ASCII).fullmatch
MAX_QUANTITY = 100_000
MAX_IDENTIFIER = 200


def gaps(columns: Iterable[Sequence[object]]) -> set[int]:
    """The places at which any of the columns has None."""
    return {
        place for column in columns if None in column for place, value in enumerate(column) if value is None
    }  # fmt: skip


def optional(check: Check, absent: str) -> Check:
    """`check`, with `absent` standing for each None."""

    def checked(values: Sequence[Any]) -> Checked:
        given = [value for value in values if value is not None]
        if len(given) == len(values):
            return check(values)
        if not given:
            return [absent] * len(values)
        found = iter(check(given))
        return [absent if value is None else next(found) for value in values]

    return checked


def text(values: Sequence[Any]) -> Checked:
    """Text that is trimmed, not empty, of printable characters in NFC."""
    if not values:
        return []
    try:
        together = "".join(values)
    except TypeError:
        return [value if type(value) is str and _is_clean(value) else None for value in values]
    # NFC is closed under cutting: parts of a normalised text are normalised. The space is the only printable one.
    if (
        together.isprintable()
        and (together.isascii() or is_normalized("NFC", together))
        and all(values)
        and (" " not in together or list(map(str.strip, values)) == list(values))
        and (len(together) <= fields.MAX_TEXT or max(map(len, values)) <= fields.MAX_TEXT)
    ):
        return list(values)
    return [value if _is_clean(value) else None for value in values]


def _is_clean(value: str) -> bool:
    return (
        0 < len(value) <= fields.MAX_TEXT
        and value.isprintable()
        and (value.isascii() or is_normalized("NFC", value))
        and value == value.strip()
    )


def required(values: Sequence[Any]) -> Checked:
    """Text that is not the word for text that is missing."""
    found = text(values)
    if fields.NOT_PROVIDED in found:
        return [None if value == fields.NOT_PROVIDED else value for value in found]
    return found


def identifier(values: Sequence[Any]) -> Checked:
    """Text of at most 200 characters, or an integer of 64 bits."""
    if int in set(map(type, values)):
        values = [str(value) if type(value) is int and abs(value) < 2**63 else value for value in values]
    found = required(values)
    try:
        if max(map(len, cast(list[str], found)), default=0) <= MAX_IDENTIFIER:
            return found
    except TypeError:
        pass  # one of them is None
    return [value if value is not None and len(value) <= MAX_IDENTIFIER else None for value in found]


def _lines(values: Sequence[str]) -> str | None:
    """A line for each value, None where one of them holds a line's end. Raises TypeError for what is no text."""
    lines = "\n".join(values) + "\n"
    return lines if lines.count("\n") == len(values) else None


def email(values: Sequence[Any]) -> Checked:
    """Addresses that need no closer look once they are trimmed and lower-cased."""
    try:
        trimmed = list(map(str.lower, map(str.strip, values)))
    except TypeError:
        trimmed = [value.strip().lower() if type(value) is str else "" for value in values]
    lines = _lines(trimmed)
    if lines is not None and "--" not in lines and fields.PLAIN_EMAILS.fullmatch(lines):
        return cast(Checked, trimmed)
    return [address if fields.is_plain_email(address) else None for address in trimmed]


def instant(values: Sequence[Any]) -> Checked:
    """ISO 8601 instants in UTC."""
    try:
        together = "\n".join(values)
        alike = together.encode().translate(ZEROS) == "\n".join([COMMON] * len(values)).encode()
        if alike and min(values) >= EARLIEST and max(values) < LATEST:
            list(map(datetime.fromisoformat, values))
            return cast(Checked, together.replace("Z", "000Z").split("\n"))
    except (TypeError, ValueError):
        pass
    return [_utc_instant(value) if type(value) is str else None for value in values]


def _utc_instant(value: str) -> str | None:
    shape = INSTANT(value)
    if shape is None or not EARLIEST <= value < LATEST:
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return f"{value[:19]}.{shape[1] or '':0<6}Z"


def amount(values: Sequence[Any]) -> Checked:
    """Decimal strings and integers that are written as Postgres would."""
    try:
        lines = _lines(values)
        if lines is not None and AMOUNTS(lines):
            return list(values)
    except TypeError:
        pass
    return [
        (value if AMOUNT(value) else None)
        if type(value) is str
        else (str(value) if type(value) is int and abs(value) < 10**9 else None)
        for value in values
    ]


def quantity(values: Sequence[Any]) -> Checked:
    if set(map(type, values)) == {int} and min(values) >= 0 and max(values) <= MAX_QUANTITY:
        texts = {value: str(value) for value in set(values)}
        return list(map(texts.__getitem__, values))
    return [str(value) if type(value) is int and 0 <= value <= MAX_QUANTITY else None for value in values]


def flag(values: Sequence[Any]) -> Checked:
    return ["t" if value is True else "f" if value is False else None for value in values]


def one_of(words: frozenset[str]) -> Check:
    """Words out of a closed set."""

    def checked(values: Sequence[Any]) -> Checked:
        try:
            if words.issuperset(values):
                return list(values)
        except TypeError:
            pass  # lists and objects are in no set
        return [value if isinstance(value, str) and value in words else None for value in values]

    return checked


currency = one_of(CURRENCIES)
