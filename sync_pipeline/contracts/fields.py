"""Checks of single values: text, e-mail, instants, money, nested objects. Each returns the canonical value or raises Refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from sync_pipeline.contracts.currencies import CURRENCIES, EXPONENTS

NOT_PROVIDED = "NOT_PROVIDED"
"""Stands for text that the vendor did not give."""

NO_CURRENCY = "XXX"
"""ISO 4217: no currency."""

UNDETERMINED = "und"
"""BCP 47: language not known."""

MAX_TEXT = 4096
MAX_AMOUNT = Decimal(10) ** 10
MAX_EXPONENT = 40
"""Places before or after the point that an amount may be written with: no real one has so many."""

DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE).fullmatch
"""What an amount looks like. Python's Decimal also takes `1_000` and the digits of all scripts, which no vendor means."""

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)

ATEXT = r"[a-z0-9!#$%&'*+/=?^_`{|}~-]++"


def _plain_email(end: str) -> str:
    """`end`: what matches where an address ends."""
    return (
        rf"(?=.{{6,254}}{end})(?=[^@]{{1,64}}+@){ATEXT}(?:\.{ATEXT})*+@(?:(?!-)[a-z0-9-]{{1,63}}+(?<!-)\.)++"
        rf"(?!(?:test|local|onion|arpa|alt|invalid|localhost){end})[a-z]{{2,63}}{end}"
    )


PLAIN_EMAIL = re.compile(_plain_email(r"\Z"))
"""Addresses that need no closer look; everything else, and all with `--` (Punycode and its look-alikes), goes to
email-validator."""

PLAIN_EMAILS = re.compile("(?:" + _plain_email(r"\n") + ")++")
"""The same, a line each."""

NONCHARACTERS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
REFUSED_CHARACTER = re.compile(f"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef{NONCHARACTERS}]")
"""Controls, lone surrogates and noncharacters."""

CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")
"""Unicode category Cc."""


