from __future__ import annotations

import json
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from sync_pipeline.simulator.malformed import FEEDS, kinds_for
from sync_pipeline_tests.integration.simulator_setting import Setting, setting

ORDERS = "/organizations/1001/orders/"
PRETIX_ORDERS = "/organizers/simorg/orders/"


@pytest.fixture(scope="module")
def shared() -> Iterator[Setting]:
    with setting(max_visibility_s=0, pretix_per_minute=None, eventbrite_per_hour=None) as running:
        yield running


@pytest.fixture
def world(shared: Setting) -> Iterator[Setting]:
    shared.faults(clear=True)
    shared.post("/reset_stats", {})
    yield shared
    shared.faults(clear=True)


@pytest.mark.parametrize("status", [401, 429, 500, 502, 503, 504])
def test_statuses(world: Setting, status: int) -> None:
    world.script(f"http_{status}", vendor="eventbrite")
    answer = world.eventbrite.get(ORDERS)
    assert answer.status_code == status
    assert "Retry-After" not in answer.headers
    assert world.eventbrite.get(ORDERS).status_code == 200, "once only"
    counts = world.stats("eventbrite")
    assert counts["faults"] == {f"http_{status}": 1}
    assert counts["limit_breaches"] == 0
    assert counts["answers_429"] == (status == 429)


def test_retry_after_in_both_forms(world: Setting) -> None:
    world.script("http_429_seconds", seconds=7)
    assert world.eventbrite.get(ORDERS).headers["Retry-After"] == "7"
    world.script("http_429_date", seconds=30)
    answer = world.pretix.get(PRETIX_ORDERS)
    until = parsedate_to_datetime(answer.headers["Retry-After"])
    assert 25 <= (until - parsedate_to_datetime(answer.headers["Date"])).total_seconds() <= 31
    world.script("http_503_seconds", seconds=2)
    assert world.eventbrite.get(ORDERS).headers["Retry-After"] == "2"


def _read(client: httpx.Client, path: str) -> tuple[Exception | None, int, int]:
    """How a request ended, the bytes of body that came, and how many were promised."""
    received = promised = 0
    try:
        with client.stream("GET", path) as answer:
            promised = int(answer.headers["Content-Length"])
            for piece in answer.iter_raw():
                received += len(piece)
    except httpx.TransportError as problem:
        return problem, received, promised
    return None, received, promised


@pytest.mark.parametrize("kind", ["reset", "reset_mid_body", "truncated"])
@pytest.mark.parametrize("vendor", ["eventbrite", "pretix"])
def test_broken_connections(world: Setting, kind: str, vendor: str) -> None:
    world.script(kind, vendor=vendor)
    client, path = (world.eventbrite, ORDERS) if vendor == "eventbrite" else (world.pretix, PRETIX_ORDERS)
    problem, received, promised = _read(client, path)
    if kind == "truncated":
        assert isinstance(problem, httpx.RemoteProtocolError)
        assert 0 < received < promised
    else:
        assert isinstance(problem, httpx.TransportError)
        assert received < promised or received == 0
    assert client.get(path).status_code == 200
    counts = world.stats(vendor)
    assert counts["faults"] == {kind: 1}
    assert counts["by_status"] == {"broken": 1, "200": 1}


def test_answers_that_are_no_json(world: Setting) -> None:
    world.script("html")
    answer = world.pretix.get(PRETIX_ORDERS)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.text.startswith("<html>")
    world.script("empty_body")
    assert world.pretix.get(PRETIX_ORDERS).content == b""


def test_slowness(world: Setting) -> None:
    world.script("slow", seconds=0.4)
    begun = time.monotonic()
    assert world.eventbrite.get(ORDERS).status_code == 200
    assert time.monotonic() - begun >= 0.4


