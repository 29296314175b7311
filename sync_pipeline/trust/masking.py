"""Masking: what identifies a person or opens a door is replaced before a log line is written.

Pure functions over values. Two things decide: the field's name (everything under `email` or `token` goes), and the shape
of the text (an e-mail address is found in any message). When in doubt, mask: a log line must never be a copy of a record.
"""

from __future__ import annotations

import dataclasses
import json
import re
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date, time, timedelta, tzinfo
from enum import Enum
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

from sync_pipeline.trust.values import Secret

MASKED = "[masked]"

# fmt: off
PERSONAL = frozenset({
    "email", "attendee_email", "invoice_email", "first_name", "last_name", "given_name", "family_name",
    "full_name", "name", "name_parts", "attendee_name", "attendee_name_parts", "attendee_name_cached", "phone",
    "cell_phone", "home_phone", "work_phone", "phone_number", "address", "address_1", "address_2", "addresses",
    "street", "city", "zipcode", "zip", "postal_code", "company", "job_title", "vat_id", "invoice_address",
    "answers", "answer", "birth_date", "birthday", "age", "gender", "blog", "website", "profile", "barcodes",
    "barcode", "ip_address", "user_agent",
})
# fmt: on
"""Field names whose value belongs to a person, at Eventbrite, pretix and in the canonical tables."""

# fmt: off
SECRET = frozenset({
    "authorization", "proxy_authorization", "cookie", "set_cookie", "password", "passwd", "secret",
    "client_secret", "token", "access_token", "refresh_token", "id_token", "auth_token", "api_key", "apikey",
    "x_api_key", "key_id", "private_key", "signature", "continuation", "credential", "credentials",
})
# fmt: on
"""Field names whose value opens something. `continuation` is a vendor's paging token: it encodes query and position."""

DEEPEST = 40
"""Levels of nesting that are followed; what lies deeper is masked whole."""

SHORTEST_SECRET = 6
"""A registered value shorter than this is no secret, and masking it would shred every line."""

_LONG_NUMBER = 10**8


def _alternatives(names: Iterable[str]) -> str:
    return "|".join(name.replace("_", "[_-]?") for name in sorted(names, key=lambda name: (-len(name), name)))


_VALUE = (
    r"(?:(?P<{q}>\\*[\"']).*?(?<!\\)(?P={q})"  # quoted, however often the text was escaped
    r"|[^\s,;&)\]}}\"'<>({{\[]*[({{\[<\"'\\][^\n]*"  # a container, an object, a quote that never closes: the whole line
    r"|[^\s,;&)\]}}\"'<>]+)"
)

_CREDENTIALS = re.compile(
    r"(?i)(?P<keep>authorization\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:[a-z]+\s+)?[^\s\"',;}\\]+"
    r"|(?P<scheme>\b(?:bearer|basic)\s+)[^\s\"',;}\\]+"
    r"|(?P<vendor>\btoken\s+)(?=\S*\d|\S{16})[^\s\"',;}\\]+"
    r"|(?P<url>://)[^\s/@\"':]{0,256}:[^\s@\"']{0,256}(?=@)"
)
"""Authorization headers, bearer/basic/token schemes anywhere, user and password of a URL."""

_HIDDEN_NAMES = _alternatives(PERSONAL | SECRET)
_NAMED = re.compile(
    rf"(?P<quote>\\*[\"'])(?:{_HIDDEN_NAMES})(?P=quote)\s*:\s*{_VALUE.format(q='a')}"
    rf"|(?<![a-z0-9])(?:{_HIDDEN_NAMES})={_VALUE.format(q='b')}",
    re.IGNORECASE,
)
"""`"email": …` of a printed dict, `email='…'` of a printed object, `token=…` of a URL."""

_ADDRESS = re.compile(r"[^\s@<>\"(),:;\[\]\\]{1,256}(?:@|%40)[^\s@<>\"'(),:;\[\]\\/?#&]{1,256}", re.IGNORECASE)

