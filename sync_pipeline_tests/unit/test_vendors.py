"""What is asked of the vendors, and how their answers are read. Bodies as their documentation shows them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from sync_pipeline.kernel.errors import (
    AuthenticationError,
    ConfigurationError,
    CursorExpired,
    ExpansionFailed,
    PermanentError,
    SyncError,
    TransientError,
)
from sync_pipeline.kernel.feed import AGAIN, Cursor, QuotaWindow, RawRecord, Reply, Request
from sync_pipeline.polling.estimate import RateEstimate
from sync_pipeline.polling.schedule import FeedState, Left, plan
from sync_pipeline.vendors.catalogue import build_connection, with_environment
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline.vendors.eventbrite import EventbriteApi, EventbriteFeed
from sync_pipeline.vendors.pretix import PretixApi, PretixOrders, explode
from sync_pipeline.vendors.rest import RestApi
from sync_pipeline.vendors.rest_options import RateHeaders
from sync_pipeline.vendors.rest_paging import link_header

NOW = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
SINCE = datetime(2026, 11, 20, 3, 30, 15, 250000, tzinfo=UTC)


def reply(body: Any, status: int = 200, **headers: str) -> Reply:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, NOW, NOW)


def test_eventbrite_asks_the_organization() -> None:
    request = EventbriteFeed("orders", "1001").request(Cursor(since=SINCE, opened_at=NOW, token="AEtF"))
    assert request.path == "/organizations/1001/orders/"
    assert request.endpoint == "/organizations/{id}/orders/"
    assert request.params == (
        ("page_size", "50"), ("status", "both"), ("expand", "attendees"), ("changed_since", "2026-11-20T03:30:15Z"),
        ("continuation", "AEtF"),
    )  # fmt: skip


def test_eventbrite_asks_event_after_event() -> None:
    feed = EventbriteFeed("attendees", "", ("11", "22"))
    assert feed.parts == ("11", "22")
    assert feed.request(Cursor(opened_at=NOW, part=1)).path == "/events/22/attendees/"


@pytest.mark.parametrize(("more", "records", "goes_on"), [(True, [{}], True), (False, [{}], False), (True, [], False)])
def test_eventbrite_ends_by_flag_or_empty_page(more: bool, records: list[Any], goes_on: bool) -> None:
    body = {"pagination": {"continuation": "next", "has_more_items": more}, "orders": records}
    read = EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW), reply(body))
    assert (read.next is not None) == goes_on


@pytest.mark.parametrize("flag", [{}, {"has_more_items": None}, {"has_more_items": "true"}, {"has_more_items": 0}])
@pytest.mark.parametrize(("number", "goes_on"), [(1, True), (3, False)])
def test_eventbrite_without_its_flag_is_read_by_the_count_of_pages(
    flag: dict[str, Any], number: int, goes_on: bool
) -> None:
    paging = {"object_count": 150, "page_number": number, "page_size": 50, "page_count": 3, "continuation": "AEtF"}
    feed = EventbriteFeed("orders", "1")
    read = feed.read(Cursor(opened_at=NOW), reply({"pagination": paging | flag, "orders": [{}]}))
    assert (read.next is not None) == goes_on
    assert feed.read(Cursor(opened_at=NOW), reply({"pagination": paging | flag, "orders": []})).next is None


@pytest.mark.parametrize(
    "said", [{}, {"page_number": 1}, {"page_number": 1, "page_count": None, "has_more_items": None}]
)
def test_eventbrite_that_does_not_say_whether_more_follows_is_asked_again(said: dict[str, Any]) -> None:
    body = {"pagination": {"continuation": "AEtF", **said}, "orders": [{}]}
    with pytest.raises(TransientError, match="does not say whether more follows; it is asked again"):
        EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW), reply(body))
    landed = EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW, walk=AGAIN), reply(body))
    assert len(landed.records["orders"]) == 1


@pytest.mark.parametrize("token", [{}, {"continuation": None}, {"continuation": ""}, {"continuation": 5}])
def test_eventbrite_says_more_but_not_where(token: dict[str, Any]) -> None:
    """What is taken for the end of the list would be lost."""
    body = {"pagination": {"has_more_items": True, **token}, "orders": [{}]}
    with pytest.raises(PermanentError, match=r"eventbrite orders: the list goes on, .* the window stays open"):
        EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW), reply(body))
    again = EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW, walk=AGAIN), reply(body))
    assert len(again.records["orders"]) == 1, "of a page that was landed the records are wanted, not the way on"


def test_the_vendors_clock_is_a_lower_bound() -> None:
    body = {"pagination": {"has_more_items": False}, "orders": []}
    late = Reply(200, {"date": "Sat, 21 Nov 2026 03:59:58 GMT"}, orjson.dumps(body), NOW - timedelta(seconds=3), NOW)
    read = EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW), late)
    assert read.vendor_now == NOW - timedelta(seconds=2 + 3 + 1)


EVENTBRITE: list[tuple[int, Any, type[SyncError]]] = [
    (401, {"error": "INVALID_AUTH"}, AuthenticationError),
    (400, {"error": "INVALID_AUTH"}, AuthenticationError),
    (401, {"error": "NO_AUTH"}, AuthenticationError),
    (403, {"error": "NOT_AUTHORIZED"}, AuthenticationError),
    (400, {"error": "BAD_CONTINUATION_TOKEN"}, CursorExpired),
    (500, {"error": "EXPANSION_FAILED"}, TransientError),
    (500, {"error": "INTERNAL_ERROR"}, TransientError),
    (429, {"error": "HIT_RATE_LIMIT"}, TransientError),
    (404, {"error": "NOT_FOUND"}, PermanentError),
    (400, {"error": "ARGUMENTS_ERROR"}, PermanentError),
    (301, {"error": "PERMANENTLY_MOVED"}, PermanentError),
    (503, b"<html>down</html>", TransientError),
    (502, b"", TransientError),
    (500, {"error": {"type": "INVALID_AUTH"}}, TransientError),
    (400, {"error": ["NO_AUTH"]}, PermanentError),
    (429, {"error": {"code": 1}}, TransientError),
]


@pytest.mark.parametrize(("status", "body", "expected"), EVENTBRITE)
def test_eventbrite_errors(status: int, body: Any, expected: type[SyncError]) -> None:
    request = Request("/organizations/{id}/orders/", "/organizations/424242/orders/")
    found = EventbriteApi().classify(request, reply(body, status))
    assert type(found) is expected
    assert "424242" not in str(found)
    assert isinstance(found, TransientError) is (expected is TransientError)
    if status == 429:
        assert isinstance(found, TransientError)
        assert found.throttled


@pytest.mark.parametrize("said", [["ann@example.com"], {"ann@example.com": 1}, "no order of ann@example.com", 5])
def test_what_is_no_code_is_not_shown(said: Any) -> None:
    found = EventbriteApi().classify(Request("/x", "/x"), reply({"error": said}, 502))
    assert str(found) == "eventbrite /x: HTTP 502, the vendor failed; it is asked again"


def test_eventbrite_orders_can_be_asked_for_without_their_attendees() -> None:
    request = EventbriteFeed("orders", "1").request(Cursor(opened_at=NOW))
    failed = reply({"error": "EXPANSION_FAILED"}, 500)
    assert type(EventbriteApi().classify(request, failed)) is ExpansionFailed
    assert request.plain is not None
    assert set(request.params) - set(request.plain.params) == {("expand", "attendees")}
    assert EventbriteFeed("attendees", "1").request(Cursor(opened_at=NOW)).plain is None


def test_a_good_answer_is_no_error_and_html_is_no_page() -> None:
    request = Request("/x", "/x")
    assert EventbriteApi().classify(request, reply({})) is None
    for body in (b"<html>hello</html>", b'{"pagination": {}, "orders": [{"id"', {"pagination": {}}, {"orders": []}):
        with pytest.raises(TransientError):
            EventbriteFeed("orders", "1").read(Cursor(opened_at=NOW), reply(body))


def test_pretix_asks_by_modification_and_goes_on_from_the_last_stamp() -> None:
    feed = PretixOrders("acme")
    request = feed.request(Cursor(since=SINCE, opened_at=NOW))
    assert request.path == "/organizers/acme/orders/"
    assert request.params == (
        ("page", "1"), ("page_size", "50"), ("ordering", "last_modified"), ("include_canceled_positions", "true"),
        ("include_canceled_fees", "true"), ("modified_since", "2026-11-20T03:30:15.250000Z"),
    )  # fmt: skip
    order = {"event": "conf", "code": "A", "last_modified": "2026-11-20T05:00:00+01:00"}
    body = {"next": "http://internal:8000/api/v1/organizers/acme/orders/?page=2&x=1", "results": [order]}
    read = feed.read(Cursor(opened_at=NOW), reply(body, x_page_generated="2026-11-21T03:59:59.5Z"))
    assert read.next is not None
    assert (read.next.position, read.next.token, read.next.last_key) == (0, None, "2026-11-20T04:00:00+00:00")
    assert read.vendor_now == datetime(2026, 11, 21, 3, 59, 59, 500000, tzinfo=UTC)
    following = feed.request(Cursor(since=SINCE, opened_at=NOW, last_key=read.next.last_key))
    assert dict(following.params)["modified_since"] == "2026-11-20T04:00:00Z"
    assert feed.read(Cursor(opened_at=NOW), reply({"next": None, "results": [{}]})).next is None


def test_an_empty_list_of_a_whole_organizer_is_proven() -> None:
    feed, empty = PretixOrders("acme"), reply({"next": None, "results": []})
    asked: list[tuple[str, bool]] = []

    def ask(cursor: Cursor, answer: Reply) -> Cursor | None:
        request = feed.request(cursor)
        asked.append((request.path, request.probe))
        read = feed.read(cursor, answer)
        assert not any(read.records.values())
        return None if read.next is None else Cursor(opened_at=NOW, token=read.next.token)

    start = ask(Cursor(opened_at=NOW), empty)
    assert start is not None
    assert ask(start, reply({"next": None, "results": [{"code": "A"}]})) is None, "an older order is proof enough"
    events = ask(start, empty)
    assert events is not None
    with pytest.raises(AuthenticationError, match="sees no event"):
        feed.read(events, empty)
    first = ask(events, reply({"results": [{"slug": "a"}, {"slug": "b"}]}))
    assert first is not None
    assert ask(first, empty) is None, "no order, but it may be viewed"
    second = ask(first, reply({"detail": "no"}, 403))
    assert second is not None
    ask(second, empty)
    orders = "/organizers/acme/orders/"
    of = "/organizers/acme/events/{}/orders/".format
    assert asked == [(orders, False), (orders, False), (orders, False), ("/organizers/acme/events/", False),
                     (of("a"), True), (of("a"), True), (of("b"), False)]  # fmt: skip


def test_pretix_below_an_event_knows_its_event() -> None:
    feed = PretixOrders("acme", ("conf",))
    assert feed.request(Cursor(opened_at=NOW)).path == "/organizers/acme/events/conf/orders/"
    read = feed.read(
        Cursor(opened_at=NOW), reply({"next": None, "results": [{"code": "A", "positions": [{"positionid": 1}]}]})
    )
    assert read.records["orders"][0].value["event"] == "conf"
    assert read.records["positions"][0].value["_order"]["event"] == "conf"


def test_pretix_errors() -> None:
    first, later = Request("/o", "/o", (("page", "1"),)), Request("/o", "/o", (("page", "3"),))
    api = PretixApi()
    assert api.classify(later, reply({"detail": "Invalid page."}, 404)) is None
    assert type(api.classify(first, reply({"detail": "Invalid page."}, 404))) is PermanentError
    assert type(api.classify(first, reply({"detail": "Invalid token."}, 401))) is AuthenticationError
    assert type(api.classify(first, reply({"detail": "throttled"}, 429))) is TransientError
    gone = Cursor(opened_at=NOW, position=120, token="tie:0:conf/A/2026", last_key="2026-11-20T04:00:00+00:00")
    again = PretixOrders("a").read(gone, reply({"detail": "Invalid page."}, 404)).next
    assert again is not None
    assert (again.position, again.token, again.last_key) == (0, "tie:1:", gone.last_key)


def test_a_pretix_refusal_names_what_the_settings_say() -> None:
    refusal = reply({"detail": "You do not have permission to perform this action."}, 403)
    feed = PretixOrders("acme", ("conf", "Nordlys"))
    api = PretixApi(organizer="acme", events=("conf", "Nordlys"))
    request = feed.request(Cursor(opened_at=NOW))
    for sentence in (str(api.classify(request, refusal)), str(api.classify(request, reply({}, 500)))):
        assert "/organizers/acme/" in sentence
        assert "{organizer}" not in sentence
    found = api.classify(request, refusal)
    assert type(found) is AuthenticationError
    assert "wrong slug" in str(found)
    assert "`acme` and events conf, Nordlys" in str(found)
    assert api.classify(replace(request, probe=True), refusal) is None


def test_positions_come_out_of_sound_orders_only() -> None:
    orders = [
        RawRecord({"code": "A", "positions": [{"positionid": 1}, "odd"]}),
        RawRecord(None, fault="NOT_A_NUMBER", raw=b"{"),
        RawRecord({"code": "B", "positions": "none"}),
        RawRecord("text"),
    ]
    assert [record.value for record in explode(orders)] == [{"positionid": 1, "_order": {"code": "A"}}, "odd"]


def test_the_next_link_is_found_in_its_header() -> None:
    assert link_header('<https://x/?p=1>; rel="prev", <https://x/?p=3>; rel="next"') == "https://x/?p=3"
    assert link_header("") is None


BASE: dict[str, Any] = {"name": "shop", "vendor": "pretix", "base_url": "https://pretix.eu/api/v1", "token_env": "T",
                        "organizer": "acme", "feeds": [{"name": "orders"}, {"name": "positions"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"colour": "red"}, "unknown key `colour`; known keys there are: account, auth, base_url"),
        ({"feeds": [{"name": "orders", "colour": 1}]}, "unknown key `feeds.0.colour`"),
        ({"base_url": "ftp://x"}, "must be an http or https URL"),
        ({"base_url": "https://user:secret@x"}, "must hold no credentials"),
        ({"base_url": "https://x:99999"}, "base_url: must have a port from 0 to 65535"),
        ({"base_url": "https://x:secret"}, "base_url: must have a port"),
        ({"organizer": None}, "pretix needs one"),
        ({"vendor": "rest"}, "a budget is mandatory"),
        ({"vendor": "eventbrite"}, "Eventbrite needs one"),
        ({"feeds": []}, "feeds"),
        ({"feeds": [{"name": "orders"}, {"name": "orders"}]}, "stands twice"),
        ({"limits": [{"limit": 0, "seconds": 1}]}, "limits.0.limit"),
    ],
)
def test_wrong_settings_are_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        ConnectionConfig.parse({**BASE, **changes}, where="defs.yaml")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["overlap_s", "page_size"])
def test_what_a_rest_feed_says_itself_is_not_said_of_its_connection(name: str) -> None:
    shop = {"name": "shop", "vendor": "rest", "base_url": "https://x", "limits": [{"limit": 5, "seconds": 1}],
            "feeds": [{"name": "orders", "contract": "some.module:Contract", "rest": {"path": "/", name: 25}}]}  # fmt: skip
    ConnectionConfig.parse(shop, where="defs.yaml")
    with pytest.raises(ConfigurationError, match=f"shop: {name}: .* write it in the feed's `rest`"):
        ConnectionConfig.parse({**shop, name: 25}, where="defs.yaml")


def test_settings_that_only_building_sees() -> None:
    for changes, sentence in (
        ({"feeds": [{"name": "tickets"}]}, "has no feed tickets; it has: orders, positions"),
        ({"feeds": [{"name": "positions"}]}, "enable both"),
        ({"token_env": None}, "token_env is missing"),
        ({"limits": [{"limit": 5, "seconds": 1, "burst": 9}]}, "burst above the limit"),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            build_connection(ConnectionConfig.parse({**BASE, **changes}, where="x"))  # type: ignore[dict-item]


def test_the_environment_goes_over_yaml() -> None:
    env = {"SYNC_SHOP_BASE_URL": "http://127.0.0.1:8000/api/v1/", "SYNC_SHOP_ORGANIZER": "mine", "SYNC_SHOP_EVENTS": "a, b",
           "SYNC_SHOP_LIMITS": "100/60,5000/86400", "SYNC_SHOP_TOKEN_ENV": "OTHER"}  # fmt: skip
    made = build_connection(with_environment(ConnectionConfig.parse(BASE, where="x"), env))
    assert made.base_url == "http://127.0.0.1:8000/api/v1"
    assert made.auth.secret_env == "OTHER"
    assert [(window.limit, window.seconds) for window in made.windows] == [(100, 60), (5000, 86_400)]
    assert made.feeds["orders"].request(Cursor(opened_at=NOW, part=1)).path == "/organizers/mine/events/b/orders/"
    with pytest.raises(ConfigurationError, match="must look like"):
        with_environment(ConnectionConfig.parse(BASE, where="x"), {"SYNC_SHOP_LIMITS": "x/y"})


def test_what_the_environment_says_wrong_is_corrected_there() -> None:
    with pytest.raises(ConfigurationError, match=r"^environment \(SYNC_SHOP_…\): .*; correct the environment$"):
        with_environment(ConnectionConfig.parse(BASE, where="x"), {"SYNC_SHOP_BASE_URL": "foo"})
    with pytest.raises(ConfigurationError, match=r"^x: .*; correct the YAML and reload$"):
        ConnectionConfig.parse({**BASE, "base_url": "foo"}, where="x")


def test_documented_limits_have_a_source() -> None:
    for window in build_connection(ConnectionConfig.parse(BASE, where="x")).windows + EventbriteApi().windows:
        assert window.source


def state(**more: Any) -> FeedState:
    return FeedState(**{"feed": "f", "last_poll_at": NOW, **more})


def test_the_plan_explains_itself() -> None:
    hour = timedelta(hours=1)
    cases = [
        (state(paused=True), False, "paused"),
        (state(deferred_until=NOW + hour, deferred_reason="quota"), False, "waiting for quota until 05:00:00Z: quota"),
        (state(deferred_until=NOW - hour, next_due=NOW + hour), False, "not due before"),
        (state(last_poll_at=None), True, "never polled"),
        (state(window_open=True, next_due=NOW + hour), True, "its window is open"),
        (state(next_due=NOW), True, "due since 04:00:00Z, costs 1 of 212 calls left this hour"),
        (
            state(next_due=NOW, estimate=RateEstimate(), calls_a_poll=2.2),
            True,
            "due: 0.0 changes expected since 04:00, costs 2 of",
        ),
    ]
    for one, due, why in cases:
        [decision] = plan([one], NOW, Left(212, "this hour"))
        assert (decision.due, why in decision.why) == (due, True), decision
    assert [d.due for d in plan([case[0] for case in cases], NOW)] == [True, True, True, True, False, False, False]


@pytest.mark.parametrize(
    ("header", "url"),
    [
        ('<https://x.org/r?include=a,b&page=2>; rel="next"', "https://x.org/r?include=a,b&page=2"),
        ('<https://x.org/1>; rel="first", <https://x.org/2>; title="a, b; rel=x"; REL=next', "https://x.org/2"),
        ('<https://x.org/9>; rel="last next"', "https://x.org/9"),
        ('<https://x.org/9>; rel="nextish"', None),
        ('<https://x.org/9>; rel=prev', None),
        ("next", None),
    ],
)  # fmt: skip
def test_the_next_link_of_a_header(header: str, url: str | None) -> None:
    assert link_header(header) == url


@pytest.mark.parametrize(
    ("date", "left"),
    [
        (None, 60),
        ("Sat, 21 Nov 2026 04:00:00 GMT", 61),  # the second that the header rounds away
        ("Sat, 21 Nov 2026 03:59:50 GMT", 71),
        ("Sat, 21 Nov 2026 04:30:00 GMT", 60),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 60),
    ],
)
def test_a_reset_by_the_vendors_clock_is_not_read_by_a_fast_one_of_ours(date: str | None, left: int) -> None:
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str((NOW + timedelta(seconds=60)).timestamp())}
    reply = Reply(200, headers | ({"date": date} if date else {}), b"{}", NOW, NOW)
    [said] = RestApi((QuotaWindow("minute", 60, 60),), RateHeaders(reset_is="epoch_s")).feedback(reply)
    assert said.reset_at == NOW + timedelta(seconds=left)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400"])
def test_a_number_that_is_none_is_not_said(value: str) -> None:
    api = RestApi((QuotaWindow("minute", 60, 60),), RateHeaders())
    headers = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "7", "x-ratelimit-reset": "9"}
    assert api.feedback(Reply(200, headers | {"x-ratelimit-remaining": value}, b"{}", NOW, NOW)) == ()
    odd = {"x-ratelimit-limit": value, "x-ratelimit-reset": value}
    [said] = api.feedback(Reply(200, headers | odd, b"{}", NOW, NOW))
    assert (said.limit, said.remaining, said.reset_at) == (None, 7, None)
