"""The `rest` vendor's paging kinds against a vendor in memory, whose list moves while it is walked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.kernel.errors import CursorExpired, PermanentError
from sync_pipeline.kernel.feed import Cursor, Reply, Request
from sync_pipeline.polling import cursors
from sync_pipeline.vendors.rest import RestApi, RestFeed
from sync_pipeline.vendors.rest_options import PAGING, Paging, RestFeedOptions

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Change = Callable[[list[int]], None]


@dataclass
class Shop:
    """A list of ids, served in pages of `size` by whichever paging the request uses. It gives pages of at most `cap`, leaves the
    id out of `nameless` records, and says 404 behind its last page where it is `strict`."""

    ids: list[int]
    size: int
    kind: str
    changes: dict[int, Change] = field(default_factory=dict)
    cap: int = 1000
    nameless: frozenset[int] = frozenset()
    strict: bool = False
    flagged: bool = False
    served: int = 0

    def answer(self, request: Request) -> Reply:
        self.changes.get(self.served, lambda ids: None)(self.ids)
        self.served += 1
        asked = dict(request.params)
        size = min(self.size, self.cap)
        if request.path.startswith("/next/"):
            start = int(request.path.removeprefix("/next/"))
        elif self.kind == "page_number":
            start = (int(asked["p"]) - 1) * size
        elif self.kind == "keyset":
            start = sum(1 for number in self.ids if number <= int(asked.get("p", -1)))
        else:
            start = int(asked.get("p", 0))
        part = self.ids[start : start + size]
        if self.strict and start and not part:
            return Reply(404, {}, b'{"detail":"Invalid page."}', NOW, NOW)
        more = start + size < len(self.ids)
        shown = [{"n": number} if number in self.nameless else {"n": number, "id": number} for number in part]
        body: dict[str, Any] = {"data": shown, "more": more}
        if self.kind in ("cursor", "continuation") and (more or self.kind == "continuation"):
            body["next"] = str(start + size)
        if self.kind == "next_link" and more:
            body["next"] = f"/next/{start + size}"
        return Reply(200, {}, orjson.dumps(body), NOW, NOW)


def paging_of(kind: str, **keys: Any) -> Paging:
    """Of the keys those that mean something to the kind."""
    return Paging.model_validate({"kind": kind} | {key: keys[key] for key in keys if key in PAGING[kind]})  # type: ignore[index]


def feed(kind: str, size: int, *, flagged: bool = False, has_more: str = "more", absent: bool = True) -> RestFeed:
    paging = paging_of(
        kind,
        param="p",
        token="next",
        has_more=has_more if kind == "continuation" or flagged else None,
        token_may_be_absent=absent,
    )
    return RestFeed("things", RestFeedOptions(path="/things", paging=paging, page_size_param="n", page_size=size))


API = RestApi(())


def walk(shop: Shop, restarts: int = 20, api: RestFeed | None = None) -> list[int]:
    api = api or feed(shop.kind, shop.size, flagged=shop.flagged)
    cursor = cursors.open_window(Cursor(), now=NOW, overlap=api.overlap)
    seen: list[int] = []
    for _ in range(2000):
        try:
            request = api.request(cursor)
            reply = shop.answer(request)
            if (error := API.classify(request, reply)) is not None:
                raise error
            read = api.read(cursor, reply)
        except CursorExpired:
            restarts -= 1
            assert restarts >= 0
            cursor = cursors.from_start(cursor)
            continue
        seen += [record.value["n"] for record in read.records.get("things", ())]
        cursor, drained = cursors.after_page(cursor, read)
        if drained:
            return seen
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("kind", ["cursor", "next_link", "continuation", "page_number", "offset", "keyset"])
@given(length=st.integers(0, 25), size=st.integers(2, 7))
def test_a_still_list_is_seen_whole_and_once(kind: str, length: int, size: int) -> None:
    ids = list(range(10, 10 + length))
    assert walk(Shop(ids, size, kind)) == ids


KINDS = ["cursor", "next_link", "continuation", "page_number", "offset", "keyset"]


@pytest.mark.parametrize("kind", KINDS)
@given(length=st.integers(0, 25), size=st.integers(4, 7), cap=st.integers(2, 3), flagged=st.booleans())
def test_a_vendor_may_give_smaller_pages_than_asked_for(
    kind: str, length: int, size: int, cap: int, flagged: bool
) -> None:
    ids = list(range(10, 10 + length))
    assert walk(Shop(ids, size, kind, cap=cap, flagged=flagged)) == ids


@pytest.mark.parametrize("kind", KINDS)
@given(length=st.integers(1, 25), size=st.integers(2, 7), data=st.data())
def test_a_record_without_a_key_costs_only_itself(kind: str, length: int, size: int, data: st.DataObject) -> None:
    ids = list(range(10, 10 + length))
    # By keyset a page without any key cannot be left: never two in a row here.
    nameless = frozenset(data.draw(st.lists(st.sampled_from(ids), unique=True)))
    nameless -= {number + 1 for number in nameless}
    assert set(walk(Shop(ids, size, kind, nameless=nameless))) == set(ids)


@given(length=st.integers(1, 6), size=st.integers(2, 3))
def test_what_lies_behind_a_page_without_any_key_is_not_given_up_in_silence(length: int, size: int) -> None:
    ids = list(range(10, 10 + size + length))
    with pytest.raises(PermanentError, match=r"paging\.key"):
        walk(Shop(ids, size, "keyset", nameless=frozenset(ids[:size])))


@given(length=st.integers(0, 25), size=st.integers(2, 7))
def test_a_vendor_may_say_404_behind_the_last_page(length: int, size: int) -> None:
    ids = list(range(10, 10 + length))
    assert walk(Shop(ids, size, "page_number", strict=True)) == ids


@pytest.mark.parametrize("kind", ["page_number", "offset", "keyset"])
@given(length=st.integers(3, 25), size=st.integers(2, 7))
def test_a_vendor_that_does_not_know_the_parameter_is_found_out(kind: str, length: int, size: int) -> None:
    class Deaf(Shop):
        def answer(self, request: Request) -> Reply:
            first = {"page_number": (("p", "1"),), "offset": (("p", "0"),), "keyset": ()}[kind]
            return super().answer(replace(request, params=first))

    ids = list(range(10, 10 + length))
    for nameless in (frozenset(), frozenset(ids)):
        shop = Deaf(ids, size, kind, nameless=nameless)
        if length < size and kind == "keyset" and nameless:
            assert set(walk(shop)) == set(ids), "one short page is the whole list, whatever was asked"
            continue
        with pytest.raises(PermanentError, match=r"paging\.key" if kind == "keyset" and nameless else r"paging\.param"):
            walk(shop)


@given(length=st.integers(1, 25), size=st.integers(2, 7), nameless=st.booleans())
def test_a_vendor_may_give_its_last_page_again(length: int, size: int, nameless: bool) -> None:
    ids = list(range(10, 10 + length))
    shop = Clamps(ids, size, "page_number", nameless=frozenset(ids) if nameless else frozenset())
    if length <= size:
        # Of one page alone nobody can tell, however short: it may be all that the vendor gives at once.
        with pytest.raises(PermanentError, match=r"paging\.param"):
            walk(shop)
    else:
        assert set(walk(shop)) == set(ids)


class Clamps(Shop):
    """Behind its last page it gives that one again."""

    def answer(self, request: Request) -> Reply:
        last = -(-len(self.ids) // self.size)
        asked = min(int(dict(request.params)["p"]), last)
        return super().answer(replace(request, params=(("p", str(asked)),)))


@given(length=st.integers(1, 25), size=st.integers(2, 7))
def test_a_vendor_may_give_the_record_of_the_last_key_again(length: int, size: int) -> None:
    class Inclusive(Shop):
        def answer(self, request: Request) -> Reply:
            asked = dict(request.params)
            before = {"p": str(int(asked["p"]) - 1)} if "p" in asked else {}
            return super().answer(replace(request, params=tuple(before.items())))

    ids = list(range(10, 10 + length))
    assert set(walk(Inclusive(ids, size, "keyset"))) == set(ids)


@pytest.mark.parametrize(("ties", "size", "found_out"), [(2, 3, False), (3, 3, True), (7, 3, True)])
def test_a_key_that_as_many_records_have_as_a_page_holds_leads_no_further(
    ties: int, size: int, found_out: bool
) -> None:
    class Stamped(Shop):
        """Keys are stamps, and it gives what is not before the one it is asked for."""

        def answer(self, request: Request) -> Reply:
            since = int(dict(request.params).get("p", 0))
            shown = [{"n": n, "id": min(n, self.ids[-ties])} for n in self.ids if min(n, self.ids[-ties]) >= since]
            return Reply(200, {}, orjson.dumps({"data": shown[: self.size]}), NOW, NOW)

    shop = Stamped(list(range(10)), size, "keyset")
    if found_out:
        with pytest.raises(PermanentError, match=r"paging\.key"):
            walk(shop)
    else:
        assert set(walk(shop)) == set(range(10))


@pytest.mark.parametrize("kind", ["page_number", "offset", "keyset"])
@given(length=st.integers(0, 25), size=st.integers(2, 7))
def test_where_it_is_said_that_a_short_page_ends_the_list_no_call_is_spent_on_it(
    kind: str, length: int, size: int
) -> None:
    ids = list(range(10, 10 + length))
    paging = Paging(kind=kind, param="p", short_page_ends=True)  # type: ignore[arg-type]
    options = RestFeedOptions(path="/things", paging=paging, page_size_param="n", page_size=size)
    shop = Shop(ids, size, kind, strict=True)
    if length % size or not length:
        assert walk(shop, api=RestFeed("things", options)) == ids
        assert shop.served == -(-length // size) + (length == 0) or kind == "offset"


@pytest.mark.parametrize("kind", ["cursor", "continuation", "next_link"])
@pytest.mark.parametrize("fresh", [False, True])
@given(length=st.integers(1, 9), size=st.integers(2, 4))
def test_a_token_that_leads_to_the_same_page_for_ever_is_found_out(
    kind: str, fresh: bool, length: int, size: int
) -> None:
    """The vendor does not know the parameter, or the link, and gives its first page to whatever is asked."""

    class Deaf(Shop):
        def answer(self, request: Request) -> Reply:
            del request
            self.served += 1
            shown = [{"n": number} for number in self.ids[: self.size]]
            token = str(self.served) if fresh else "t"
            return Reply(200, {}, orjson.dumps({"data": shown, "next": f"/next/{token}"}), NOW, NOW)

    shop = Deaf(list(range(length)), size, kind)
    if kind == "next_link" and not fresh and length < size:
        assert walk(shop) == [*range(length)] * 2, "a last page may link to itself"
        return
    named = "token" if kind == "next_link" else "param"
    with pytest.raises(PermanentError, match=rf"rest things: .* paging\.{named} in YAML, the window stays open"):
        walk(shop)
    assert shop.served <= (22 if fresh else 2)


@pytest.mark.parametrize(("kind", "named"), [("cursor", ", or set paging.short_page_ends,"), ("continuation", "")])
def test_fresh_tokens_that_lead_to_nothing_for_ever_are_found_out(kind: str, named: str) -> None:
    class Tireless(Shop):
        def answer(self, request: Request) -> Reply:
            start = int(dict(request.params).get("p", 0))
            shown = [{"n": number} for number in self.ids[start : start + 2]]
            return Reply(200, {}, orjson.dumps({"data": shown, "next": str(start + 2)}), NOW, NOW)

    with pytest.raises(PermanentError, match="21 pages in a row brought nothing new") as caught:
        walk(Tireless([1, 2, 3], 2, kind))
    assert f"check paging.has_more{named} in YAML" in str(caught.value)


@pytest.mark.parametrize("kind", ["cursor", "continuation", "next_link"])
def test_empty_pages_in_the_middle_are_no_end_where_tokens_lead_on(kind: str) -> None:
    class Filtered(Shop):
        def answer(self, request: Request) -> Reply:
            place = int(dict(request.params).get("p", request.path.removeprefix("/things").removeprefix("/next/") or 0))
            shown = [{"n": place}] if place % 20 == 0 else []
            lead = f"/next/{place + 1}" if self.kind == "next_link" else place + 1
            return Reply(200, {}, orjson.dumps({"data": shown, "next": lead if place < 60 else None}), NOW, NOW)

    assert walk(Filtered([], 2, kind)) == [0, 20, 40, 60]


def test_a_token_may_stay_the_same_while_what_it_leads_to_changes() -> None:
    class Scroll(Shop):
        def answer(self, request: Request) -> Reply:
            del request
            self.served += 2
            shown = [{"n": number} for number in self.ids[self.served - 2 : self.served]]
            return Reply(200, {}, orjson.dumps({"data": shown, "next": "scroll"}), NOW, NOW)

    assert walk(Scroll(list(range(7)), 2, "cursor")) == list(range(7))


@pytest.mark.parametrize("token", [None, False, "", 0, 0.0])
def test_what_is_no_token_ends_the_list(token: Any) -> None:
    body = {"data": [{"id": 1}, {"id": 2}], "next": token}
    read = feed("cursor", 2, absent=False).read(Cursor(opened_at=NOW), Reply(200, {}, orjson.dumps(body), NOW, NOW))
    assert read.next is None


@pytest.mark.parametrize("token", ["0", 7])
def test_a_token_is_sent_as_text(token: Any) -> None:
    body = {"data": [{"id": 1}], "next": token}
    read = feed("cursor", 2).read(Cursor(opened_at=NOW), Reply(200, {}, orjson.dumps(body), NOW, NOW))
    assert read.next is not None
    assert read.next.token == str(token)


@pytest.mark.parametrize("kind", ["cursor", "continuation", "next_link"])
@pytest.mark.parametrize("token", [True, {"href": "/next/2"}, ["/next/2"]])
def test_a_path_to_what_is_no_token_is_no_end_of_the_list(kind: str, token: Any) -> None:
    body = {"data": [{"id": 1}], "next": token}
    with pytest.raises(PermanentError, match=r"check paging\.token in YAML"):
        feed(kind, 2).read(Cursor(opened_at=NOW), Reply(200, {}, orjson.dumps(body), NOW, NOW))


def test_one_answer_that_says_more_is_not_the_whole_list() -> None:
    body = {"data": [{"id": 1}], "more": True}
    with pytest.raises(PermanentError, match=r"the list goes on, .* check paging\.kind in YAML, the window stays open"):
        feed("none", 2, flagged=True).read(Cursor(opened_at=NOW), Reply(200, {}, orjson.dumps(body), NOW, NOW))


@pytest.mark.parametrize("kind", ["cursor", "next_link"])
def test_a_short_page_may_end_a_list_whose_vendor_leads_on_for_ever(kind: str) -> None:
    class Tireless(Shop):
        def answer(self, request: Request) -> Reply:
            start = int(dict(request.params).get("p", request.path.rpartition("/")[2] or 0))
            following = start + self.size
            body = {
                "data": [{"n": number} for number in self.ids[start:following]],
                "next": f"/next/{following}" if self.kind == "next_link" else str(following),
            }
            return Reply(200, {}, orjson.dumps(body), NOW, NOW)

    paging = paging_of(kind, param="p", token="next", short_page_ends=True)
    options = RestFeedOptions(path="/things/0", paging=paging, page_size_param="n", page_size=3)
    assert walk(Tireless(list(range(7)), 3, kind), api=RestFeed("things", options)) == list(range(7))


def test_a_short_page_is_no_end_where_more_is_said_to_follow() -> None:
    paging = Paging(kind="page_number", param="p", has_more="more", short_page_ends=True)
    options = RestFeedOptions(path="/things", paging=paging, page_size_param="n", page_size=5)
    assert walk(Shop(list(range(9)), 5, "page_number", cap=2), api=RestFeed("things", options)) == list(range(9))


@pytest.mark.parametrize("status", [400, 404, 416, 422])
def test_a_refusal_behind_the_first_page_says_what_may_be_done(status: int) -> None:
    request = feed("page_number", 2).request(Cursor(opened_at=NOW, position=3, pages=2))
    refused = API.classify(request, Reply(status, {}, b'{"detail":"Not found."}', NOW, NOW))
    assert "short_page_ends" in str(refused)


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "Invalid page."},
        {"message": "No such page"},
        {"error": "page 7 is out of range"},
        {"error": {"code": 404, "message": "Page number 7 out of range"}},
        {"errors": [{"title": "Bad request", "detail": "The page does not exist."}]},
        {"errors": ["Requested page is beyond the last page"]},
        {"detail": "That page contains no results"},
        {"error": "out_of_range", "error_description": "page: 12 exceeds 11"},
    ],
)
def test_a_404_may_say_that_the_list_has_ended(body: Any) -> None:
    request = feed("page_number", 2).request(Cursor(opened_at=NOW, position=7, pages=6))
    assert API.classify(request, Reply(404, {}, orjson.dumps(body), NOW, NOW)) is None


@pytest.mark.parametrize(
    "body",
    [
        {"error": "shard unavailable", "help": "https://docs.example.com/pages/errors"},
        {"message": "Page not found"},
        {"message": "Invalid token, see the last section of our status page"},
        {"message": "Invalid response of the page server"},
        {"error": "not_found", "page": "invalid page"},
        {"request": {"message": "invalid page"}},
        {"detail": "Invalid homepage"},
        ["Invalid page."],
    ],
)
def test_a_404_that_names_a_page_otherwise_is_no_end(body: Any) -> None:
    request = feed("page_number", 2).request(Cursor(opened_at=NOW, position=7, pages=6))
    refused = API.classify(request, Reply(404, {}, orjson.dumps(body), NOW, NOW))
    assert isinstance(refused, PermanentError)


@pytest.mark.parametrize("kind", ["page_number", "offset"])
def test_a_404_is_no_end_where_more_was_said_to_follow(kind: str) -> None:
    """The list is shorter now, or the vendor cannot show that page at the moment: the window is walked again."""

    class Fails(Shop):
        def answer(self, request: Request) -> Reply:
            if self.served == 2:
                self.served += 1
                return Reply(404, {}, b'{"detail":"Invalid page."}', NOW, NOW)
            return super().answer(request)

    ids = list(range(10, 20))
    assert walk(Fails(ids, 3, kind, flagged=True))[6 if kind == "page_number" else 5 :] == ids
    read = feed(kind, 3, flagged=True).read
    lost = Reply(404, {}, b'{"detail":"Invalid page."}', NOW, NOW)
    assert read(Cursor(opened_at=NOW, pages=2), lost).next is None
    with pytest.raises(CursorExpired, match="has no page 3, though the one before it said that more follows"):
        read(Cursor(opened_at=NOW, pages=2, token="0 and more"), lost)


def test_an_open_window_of_an_earlier_version_goes_on() -> None:
    cursor = Cursor(opened_at=NOW, pages=9, position=9, token="3", last_key="7")
    body = {"data": [], "more": True}
    read = feed("page_number", 3, flagged=True).read(cursor, Reply(200, {}, orjson.dumps(body), NOW, NOW))
    assert read.next is not None
    assert (read.next.position, read.next.token) == (10, "4 and more")


@pytest.mark.parametrize("kind", KINDS)
@given(length=st.integers(0, 25), size=st.integers(2, 7))
def test_a_flag_that_is_never_there_ends_nothing(kind: str, length: int, size: int) -> None:
    ids = list(range(10, 10 + length))
    shop = Shop(ids, size, "cursor" if kind == "continuation" else kind)
    assert walk(shop, api=feed(shop.kind, size, flagged=True, has_more="meta.nowhere")) == ids


@pytest.mark.parametrize("kind", ["cursor", "next_link", "page_number", "offset"])
def test_more_that_nothing_leads_to_is_an_error_and_not_the_end(kind: str) -> None:
    class Vague(Shop):
        def answer(self, request: Request) -> Reply:
            del request
            return Reply(200, {}, orjson.dumps({"data": [], "more": True}), NOW, NOW)

    with pytest.raises(PermanentError, match="the list goes on"):
        walk(Vague([1, 2, 3], 2, kind, flagged=True))


def test_an_empty_page_in_the_middle_is_no_end_where_more_is_said_to_follow() -> None:
    class Filtered(Shop):
        def answer(self, request: Request) -> Reply:
            number = int(dict(request.params)["p"])
            shown = [{"n": number, "id": number}] if number in (1, 4) else []
            return Reply(200, {}, orjson.dumps({"data": shown, "more": number < 5}), NOW, NOW)

    assert walk(Filtered([], 2, "page_number", flagged=True)) == [1, 4]


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_other_settings_can_be_read_again(kind: str) -> None:
    """A replay reads what was landed under earlier settings: it needs the records, not the way on."""
    other = feed("cursor" if kind != "cursor" else "keyset", 2).walk
    reply = Reply(200, {}, orjson.dumps({"data": [{"n": 1}, {"n": 2}], "more": True}), NOW, NOW)
    cursor = Cursor(opened_at=NOW, walk=other, last_key="7", pages=1)
    read = feed(kind, 2, flagged=True).read(cursor, reply)
    assert [record.value["n"] for record in read.records["things"]] == [1, 2]
    assert read.next is None


@pytest.mark.parametrize("kind", ["cursor", "next_link"])
def test_a_mistyped_path_to_the_next_page_is_no_end_of_the_list(kind: str) -> None:
    shop = Shop(list(range(30)), 10, kind)
    mistyped = feed(kind, 10, absent=False)
    mistyped = replace(
        mistyped,
        options=mistyped.options.model_copy(update={"paging": paging_of(kind, param="p", token="nxt.url")}),
    )
    with pytest.raises(PermanentError, match=r"things: the first page is full, and nothing stands at paging\.token"):
        walk(shop, api=mistyped)
    assert walk(Shop(list(range(30)), 10, kind), api=feed(kind, 10, absent=False)) == list(range(30))
    assert walk(Shop(list(range(9)), 10, kind), api=mistyped) == list(range(9)), (
        "a short first page may be the only one"
    )


def test_a_page_weighs_what_the_vendor_counts_it_for() -> None:
    heavy = RestFeed("things", RestFeedOptions(path="/things", paging=Paging(kind="none"), weight=5))
    assert heavy.request(Cursor(opened_at=NOW)).weight == 5
    assert feed("cursor", 2).request(Cursor(opened_at=NOW)).weight == 1


def test_an_empty_token_ends_a_full_first_page() -> None:
    read = feed("cursor", 2, absent=False).read
    body = {"data": [{"id": 1}, {"id": 2}], "next": None}
    assert read(Cursor(opened_at=NOW), Reply(200, {}, orjson.dumps(body), NOW, NOW)).next is None