_DIGITS = re.compile(
    r"(?P<keep>"
    r"(?<![0-9a-z-])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-z-])"
    r"|(?<![0-9a-z])(?=[0-9]*[a-f])[0-9a-f]{16,}(?![0-9a-z])"
    r"|(?<!\d)(?<!\d[-. ])(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?!\d)(?![-.]\d)"
    r"(?:[T ][0-2]\d:[0-5]\d(?::[0-6]\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?)?"
    r"|(?<![\d.])\d{1,8}\.\d{1,17}(?![\d.])"
    r")|\d(?:[ .()\-/]{0,3}\d){8,}",
    re.IGNORECASE,
)
"""Nine digits or more, with a phone's or card's separators. Kept: UUIDs, hex digests, ISO timestamps, decimal numbers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Masker:
    """Masks values and texts. `secrets`: values that must never appear, whatever their shape."""

    secrets: Collection[str] = ()

    def text(self, text: str) -> str:
        """`text` without secrets, credentials, named personal values, e-mail addresses and long numbers."""
        if not text.isprintable():  # lone surrogates and NUL can be neither encoded nor stored
            text = text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
        for form in _forms(frozenset(self.secrets)):
            if form in text:
                text = text.replace(form, MASKED)
        text = _CREDENTIALS.sub(_keep_start, text)
        if "=" in text or ":" in text:
            text = _NAMED.sub(_keep_name, text)
        if "@" in text or "%40" in text:
            text = _ADDRESS.sub(MASKED, text)
        return _DIGITS.sub(lambda found: found["keep"] or MASKED, text)

    def event(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """A log event's fields, masked. The result holds only JSON's types, tuples and instants."""
        masked: dict[str, Any] = self._mapping(event, ())
        return masked

    def value(self, value: Any) -> Any:
        """Any value, masked: containers stay containers, what is not plain data becomes masked text."""
        return self._value(value, ())

    def _value(self, value: Any, path: tuple[int, ...]) -> Any:
        if value is None or isinstance(value, bool):
            return value
        for kind, mask in self._plain():
            if isinstance(value, kind):
                return mask(value)
        if id(value) in path or len(path) >= DEEPEST:
            return MASKED
        path = (*path, id(value))
        if isinstance(value, Mapping):
            return self._mapping(value, path)
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", None)
            if fields is not None:
                return self._mapping(dict(zip(fields, value, strict=False)), path)
            return tuple(self._value(item, path) for item in value)
        if isinstance(value, list | set | frozenset):
            return [self._value(item, path) for item in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return self._mapping({name: getattr(value, name, None) for name in names}, path)
        return self._other(value)

    def _plain(self) -> tuple[tuple[Any, Callable[[Any], Any]], ...]:
        return (
            (str, lambda value: self.text(str(value))),
            (int, lambda value: MASKED if abs(value) >= _LONG_NUMBER else int(value)),
            (float, lambda value: MASKED if value.is_integer() and abs(value) >= _LONG_NUMBER else float(value)),
            (bytes | bytearray | memoryview, lambda value: self.text(bytes(value).decode("utf-8", "backslashreplace"))),
            ((date, time, timedelta, tzinfo, UUID), str),
            (Secret, repr),
            (Enum, lambda value: self.value(value.value)),
            (BaseException, self.exception),
            (TracebackType, lambda value: self.text("".join(traceback.format_tb(value)))),
        )

    def _mapping(self, mapping: Mapping[Any, Any], path: tuple[int, ...]) -> dict[Any, Any]:
        masked: dict[Any, Any] = {}
        for key, value in mapping.items():
            name = key if isinstance(key, str) else self._key(key, path)
            hidden = _plain_name(name) in _HIDDEN and value is not None
            masked[self.text(name)] = MASKED if hidden else self._value(value, path)
        return masked

    def _key(self, key: Any, path: tuple[int, ...]) -> str:
        return str(self._value(key, path))

    def exception(self, error: BaseException) -> str:
        """Type and masked text of an exception; its causes and members are in the traceback."""
        return f"{type(error).__name__}: {self._other(error, str)}"

    def _other(self, value: Any, show: Callable[[Any], str] = repr) -> str:
        try:
            return self.text(show(value))
        except Exception:  # a foreign __repr__ may do anything, and a log call must not fail for it
            return f"<{type(value).__name__}>"


def mask(value: Any, *, secrets: Collection[str] = ()) -> Any:
    """`Masker(secrets).value(value)`."""
    return Masker(secrets).value(value)


def mask_text(text: str, *, secrets: Collection[str] = ()) -> str:
    """`Masker(secrets).text(text)`."""
    return Masker(secrets).text(text)


def _plain_name(name: str) -> str:
    return name.strip().lower().replace("-", "").replace("_", "")


_HIDDEN = frozenset(_plain_name(name) for name in PERSONAL | SECRET)


def _keep_start(found: re.Match[str]) -> str:
    return (found["keep"] or found["scheme"] or found["vendor"] or found["url"] or "") + MASKED


def _keep_name(found: re.Match[str]) -> str:
    name = re.match(r"[^:=]*[:=]\s*", found[0])
    return (name[0] if name else "") + MASKED


@lru_cache(maxsize=4)
def _forms(secrets: frozenset[str]) -> list[str]:
    """Each secret as it may appear: plain, in a URL, in JSON, in a Python repr. Longest first: one may hold another."""
    forms = set()
    for secret in secrets:
        if len(secret) >= SHORTEST_SECRET:
            forms |= {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
            forms |= {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    return sorted(forms, key=len, reverse=True)