def test_duplicates_within_a_page(world: Setting) -> None:
    world.script("duplicates", count=2)
    for client, path, name in ((world.eventbrite, ORDERS, "orders"), (world.pretix, PRETIX_ORDERS, "results")):
        records = client.get(path).json()[name]
        distinct = {json.dumps(record) for record in records}
        assert (len(records), len(distinct)) == (60, 50)


def test_vendor_specific_failures(world: Setting) -> None:
    world.script("expansion_failed")
    world.script("bad_continuation")
    page = world.eventbrite.get(ORDERS)
    assert page.status_code == 200, "neither can happen to a plain request"
    failed = world.eventbrite.get(ORDERS, params={"expand": "attendees"})
    assert (failed.status_code, failed.json()["error"]) == (500, "EXPANSION_FAILED")
    token = {"continuation": page.json()["pagination"]["continuation"]}
    failed = world.eventbrite.get(ORDERS, params=token)
    assert (failed.status_code, failed.json()["error"]) == (400, "BAD_CONTINUATION_TOKEN")
    assert world.eventbrite.get(ORDERS, params=token).status_code == 200


def test_scripts_choose_vendor_endpoint_and_moment(world: Setting) -> None:
    world.faults(scripts=[{"kind": "http_503", "vendor": "pretix", "endpoint": "/items/$", "skip": 1, "count": 2}])
    items = "/organizers/simorg/events/sampleconf/items/"
    assert world.eventbrite.get(ORDERS).status_code == 200
    assert world.pretix.get(PRETIX_ORDERS).status_code == 200
    assert [world.pretix.get(items).status_code for _ in range(4)] == [200, 503, 503, 200]


def test_rates_are_drawn_from_the_seed(world: Setting) -> None:
    def run(seed: int) -> list[int]:
        world.faults(clear=True, seed=seed, rates={"http_503": 0.3, "http_500": 0.2})
        return [world.eventbrite.get("/users/me/organizations/").status_code for _ in range(60)]

    first = run(3)
    assert first == run(3) != run(4)
    assert 6 <= first.count(503) <= 32
    assert first.count(500) > 0


def test_rates_may_be_one_vendors(world: Setting) -> None:
    world.faults(rates={"http_500": 1.0}, vendor="pretix")
    assert world.eventbrite.get(ORDERS).status_code == 200
    assert world.pretix.get(PRETIX_ORDERS).status_code == 500


