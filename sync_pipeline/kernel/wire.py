"""JSON pages taken apart so that one bad record costs only itself.

The fast path parses the whole body at once and is taken only when that loses nothing: the parser in use keeps the last of
duplicate keys and turns integers beyond 64 bit into floats without a word, so a page that might hold either goes the slow
path. The slow path finds the bytes of each record without recursion and parses each alone, strictly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from typing import Any

import orjson

from sync_pipeline.kernel.feed import RawRecord

MAX_DEPTH = 64
MAX_RECORD_BYTES = 1_000_000
TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
ZEROS = bytes(ord("0") if chr(byte).isdigit() else byte for byte in range(128)) + bytes(range(128, 256))
LONG_NUMBER = b"0" * 19
"""19 digits may not fit 64 bits."""

BARE_LONG_NUMBER = re.compile(rb"[\[:,]\s*-?\d{19}")
"""The same outside quotes; looked for only when the cheap test found digits."""

LARGE_PAGE = 8_000_000
"""Bytes above which a page is taken apart record by record, so that the limit on a record holds."""

QUOTE = b'"'
LONE = re.compile("[\ud800-\udfff]")


class NotThisShape(ValueError):
    """The body is not JSON, or the records are not where they belong. The text names the reason, no content."""


class _Fault(ValueError):
    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def split_page(body: bytes, records_path: tuple[str, ...]) -> tuple[dict[str, Any], list[RawRecord]]:
    """The envelope (its records emptied) and the records. `records_path` () means that the body is the array itself.

    Raises NotThisShape.
    """
    document = _whole(body)
    if document is None:
        return _slowly(body, records_path)
    if not records_path:
        if not isinstance(document, list):
            raise NotThisShape("the answer is not a JSON array")
        return {}, RawRecord.many(document)
    if not isinstance(document, dict):
        raise NotThisShape("the answer is not a JSON object")
    holder = document
    for name in records_path[:-1]:
        holder = holder.get(name)  # type: ignore[assignment]
        if not isinstance(holder, dict):
            raise NotThisShape(f"the answer has no object at {'.'.join(records_path[:-1])}")
    values = holder.get(records_path[-1])
    if not isinstance(values, list):
        raise NotThisShape(f"the answer has no array at {'.'.join(records_path)}")
    holder[records_path[-1]] = []
    return document, RawRecord.many(values)


def parse_record(raw: bytes) -> RawRecord:
    """One record from its exact bytes, strictly."""
    try:
        return RawRecord(_strict(raw), raw=raw)
    except _Fault as fault:
        return RawRecord(None, fault=fault.code, raw=raw)


def raw_bytes(record: RawRecord) -> bytes:
    """The record's bytes: as the vendor sent them, or written again when the fast path did not keep them."""
    if record.raw is not None:
        return record.raw
    return orjson.dumps(record.value)


def reach(value: Any, parts: Sequence[str]) -> Any:
    """The value at a path of names in parsed JSON, None when it is not there."""
    for name in parts:
        if type(value) is not dict:
            return None
        value = value.get(name)
    return value


def _whole(body: bytes) -> Any:
    """The parsed body, or None when parsing it at once might lose something."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if len(body) > LARGE_PAGE:
        return None
    try:
        written = orjson.dumps(document)
    except TypeError:  # nested too deep to be written again
        return None
    if written == body:
        return document  # it comes out as it went in, so nothing was lost
    if b"\\" in body and b"\\u0022" in body:
        return None
    if LONG_NUMBER in body.translate(ZEROS) and BARE_LONG_NUMBER.search(body):
        return None
    # Each text is written with the quotes it came with (the other spelling went above): fewer means that a key was dropped.
    return document if written.count(QUOTE) == body.count(QUOTE) else None


def _slowly(body: bytes, records_path: tuple[str, ...]) -> tuple[dict[str, Any], list[RawRecord]]:
    start, spans, end = _spans(body, records_path)
    records = [parse_record(body[left:right]) for left, right in spans]
    if not records_path:
        return {}, records
    try:
        envelope = orjson.loads(body[:start] + body[end:])
    except orjson.JSONDecodeError:
        raise NotThisShape("the answer around its records is not JSON") from None
    return envelope, records


def _spans(body: bytes, path: tuple[str, ...]) -> tuple[int, list[tuple[int, int]], int]:
    """(just after `[`, the records' spans, at the closing `]`) of the array at `path`."""
    keys: list[bytes | None] = []
    wanted = tuple(orjson.dumps(name) for name in path)
    last_string: bytes | None = None
    inside: int | None = None
    start = 0
    left = 0
    spans: list[tuple[int, int]] = []
    stack: list[bytes] = []
    for token in TOKENS.finditer(body):
        text = token.group()
        if text[:1] == b'"':
            if inside is None:
                last_string = text
            continue
        if text == b",":
            if inside is not None and len(stack) == inside:
                spans.append((left, token.start()))
                left = token.end()
            continue
        if text in b"[{":
            at = tuple(key for key in keys if key is not None)
            stack.append(text)
            if inside is None and text == b"[":
                here = (*at, last_string) if path else ()
                if here == wanted and len(stack) == len(path) + 1:
                    inside, start, left = len(stack), token.end(), token.end()
            keys.append(last_string if inside is None else None)
            continue
        if not stack or (stack[-1] == b"[") != (text == b"]"):
            raise NotThisShape("the answer is not JSON: brackets do not match")
        if inside is not None and len(stack) == inside:
            if body[left : token.start()].strip() or spans:
                spans.append((left, token.start()))
            return start, [_trim(body, *span) for span in spans], token.start()
        stack.pop()
        keys.pop()
    raise NotThisShape(
        "the answer ends inside its records" if inside is not None else f"the answer has no array at {'.'.join(path)}"
    )


def _trim(body: bytes, left: int, right: int) -> tuple[int, int]:
    while left < right and body[left : left + 1].isspace():
        left += 1
    while right > left and body[right - 1 : right].isspace():
        right -= 1
    return left, right


def _strict(raw: bytes) -> Any:
    if len(raw) > MAX_RECORD_BYTES:
        raise _Fault("TOO_LARGE")
    if _depth(raw) > MAX_DEPTH:
        raise _Fault("TOO_DEEP")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _Fault("INVALID_UTF8") from None
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_fraction
        )
    except _Fault:
        raise
    except (ValueError, RecursionError):
        raise _Fault("INVALID_JSON") from None
    if "\\u" in text and LONE.search(json.dumps(value, ensure_ascii=False)):
        raise _Fault("LONE_SURROGATE")
    return value


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for token in TOKENS.finditer(raw):
        text = token.group()
        if text in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif text in b"]}":
            depth -= 1
    return deepest


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Fault("DUPLICATE_KEY")
    return made


def _constant(name: str) -> Any:
    raise _Fault("NOT_A_NUMBER")


def _fraction(digits: str) -> float:
    """JSON has no largest number, floats do: beyond it stands infinity, which would be written again as null."""
    value = float(digits)
    if math.isinf(value):
        raise _Fault("NOT_A_NUMBER")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise _Fault("INT_OUT_OF_RANGE")
    value = int(digits)
    if not -(2**63) <= value < 2**64:  # as the fast path: what 64 bits hold, with a sign or without
        raise _Fault("INT_OUT_OF_RANGE")
    return value
