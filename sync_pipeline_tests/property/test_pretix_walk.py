"""The walk of pretix's orders against a list in memory that is changed between its pages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from sync_pipeline.kernel.errors import CursorExpired
from sync_pipeline.kernel.feed import Cursor, Reply, Request
from sync_pipeline.polling import cursors
from sync_pipeline.vendors import keyset
from sync_pipeline.vendors.pretix import PretixApi, PretixOrders

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Move = tuple[str, int]
"""What happens, and to which of the orders there are then: delete, touch (it is modified now), create."""


@dataclass
class Organizer:
    """Orders by number: their instants of creation and of modification, in seconds. A list as pretix 2026.8 gives it."""

    orders: dict[int, tuple[int, int]]
    moves: dict[int, list[Move]]
    served: int = 0
    changed: set[int] = field(default_factory=set)

    def answer(self, request: Request) -> Reply:
        for kind, which in self.moves.get(self.served, ()):
            self._happen(kind, which)
        self.served += 1
        asked = dict(request.params)
        since = datetime.fromisoformat(asked["modified_since"]) if "modified_since" in asked else None
        by = 1 if asked.get("ordering") == "last_modified" else 0
        rows = sorted(
            ((instants, -number) for number, instants in self.orders.items()), key=lambda row: (row[0][by], row[1])
        )
        shown = [(-number, at[1]) for at, number in rows if since is None or _at(at[1]) >= since]
        size, page = min(50, int(asked["page_size"])), int(asked["page"])
        part = shown[(page - 1) * size : page * size]
        if not part and page > 1:
            return _reply({"detail": "Invalid page."}, 404)
        results = [{"event": "e", "code": str(number), "last_modified": _at(at).isoformat()} for number, at in part]
        link = f"http://x/?page={page + 1}" if page * size < len(shown) else None
        return _reply({"count": len(shown), "next": link, "results": results})

    def _happen(self, kind: str, which: int) -> None:
        now = 10_000 + self.served
        if kind == "create":
            self.orders[len(self.orders) + 100_000 + which] = (now, now)
        elif self.orders:
            number = sorted(self.orders)[which % len(self.orders)]
            self.changed.add(number)
            created, _ = self.orders.pop(number)
            if kind == "touch":
                self.orders[number] = (created, now)


def _at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


def _reply(body: object, status: int = 200) -> Reply:
    at = NOW + timedelta(days=2)
    return Reply(status, {"x-page-generated": at.isoformat()}, orjson.dumps(body), at, at)


def walk(vendor: Organizer, page_size: int) -> tuple[set[int], Cursor]:
    """The numbers of all orders that one window shows."""
    feed, api = PretixOrders("o", page_size=page_size), PretixApi()
    cursor = cursors.open_window(Cursor(), now=NOW, overlap=feed.overlap)
    seen: set[int] = set()
    for _ in range(1000):
        request = feed.request(cursor)
        reply = vendor.answer(request)
        assert api.classify(request, reply) is None
        try:
            read = feed.read(cursor, reply)
        except CursorExpired:
            cursor = cursors.from_start(cursor)
            continue
        seen |= {int(record.value["code"]) for record in read.records.get("orders", ())}
        cursor, drained = cursors.after_page(cursor, read)
        if drained:
            return seen, cursor
    raise AssertionError("the walk does not end")


moves = st.dictionaries(
    st.integers(1, 8),
    st.lists(st.tuples(st.sampled_from(["delete", "touch", "create"]), st.integers(0, 200)), max_size=6),
    max_size=6,
)


@given(
    stamps=st.lists(st.one_of(st.integers(0, 12), st.integers(5, 7), st.integers(0, 500)), min_size=1, max_size=160),
    tie=st.integers(0, 120),
    moves=moves,
    page_size=st.sampled_from([1, 2, 7, 49, 50]),
)
@example(stamps=list(range(60)), tie=0, moves={1: [("delete", 3)]}, page_size=50)
@example(stamps=[5], tie=120, moves={2: [("delete", 119), ("create", 0)]}, page_size=50)
def test_what_exists_all_the_time_is_listed(
    stamps: list[int], tie: int, moves: dict[int, list[Move]], page_size: int
) -> None:
    orders = {number: (number, stamp) for number, stamp in enumerate([*stamps, *[6] * tie])}
    vendor = Organizer(dict(orders), moves)
    seen, _ = walk(vendor, page_size)
    assert set(orders) & set(vendor.orders) <= seen


@given(st.lists(st.integers(0, 400), min_size=1, max_size=160), st.sampled_from([7, 50]))
def test_a_still_list_costs_a_row_a_page_more(stamps: list[int], page_size: int) -> None:
    vendor = Organizer({number: (number, stamp) for number, stamp in enumerate(sorted(set(stamps)))}, {})
    walk(vendor, page_size)
    assert vendor.served <= max(1, -(-(len(vendor.orders) - 1) // (page_size - 1)))


@given(st.integers(1, 3_000_000))
def test_pages_of_ties_overlap_and_lead_on(seen: int) -> None:
    number, size = keyset.overlapping(seen)
    assert size <= keyset.WIDEST
    assert (number - 1) * size < seen < number * size


def test_ties_that_never_stand_still_are_given_up() -> None:
    order = {"event": "e", "code": "x", "last_modified": NOW.isoformat()}
    rows = keyset.rows_of([], ("event", "code"), "last_modified")
    assert rows == []
    cursor = Cursor(opened_at=NOW, last_key=NOW.isoformat(), position=50, token="tie:0:e/gone/2026")
    for _ in range(keyset.RESTARTS):
        following = keyset.after(cursor, [keyset.Row("e/x", order["last_modified"])], more=True, now=NOW)
        assert following is not None
        assert following.position == 0
        counted = (following.token or "").split(":")[1]
        cursor = Cursor(opened_at=NOW, last_key=cursor.last_key, position=50, token=f"tie:{counted}:e/gone/2026")
    try:
        keyset.after(cursor, [], more=True, now=NOW)
    except CursorExpired:
        return
    raise AssertionError("counted for ever")