@pytest.mark.parametrize(
    "wish",
    [
        {"rates": {"nonsense": 0.1}},
        {"rates": {"http_503": 1.5}},
        {"rates": {"http_503": 0.6, "http_500": 0.6}},
        {"scripts": [{"kind": "nonsense"}]},
        {"scripts": [{"kind": "slow", "endpoint": "("}]},
        {"scripts": [{"kind": "slow", "colour": "red"}]},
        {"malformed": {"rate": 0.1, "kinds": ["nonsense"]}},
        {"malformed": {"rate": 0.1, "feeds": ["nonsense"]}},
        {"typo": 1},
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(world: Setting, wish: dict[str, Any]) -> None:
    answer = world.control.post("/faults", json=wish)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert world.eventbrite.get(ORDERS).status_code == 200


PLACES = {
    "eventbrite/orders": (ORDERS, "orders", "id"),
    "eventbrite/attendees": ("/organizations/1001/attendees/", "attendees", "id"),
    "pretix/orders": (PRETIX_ORDERS, "results", "code"),
    "pretix/positions": ("/organizers/simorg/events/sampleconf/orderpositions/", "results", "id"),
}


def _key(feed: str, record: dict[str, Any]) -> str:
    if feed == "pretix/orders":
        return f"{record['event']}/{record['code']}"
    return f"sampleconf/{record['id']}" if feed == "pretix/positions" else record["id"]


@pytest.mark.parametrize(("feed", "kind"), [(feed, kind) for feed in FEEDS for kind in kinds_for(feed)])
def test_each_kind_of_malformed_record_leaves_its_neighbours_intact(world: Setting, feed: str, kind: str) -> None:
    path, name, _ = PLACES[feed]
    client = world.eventbrite if feed.startswith("eventbrite") else world.pretix
    before = client.get(path).content
    record = json.loads(before)[name][17]
    ascii_only = feed.startswith("eventbrite")
    raw = json.dumps(record, separators=(",", ":"), ensure_ascii=ascii_only).encode()
    head, tail = before.split(raw)
    world.faults(malformed={"records": {feed: {_key(feed, record): kind}}})
    after = client.get(path).content
    assert after.startswith(head)
    assert after.endswith(tail)
    shown = after[len(head) : len(after) - len(tail)]
    assert shown
    assert shown != raw
    assert _is_broken(kind, shown, record), kind
    row = world.rows(feed)[_key(feed, record)]
    assert (row["malformed"], row["malformed_kind"]) == (True, kind)
    world.faults(malformed={"rate": 0})
    assert client.get(path).content == before


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise ValueError("duplicate keys")
    return dict(pairs)


def _refuse(text: str) -> float:
    raise ValueError(text)


def _is_broken(kind: str, shown: bytes, good: dict[str, Any]) -> bool:
    """Whether the record is broken in a way that a strict reader can see: by its JSON, or by a field that differs."""
    if kind == "huge_field":
        return len(shown) > 5 * 1024 * 1024
    if kind == "deep_nesting":
        return b"[" * 2000 in shown
    try:
        record = json.loads(shown.decode(), object_pairs_hook=_strict, parse_constant=_refuse)
    except ValueError:
        return kind in ("nan_literal", "infinity_literal", "duplicate_keys", "raw_control_byte", "truncated_unicode")
    if kind.startswith("record_"):
        return not isinstance(record, dict)
    changed = {field for field in good if record.get(field, "missing") != good[field]}
    return bool(changed) and len(changed) <= 3


def test_a_broken_position_is_broken_in_its_order_too(world: Setting) -> None:
    before = world.pretix.get(PRETIX_ORDERS).content
    order = next(order for order in json.loads(before)["results"] if len(order["positions"]) > 1)
    name = f"{order['event']}/{order['code']}"
    raw = json.dumps(order["positions"][0], separators=(",", ":"), ensure_ascii=False).encode()
    head, tail = before.split(raw)
    position = f"{order['event']}/{order['positions'][0]['id']}"
    world.faults(malformed={"records": {"pretix/positions": {position: "truncated_unicode"}}})
    after = world.pretix.get(PRETIX_ORDERS).content
    assert after.startswith(head)
    assert after.endswith(tail)
    assert b'\xf0\x9f\x8e"' in after[len(head) : len(after) - len(tail)]
    rows = world.rows("pretix/positions")
    assert rows[position]["malformed_kind"] == "truncated_unicode"
    together = {row["id"] for row in rows.values() if row["malformed"]}
    assert together == {row["id"] for row in rows.values() if row["order_id"] == name}
    assert [row["id"] for row in world.rows("pretix/orders").values() if row["malformed"]] == [name]


def test_a_rate_of_malformed_records_deals_out_all_kinds() -> None:
    with setting(eventbrite_orders=1200, pretix_orders=200) as world:
        world.faults(rates={"malformed": 0.05})
        broken = [row for row in world.rows("eventbrite/orders").values() if row["malformed"]]
        assert 30 <= len(broken) <= 100
        assert {row["malformed_kind"] for row in broken} == set(kinds_for("eventbrite/orders"))
        again = world.faults(rates={"malformed": 0.05})
        assert again["malformed"]["marked"]["eventbrite/orders"] == len(broken)
        world.faults(clear=True)
        only = {"rate": 0.05, "kinds": ["record_null"], "feeds": ["pretix/orders"]}
        assert world.faults(malformed=only)["malformed"]["marked"] == {
            "pretix/orders": sum(row["malformed"] for row in world.rows("pretix/orders").values())
        }
