"""Which version of a record stands when a group of pages shows it more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from sync_pipeline.kernel.canonical import Canonical

VENDOR_ID = attrgetter("vendor_id")
Shown = tuple[int, Sequence[Canonical]]
"""A page's id and its valid records."""


@dataclass(frozen=True, slots=True)
class Newest:
    """`standing`: each vendor id once. `outdone`: by page id, the outcomes of the versions that do not stand."""

    standing: Sequence[Shown]
    outdone: Mapping[int, Counter[str]] = field(default_factory=dict)


class _Showing(NamedTuple):
    modified_at: str
    page: int
    place: int
    record: Canonical
    page_id: int


def newest_of(pages: Sequence[Shown]) -> Newest:
    """The version with the latest modification stands; among equals the later one. `pages`: in the order they were shown in.

    Another version is `unchanged` when it has the stamp and the content of the one that stands, else `superseded`.
    """
    ids = set[str]().union(*(map(VENDOR_ID, records) for _, records in pages))
    if len(ids) == sum(len(records) for _, records in pages):
        return Newest(pages)
    showings = [
        _Showing(record.modified_at, page, place, record, page_id)
        for page, (page_id, records) in enumerate(pages)
        for place, record in enumerate(records)
    ]
    best: dict[str, _Showing] = {}
    for showing in sorted(showings, key=lambda one: one[:3]):
        best[showing.record.vendor_id] = showing
    outdone: dict[int, Counter[str]] = {}
    standing: dict[int, list[Canonical]] = {page_id: [] for page_id, _ in pages}
    for showing in showings:
        record, stands = showing.record, best[showing.record.vendor_id]
        if stands is showing:
            standing[showing.page_id].append(record)
            continue
        same = (record.modified_at, record.content_hash) == (stands.modified_at, stands.record.content_hash)
        outdone.setdefault(showing.page_id, Counter())["unchanged" if same else "superseded"] += 1
    return Newest(list(standing.items()), outdone)
