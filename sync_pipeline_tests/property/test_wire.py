"""Pages taken apart: the fast path loses nothing, and one bad record costs only itself."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.kernel import wire
from sync_pipeline.kernel.wire import NotThisShape, parse_record, raw_bytes, split_page

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(st.characters(exclude_categories=("Cs",)), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab":\\{}[], é', max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
records = st.lists(values, max_size=6)


def page(items: list[Any], indent: int | None, ascii_only: bool) -> bytes:
    document = {"pagination": {"data": "no", "n": [1, {"data": []}]}, "data": items, "after": [1]}
    return json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()


@given(items=records, indent=st.sampled_from([None, 0, 3]), ascii_only=st.booleans())
def test_both_paths_read_the_same(items: list[Any], indent: int | None, ascii_only: bool) -> None:
    body = page(items, indent, ascii_only)
    envelope, found = split_page(body, ("data",))
    slow_envelope, slow = wire._slowly(body, ("data",))
    assert [record.value for record in found] == items
    assert [record.value for record in slow] == items
    assert envelope == slow_envelope == {**json.loads(body), "data": []}
    assert all(json.loads(raw_bytes(record)) == record.value for record in (*found, *slow))


@given(items=records, indent=st.sampled_from([None, 2]))
def test_a_bare_array_and_a_nested_one(items: list[Any], indent: int | None) -> None:
    assert [r.value for r in split_page(json.dumps(items, indent=indent).encode(), ())[1]] == items
    nested = json.dumps({"data": 1, "a": {"b": {"data": items}}}, indent=indent).encode()
    assert [r.value for r in split_page(nested, ("a", "b", "data"))[1]] == items
    assert [r.value for r in wire._slowly(nested, ("a", "b", "data"))[1]] == items


BAD = {
    b'{"a": 1, "a": 2}': "DUPLICATE_KEY",
    b'{"a": {"b": 1, "b": 1}}': "DUPLICATE_KEY",
    b'{"a": NaN}': "NOT_A_NUMBER",
    b'{"a": -Infinity}': "NOT_A_NUMBER",
    b'{"a": 1e400}': "NOT_A_NUMBER",
    b'{"a": [-1.5E+0309]}': "NOT_A_NUMBER",
    b'{"a": ' + b"9" * 309 + b".0}": "NOT_A_NUMBER",
    b'{"a" : 1, "a": 2}': "DUPLICATE_KEY",
    rb'{"a": 1, "a": "\u003a"}': "DUPLICATE_KEY",
    rb'{"a": 1, "a": "\"\u003A"}': "DUPLICATE_KEY",
    rb'{"a": "\ud800"}': "LONE_SURROGATE",
    b'{"a": "\xff"}': "INVALID_UTF8",
    b'{"a": 1' + b"0" * 30 + b"}": "INT_OUT_OF_RANGE",
    b'{"a": ' + b"[" * 2000 + b"]" * 2000 + b"}": "TOO_DEEP",
    b'{"a": "' + b"x" * 9_000_000 + b'"}': "TOO_LARGE",
    b'{"a": tru}': "INVALID_JSON",
    b'{"a": "\x01"}': "INVALID_JSON",
}


@pytest.mark.parametrize("bad", BAD, ids=[f"{code}-{number}" for number, code in enumerate(BAD.values())])
def test_one_bad_record_costs_only_itself(bad: bytes) -> None:
    neighbours = [b'{"id": 1, "t": "}],[{"}', b'{"id": 2}']
    body = b'{"page": 1, "data": [' + neighbours[0] + b" , " + bad + b",\n" + neighbours[1] + b'], "more": true}'
    envelope, found = split_page(body, ("data",))
    assert envelope == {"page": 1, "data": [], "more": True}
    assert [record.fault for record in found] == [None, BAD[bad], None]
    assert [record.raw for record in found] == [neighbours[0], bad, neighbours[1]]
    assert parse_record(bad).fault == BAD[bad]


def spelled(character: str) -> st.SearchStrategy[str]:
    """A character in the ways that JSON lets one write it."""
    code = f"{ord(character):04x}"
    short = {'"': [r"\""], "\\": [r"\\"], "\n": [r"\n"]}.get(character, [character])
    return st.sampled_from([*short, rf"\u{code}", rf"\u{code.upper()}"])


TEXTS = st.lists(st.sampled_from('a":\\ \n').flatmap(spelled), max_size=3).map(lambda parts: f'"{"".join(parts)}"')
SPACE = st.sampled_from(["", "", " ", "\n\t"])
EDGES = (-(2**63) - 1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1, 2**64)
NUMBERS = st.sampled_from(["1", "-0", "1e3", "1.5E+2", "1e400", "-1E0309", "null", "true", *map(str, EDGES)])
MEMBERS = st.builds("{}{}:{}{}".format, TEXTS, SPACE, SPACE, st.one_of(TEXTS, NUMBERS))
OBJECTS = st.lists(MEMBERS, max_size=3).map(lambda members: f"{{{','.join(members)}}}")
DOCUMENTS = st.lists(st.one_of(OBJECTS, TEXTS, NUMBERS), max_size=3).map(lambda parts: f"[{','.join(parts)}]".encode())


@settings(max_examples=500)
@given(DOCUMENTS)
def test_what_is_read_at_once_is_what_is_read_strictly(body: bytes) -> None:
    """Else a page that loses something passes. Where nothing is lost it is read at once, but for what is rare anyway: quotes
    spelled by number, and long integers."""
    at_once = wire._whole(body)
    strictly = parse_record(body)
    if at_once is not None:
        assert (strictly.fault, strictly.value) == (None, at_once)
    elif strictly.fault is None:
        assert re.search(rb"u0022|\d{19}", body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>sorry</html>",
        b"[]",
        b"{}",
        b'{"data": 1}',
        b'{"data": [1, 2',
        b'{"data": [{"a": 1}',
        b"null",
        b"{]",
    ],
)
def test_what_is_no_page_is_refused(body: bytes) -> None:
    with pytest.raises(NotThisShape):
        split_page(body, ("data",))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_page_or_refused(body: bytes) -> None:
    with contextlib.suppress(NotThisShape):
        split_page(body, ("data",))
