"""Free text is kept to the last character; only U+0000 is not, which jsonb cannot hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.contracts.fields import Refused
from sync_pipeline.contracts.metadata import metadata_documents, metadata_of

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=10),
    st.text('\\u00"\x00\x0b\x1f\x85a', max_size=8),
    st.sampled_from(["\\u0000", "\\\\u0000", "\\\x00", "\\\\\x00", "C:\\u0041\\u00dir"]),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


def holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(holds_nul(name) or holds_nul(inner) for name, inner in value.items())
    return any(holds_nul(inner) for inner in value)


@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_all_but_nul_is_kept_as_it_is(rest: dict[str, Any]) -> None:
    if not holds_nul(rest):
        assert json.loads(metadata_of(rest)) == rest
        return
    with pytest.raises(Refused, match="CONTROL_CHARACTER") as caught:
        metadata_of(rest)
    guilty = {name for name, value in rest.items() if holds_nul(value)}
    assert caught.value.path in guilty | {"metadata"}
    if guilty and all(name.isprintable() for name in rest):
        assert caught.value.path in guilty


@given(st.lists(st.dictionaries(TEXT, st.one_of(VALUES, st.just(2**64), st.just("\ud800")), max_size=3), max_size=4))
def test_many_are_as_each_alone(rests: list[dict[str, Any]]) -> None:
    def alone(rest: dict[str, Any]) -> bytes | None:
        try:
            return metadata_of(rest).encode()
        except Refused:
            return None

    assert metadata_documents(rests) == [alone(rest) for rest in rests]


def test_an_integer_beyond_64_bits_is_named() -> None:
    with pytest.raises(Refused, match="INT_OUT_OF_RANGE") as caught:
        metadata_of({"comment": "x", "api_meta": [2**64]})
    assert caught.value.path == "api_meta"