class Refused(ValueError):
    """A value that fails its check. `path` is relative to the field."""

    def __init__(self, code: str, path: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.path = path


def text(value: Any) -> str:
    """Optional text: trimmed, NFC, without control characters; NOT_PROVIDED when absent or empty."""
    if value is None:
        return NOT_PROVIDED
    if type(value) is not str:
        raise Refused("WRONG_TYPE")
    if len(value) > MAX_TEXT:
        raise Refused("TOO_LARGE")
    if not (value.isascii() and value.isprintable()):
        value = _normalised(value)
    return value.strip() or NOT_PROVIDED


def name(value: Any) -> str:
    """Text that names a person: as `text`, but a control character in it becomes one space.

    Forms take a pasted tab or line break into a name. It says nothing there, and must not cost a person who has paid.
    """
    if type(value) is str and not value.isprintable():
        value = CONTROLS.sub(" ", value)
    return text(value)


def required_text(value: Any) -> str:
    """Text that must be there."""
    if value is None:
        raise Refused("MISSING_FIELD")
    found = text(value)
    if found == NOT_PROVIDED:
        raise Refused("MISSING_FIELD")
    return found


def identifier(value: Any) -> str:
    """A vendor's id: text, or an integer that fits 64 bits, as text of at most 200 characters."""
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            raise Refused("INT_OUT_OF_RANGE")
        return str(value)
    if type(value) is float:
        raise Refused("WRONG_TYPE")
    found = required_text(value)
    if len(found) > 200:
        raise Refused("TOO_LARGE")
    return found


def _normalised(value: str) -> str:
    normal = unicodedata.normalize("NFC", value)
    refused = REFUSED_CHARACTER.search(normal)
    if refused is not None:
        raise Refused("LONE_SURROGATE" if "\ud800" <= refused.group() <= "\udfff" else "CONTROL_CHARACTER")
    return normal


def email(value: Any) -> str:
    """An address, trimmed and lower-cased; NOT_PROVIDED when absent."""
    if value is None:
        return NOT_PROVIDED
    if type(value) is not str:
        raise Refused("WRONG_TYPE")
    if len(value) > 1000:
        raise Refused("TOO_LARGE")
    address = value.strip().lower()
    if not address:
        return NOT_PROVIDED
    if is_plain_email(address):
        return address
    from email_validator import validate_email  # on its first use: importing it takes longer than most sessions' checks

    try:
        return validate_email(address, check_deliverability=False).normalized.lower()
    except (ValueError, UnicodeError):  # EmailNotValidError is a ValueError
        raise Refused("INVALID_EMAIL") from None


def is_plain_email(address: str) -> bool:
    """Whether a trimmed, lower-cased address is valid beyond doubt."""
    return "--" not in address and PLAIN_EMAIL.match(address) is not None


def language(value: Any) -> str:
    """A BCP 47 tag as given; `und` when absent or empty."""
    found = text(value)
    return UNDETERMINED if found == NOT_PROVIDED else found


def instant(value: Any) -> datetime:
    """A required aware instant in UTC, from ISO 8601 text."""
    if value is None or value == "":
        raise Refused("MISSING_FIELD")
    if type(value) is not str:
        raise Refused("WRONG_TYPE")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Refused("INVALID_TIMESTAMP") from None
    if moment.tzinfo is None:
        raise Refused("NAIVE_TIMESTAMP")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise Refused("TIMESTAMP_OUT_OF_RANGE") from None
    if not EARLIEST <= moment <= LATEST:
        raise Refused("TIMESTAMP_OUT_OF_RANGE")
    return moment


def epoch_instant(value: Any) -> datetime:
    """A required instant from Unix seconds, or milliseconds where seconds would be beyond the year 5000."""
    if value is None:
        raise Refused("MISSING_FIELD")
    if type(value) not in (int, float):
        raise Refused("WRONG_TYPE")
    try:
        moment = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        raise Refused("INVALID_TIMESTAMP") from None
    if not EARLIEST <= moment <= LATEST:
        raise Refused("TIMESTAMP_OUT_OF_RANGE")
    return moment


def amount(value: Any) -> Decimal:
    """A decimal string, or an integer, as an exact amount; 0 when absent. A float is refused: it was never exact."""
    if value is None:
        return Decimal(0)
    if type(value) is int:
        found = Decimal(value)
    elif type(value) is str:
        digits = value.strip()
        if len(value) > 40 or not DECIMAL(digits):
            raise Refused("INVALID_MONEY")
        try:
            found = Decimal(digits)
        except InvalidOperation:  # an exponent of thirty digits
            raise Refused("INVALID_MONEY") from None
    else:
        raise Refused("WRONG_TYPE")
    return bounded(found)


def bounded(found: Decimal) -> Decimal:
    """An exact amount within reason, in plain notation. It may be negative: discounts and corrections are sold as such.

    A zero, too, has places, which Postgres counts: of nothing with twenty thousand of them it makes an error.
    """
    exponent = found.as_tuple().exponent
    if not isinstance(exponent, int) or abs(exponent) > MAX_EXPONENT or abs(found) > MAX_AMOUNT:
        raise Refused("INVALID_MONEY")
    if exponent < -4 and found != round(found, 4):
        raise Refused("INVALID_MONEY")
    if exponent > 0 or (exponent < -4 and not found):
        found = found.quantize(Decimal(1))
    return found if found else found.copy_abs()  # nothing is written in one way


def minor_units(value: Any, currency_code: str) -> Decimal:
    """An amount in the currency's smallest unit (cents; whole yen). No vendor that counts so has negative ones."""
    if type(value) is not int:
        raise Refused("WRONG_TYPE")
    if value < 0:
        raise Refused("INVALID_MONEY")
    return bounded(Decimal(value).scaleb(-EXPONENTS.get(currency_code, 2)))


def currency(value: Any) -> str:
    """An ISO 4217 code; XXX when absent."""
    if value is None or value == "":
        return NO_CURRENCY
    if type(value) is not str:
        raise Refused("WRONG_TYPE")
    if value not in CURRENCIES:
        raise Refused("UNKNOWN_CURRENCY")
    return value


def flag(value: Any) -> bool:
    """True or false; false when absent."""
    if value is None:
        return False
    if type(value) is not bool:
        raise Refused("WRONG_TYPE")
    return value


def quantity(value: Any) -> int:
    """A count from 0 to 100,000; 1 when absent."""
    if value is None:
        return 1
    if type(value) is not int:
        raise Refused("WRONG_TYPE")
    if not 0 <= value <= 100_000:
        raise Refused("OUT_OF_RANGE")
    return value


def member(value: Any, path: str) -> Mapping[str, Any]:
    """A nested object, empty when absent. Raises Refused when it is something else."""
    if value is None:
        return {}
    if type(value) is not dict:
        raise Refused("WRONG_TYPE", path)
    return value


def members(value: Any, path: str) -> list[Mapping[str, Any]]:
    """A list of objects, empty when absent."""
    if value is None:
        return []
    if type(value) is not list or not all(type(item) is dict for item in value):
        raise Refused("WRONG_TYPE", path)
    return value


def at(path: str, check: Callable[..., Any], *values: Any) -> Any:
    """Run a check whose refusal shall name the vendor's path."""
    try:
        return check(*values)
    except Refused as refused:
        raise Refused(refused.code, path) from None
