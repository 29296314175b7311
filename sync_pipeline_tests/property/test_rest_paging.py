"""The `rest` vendor's paging kinds against a vendor in memory, whose list moves while it is walked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.kernel.errors import CursorExpired
from sync_pipeline.kernel.feed import Cursor, Reply, Request
from sync_pipeline.polling import cursors
from sync_pipeline.vendors.rest import Paging, RestFeed, RestFeedOptions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Change = Callable[[list[int]], None]


@dataclass
class Shop:
    """A list of ids, served in pages of `size` by whichever paging the request uses."""

    ids: list[int]
    size: int
    kind: str
    changes: dict[int, Change] = field(default_factory=dict)
    served: int = 0

    def answer(self, request: Request) -> Reply:
        self.changes.get(self.served, lambda ids: None)(self.ids)
        self.served += 1
        asked = dict(request.params)
        if request.path.startswith("/next/"):
            start = int(request.path.removeprefix("/next/"))
        elif self.kind == "page_number":
            start = (int(asked["p"]) - 1) * self.size
        elif self.kind == "keyset":
            start = sum(1 for number in self.ids if number <= int(asked.get("p", -1)))
        else:
            start = int(asked.get("p", 0))
        part = self.ids[start : start + self.size]
        more = start + self.size < len(self.ids)
        body: dict[str, Any] = {"data": [{"id": number} for number in part], "more": more}
        if self.kind in ("cursor", "continuation") and (more or self.kind == "continuation"):
            body["next"] = str(start + self.size)
        if self.kind == "next_link" and more:
            body["next"] = f"/next/{start + self.size}"
        return Reply(200, {}, orjson.dumps(body), NOW, NOW)


def feed(kind: str, size: int) -> RestFeed:
    paging = Paging(
        kind=kind,  # type: ignore[arg-type]
        param="p",
        token="next",
        has_more="more" if kind == "continuation" else None,
    )
    return RestFeed("things", RestFeedOptions(path="/things", paging=paging, page_size_param="n", page_size=size))


def walk(shop: Shop, restarts: int = 20) -> list[int]:
    api = feed(shop.kind, shop.size)
    cursor = cursors.open_window(Cursor(), now=NOW, overlap=api.overlap)
    seen: list[int] = []
    for _ in range(2000):
        try:
            read = api.read(cursor, shop.answer(api.request(cursor)))
        except CursorExpired:
            restarts -= 1
            assert restarts >= 0
            cursor = cursors.expired(cursor)
            continue
        seen += [record.value["id"] for record in read.records["things"]]
        cursor, drained = cursors.after_page(cursor, read, parts=1, page_received_at=NOW)
        if drained:
            return seen
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("kind", ["cursor", "next_link", "continuation", "page_number", "offset", "keyset"])
@given(length=st.integers(0, 25), size=st.integers(2, 7))
def test_a_still_list_is_seen_whole_and_once(kind: str, length: int, size: int) -> None:
    ids = list(range(10, 10 + length))
    assert walk(Shop(ids, size, kind)) == ids


@given(
    size=st.integers(2, 5),
    length=st.integers(1, 20),
    moves=st.dictionaries(st.integers(1, 6), st.tuples(st.booleans(), st.integers(0, 19)), max_size=3),
)
def test_offsets_lose_nothing_when_rows_move(size: int, length: int, moves: dict[int, tuple[bool, int]]) -> None:
    ids = list(range(100, 100 + length))
    gone: set[int] = set()

    def change(insert: bool, place: int) -> Change:
        def apply(rows: list[int]) -> None:
            at = place % (len(rows) + 1)
            if insert:
                rows.insert(at, 1000 + len(rows) * 31 + place)
            elif at < len(rows):
                gone.add(rows.pop(at))

        return apply

    seen = walk(Shop(list(ids), size, "offset", {page: change(*move) for page, move in moves.items()}))
    assert set(ids) - gone <= set(seen)
