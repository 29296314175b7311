"""What a vendor sent beyond the canonical fields, as the text of a jsonb value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import orjson

from sync_pipeline.contracts.fields import Refused

MAX_BYTES = 1_000_000
MAX_NAME = 100
"""Longer names of fields, and unprintable ones, are not shown: they may be anything."""

UNNAMED = "metadata"
"""Stands for a field whose name is not shown."""

NUL_ESCAPE = b"\\u0000"
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000").search
"""U+0000 in JSON. An even number of backslashes before the `u` is text about it, not the character."""


def metadata_of(rest: Mapping[str, Any]) -> str:
    """JSON of `rest`, keys sorted.

    Free text is kept as it is: only what jsonb cannot hold is refused (PostgreSQL manual, "JSON Types": U+0000). Raises
    Refused with the name of the vendor's field.
    """
    dumped = _dumped(rest)
    if dumped is None:
        raise Refused("INT_OUT_OF_RANGE", _field(rest, lambda value: _dumped(value) is None))
    if len(dumped) > MAX_BYTES:
        raise Refused("TOO_LARGE", _name(max(rest, key=lambda name: len(_dumped(rest[name]) or b""))))
    if NUL_ESCAPE in dumped and NUL(dumped):
        raise Refused("CONTROL_CHARACTER", _field(rest, lambda value: NUL(_dumped(value) or b"") is not None))
    return dumped.decode()


def metadata_documents(rests: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
    """The same for many records, in UTF-8, None where one is refused."""
    try:
        dumped: list[bytes | None] = [orjson.dumps(rest, None, orjson.OPT_SORT_KEYS) for rest in rests]
    except TypeError:
        return [_or_none(rest) for rest in rests]
    texts = cast(list[bytes], dumped)
    if max(map(len, texts), default=0) > MAX_BYTES or NUL_ESCAPE in b"".join(texts):
        return [_or_none(rest) for rest in rests]
    return dumped


def _or_none(rest: Mapping[str, Any]) -> bytes | None:
    try:
        return metadata_of(rest).encode()
    except Refused:
        return None


def _dumped(value: Any) -> bytes | None:
    """None for what orjson cannot write: an integer beyond 64 bits."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return None


def _field(rest: Mapping[str, Any], is_wrong: Callable[[Any], bool]) -> str:
    """The first field whose value is wrong; if none is, a field's name is."""
    return next((_name(name) for name, value in rest.items() if is_wrong(value)), UNNAMED)


def _name(name: str) -> str:
    return name if name.isprintable() and len(name) <= MAX_NAME else UNNAMED
