from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import datetime

import httpx
import pytest

from sync_pipeline_tests.integration.simulator_setting import Setting, setting

ORDERS = "/organizers/simorg/orders/"
CONF = "/organizers/simorg/events/sampleconf"


@pytest.fixture(scope="module")
def still() -> Iterator[Setting]:
    """A world that no test changes."""
    with setting(max_commit_lag_s=0, pretix_per_minute=None) as running:
        yield running


def key(order: dict[str, str]) -> str:
    return f"{order['event']}/{order['code']}"


def walk(world: Setting, **params: str) -> list[str]:
    return [key(order) for page in world.walk_pretix(ORDERS, **params) for order in page.json()["results"]]


def test_credentials_and_refusals(still: Setting) -> None:
    with httpx.Client(base_url=still.server.pretix_url) as bare:
        assert bare.get(ORDERS).status_code == 401
        wrong = bare.get(ORDERS, headers={"Authorization": "Token nonsense"})
        assert (wrong.status_code, wrong.json()) == (401, {"detail": "Invalid token."})
    assert still.pretix.get("/organizers/other/orders/").status_code == 403
    assert still.pretix.get("/organizers/simorg/events/none/orders/").status_code == 403, "as for a missing permission"
    refused = still.pretix.delete(ORDERS)
    assert (refused.status_code, refused.json()) == (405, {"detail": "Method 'DELETE' not allowed."})
    assert still.pretix.get(ORDERS.rstrip("/")).status_code == 301


def test_a_walk_shows_everything_once_in_order_of_creation(still: Setting) -> None:
    pages = [page.json() for page in still.walk_pretix(ORDERS)]
    orders = [order for page in pages for order in page["results"]]
    assert [key(order) for order in orders] == list(dict.fromkeys(key(order) for order in orders))
    assert {key(order) for order in orders} == set(still.rows("pretix/orders"))
    instants = [datetime.fromisoformat(order["datetime"]) for order in orders]
    assert instants == sorted(instants)
    assert {page["count"] for page in pages} == {len(orders)}
    assert (pages[0]["previous"], pages[-1]["next"]) == (None, None)
    assert [len(page["results"]) for page in pages[:-1]] == [50] * (len(pages) - 1)


def test_page_bounds(still: Setting) -> None:
    beyond = still.pretix.get(ORDERS, params={"page": "99"})
    assert (beyond.status_code, beyond.json()) == (404, {"detail": "Invalid page."})
    assert still.pretix.get(ORDERS, params={"page": "0"}).status_code == 404
    assert len(still.pretix.get(ORDERS, params={"page_size": "500"}).json()["results"]) == 50
    assert len(still.pretix.get(ORDERS, params={"page_size": "3"}).json()["results"]) == 3


def test_every_page_says_when_it_was_generated(still: Setting) -> None:
    before = still.control.get("/health").json()["now"]
    stamps = [page.headers["X-Page-Generated"] for page in still.walk_pretix(ORDERS)]
    assert before < stamps[0]
    assert stamps == sorted(set(stamps)), "each page has its own, later one"
    assert any(datetime.fromisoformat(stamp).microsecond for stamp in stamps)


def test_modified_since_is_inclusive_to_the_microsecond(still: Setting) -> None:
    rows = still.rows("pretix/orders").values()
    instant = sorted(row["modified_at"] for row in rows)[len(rows) // 2]
    assert set(walk(still, modified_since=instant)) == {
        r["id"] for r in rows if _at(r) >= datetime.fromisoformat(instant)
    }
    offset = instant.replace("Z", "+00:00")
    assert walk(still, modified_since=offset) == walk(still, modified_since=instant)
    unescaped = still.pretix.get(f"{ORDERS}?modified_since={offset}")
    assert (unescaped.status_code, list(unescaped.json())) == (400, ["modified_since"])


def _at(row: dict[str, str]) -> datetime:
    return datetime.fromisoformat(row["modified_at"])


def test_more_orders_than_a_page_share_one_instant() -> None:
    with setting(eventbrite_orders=0, pretix_orders=700) as world:
        ties = Counter(row["modified_at"] for row in world.rows("pretix/orders").values())
        instant, count = ties.most_common(1)[0]
        assert count > 50
        tied = {r["id"] for r in world.rows("pretix/orders").values() if r["modified_at"] == instant}
        assert tied <= set(walk(world, modified_since=instant))


def test_filters(still: Setting) -> None:
    for status in "npec":
        orders = [o for page in still.walk_pretix(ORDERS, status=status) for o in page.json()["results"]]
        assert orders
        assert {order["status"] for order in orders} == {status}
    one = still.pretix.get(ORDERS).json()["results"][3]
    assert key(one) in walk(still, code=one["code"])
    assert key(one) in walk(still, email=one["email"].upper())
    assert walk(still, created_since=one["datetime"])[0] == key(one)
    assert walk(still, created_before=one["datetime"]) == walk(still)[:3]
    bare = still.pretix.get(ORDERS, params={"exclude": "positions"}).json()["results"][0]
    assert "positions" not in bare


def test_one_event_and_one_order(still: Setting) -> None:
    orders = [o for page in still.walk_pretix(f"{CONF}/orders/") for o in page.json()["results"]]
    assert {order["event"] for order in orders} == {"sampleconf"}
    assert still.pretix.get(f"{CONF}/orders/{orders[0]['code']}/").json() == orders[0]
    assert still.pretix.get(f"{CONF}/orders/NOSUC/").json() == {"detail": "Not found."}


def test_cancelled_positions_are_hidden_unless_asked_for(still: Setting) -> None:
    shown = [p for page in still.walk_pretix(ORDERS) for o in page.json()["results"] for p in o["positions"]]
    asked = {"include_canceled_positions": "true"}
    every = [p for page in still.walk_pretix(ORDERS, **asked) for o in page.json()["results"] for p in o["positions"]]
    assert not any(position["canceled"] for position in shown)
    assert len(every) == len(still.rows("pretix/positions")) > len(shown)
    assert any(position["addon_to"] for position in every)
    assert any(position["variation"] for position in every)
    listed = [p["id"] for page in still.walk_pretix(f"{CONF}/orderpositions/") for p in page.json()["results"]]
    assert set(listed) < {position["id"] for position in shown}
    assert len(listed) == len(set(listed))


def test_awkward_things_of_the_world(still: Setting) -> None:
    orders = [o for page in still.walk_pretix(ORDERS) for o in page.json()["results"]]
    assert any(order["testmode"] for order in orders)
    assert any(order["require_approval"] for order in orders)
    assert max(Counter(order["code"] for order in orders).values()) > 1, "a code is unique in its event only"
    assert any(order["last_modified"].endswith("+02:00") for order in orders)
    states = {payment["state"] for order in orders for payment in order["payments"]}
    assert states == {"confirmed", "refunded"}


def test_items_know_if_they_changed(still: Setting) -> None:
    first = still.pretix.get(f"{CONF}/items/")
    assert isinstance(first.json()["results"][0]["name"], dict)
    again = still.pretix.get(f"{CONF}/items/", headers={"If-Modified-Since": first.headers["Last-Modified"]})
    assert (again.status_code, again.content) == (304, b"")
    older = {"If-Modified-Since": "Tue, 01 Jan 2019 00:00:00 GMT"}
    assert still.pretix.get(f"{CONF}/items/", headers=older).status_code == 200


def _touch(world: Setting, order: str) -> None:
    world.post("/mutate", {"vendor": "pretix", "id": order, "set": {}})


def test_drift_with_the_default_ordering_repeats_a_row() -> None:
    with setting(max_commit_lag_s=0) as world:
        everything = walk(world)
        since: str = world.control.get("/health").json()["now"]
        for order in everything[100:110]:
            _touch(world, order)
        pages = world.walk_pretix(ORDERS, modified_since=since, page_size=5)
        seen = [key(o) for o in next(pages).json()["results"]]
        _touch(world, everything[50])  # enters before the first page: what follows moves down by one
        seen += [key(o) for page in pages for o in page.json()["results"]]
        assert set(everything[100:110]) <= set(seen)
        assert seen.count(everything[104]) == 2


def test_drift_with_ordering_by_last_modified_skips_a_row() -> None:
    with setting(max_commit_lag_s=0) as world:
        everything = walk(world)
        since: str = world.control.get("/health").json()["now"]
        for order in everything[100:110]:
            _touch(world, order)
        pages = world.walk_pretix(ORDERS, modified_since=since, page_size=5, ordering="last_modified")
        seen = [key(o) for o in next(pages).json()["results"]]
        _touch(world, everything[100])  # jumps to the end: what follows moves up by one
        seen += [key(o) for page in pages for o in page.json()["results"]]
        assert everything[105] not in seen


def test_a_list_that_shrinks_makes_the_next_page_invalid() -> None:
    with setting(max_commit_lag_s=0, pretix_orders=40, eventbrite_orders=0) as world:
        paid = world.pretix.get(ORDERS, params={"status": "p"}).json()["count"]
        first = world.pretix.get(ORDERS, params={"status": "p", "page_size": paid - 1}).json()
        assert first["next"]
        for order in first["results"][:2]:
            world.post("/mutate", {"vendor": "pretix", "id": key(order), "set": {"status": "c"}})
        assert world.pretix.get(first["next"]).json() == {"detail": "Invalid page."}


def test_a_change_commits_later_than_it_is_stamped() -> None:
    with setting(max_commit_lag_s=60) as world:
        body = {"vendor": "pretix", "changes": 8, "actions": ["new_order"]}
        done = world.post("/mutate", body)["changes"]
        since = min(change["at"] for change in done)
        early = walk(world, modified_since=since)
        assert len(early) < 8
        watermark: str = world.pretix.get(ORDERS).headers["X-Page-Generated"]
        world.advance(60)
        assert set(walk(world, modified_since=since)) == {change["id"] for change in done}
        assert walk(world, modified_since=watermark) == [], "a watermark without overlap misses them for good"


def test_the_limit_of_a_minute_slides_and_says_when_to_come_back() -> None:
    with setting(pretix_per_minute=4) as world:
        statuses = [world.pretix.get(ORDERS).status_code for _ in range(5)]
        assert statuses == [200] * 4 + [429]
        refusal = world.pretix.get(ORDERS)
        wait = int(refusal.headers["Retry-After"])
        assert 55 <= wait <= 60
        assert refusal.json() == {"detail": f"Request was throttled. Expected available in {wait} seconds."}
        assert world.stats("pretix")["limit_breaches"] == 2
        assert world.stats("eventbrite")["requests"] == 0
        world.advance(math.ceil(wait))
        assert world.pretix.get(ORDERS).status_code == 200


def test_a_deleted_testmode_order_is_gone_but_remembered_as_truth() -> None:
    with setting(max_commit_lag_s=0) as world:
        body = {"vendor": "pretix", "actions": ["delete_testmode"]}
        done = world.post("/mutate", body)["changes"][0]
        event, code = done["id"].split("/")
        assert world.pretix.get(f"/organizers/simorg/events/{event}/orders/{code}/").status_code == 404
        assert done["id"] not in walk(world)
        assert world.rows("pretix/orders")[done["id"]]["deleted"] is True


def test_every_action_moves_last_modified() -> None:
    with setting(max_commit_lag_s=0, pretix_orders=500) as world:
        actions = (
            "pay", "expire", "cancel", "refund", "partial_refund", "cancel_position", "check_in", "edit_position",
            "edit_contact",
        )  # fmt: skip
        for action in actions:
            since = world.control.get("/health").json()["now"]
            done = world.post("/mutate", {"vendor": "pretix", "changes": 2, "actions": [action]})["changes"]
            assert [change["action"] for change in done] == [action] * 2
            assert set(walk(world, modified_since=since)) == {change["id"] for change in done}


def test_a_split_moves_positions_to_a_new_order_in_one_transaction() -> None:
    with setting(max_commit_lag_s=0, pretix_orders=300) as world:
        asked = {"include_canceled_positions": "true"}

        def held() -> dict[int, tuple[str, int, str]]:
            pages = world.walk_pretix(ORDERS, **asked)
            return {
                p["id"]: (key(order), p["positionid"], p["order"])
                for page in pages
                for order in page.json()["results"]
                for p in order["positions"]
            }

        before, count = held(), len(walk(world))
        since = world.control.get("/health").json()["now"]
        done = world.post("/mutate", {"vendor": "pretix", "changes": 5, "actions": ["split"]})["changes"]
        after = held()
        assert after.keys() == before.keys()
        assert len(walk(world)) == count + 5
        moved = {name for name in after if after[name] != before[name]}
        assert {before[name][0] for name in moved} == {change["id"] for change in done}
        assert [after[name][1] for name in moved] == [before[name][1] for name in moved], "numbers move with them"
        assert all(after[name][0].endswith(f"/{after[name][2]}") for name in moved)
        changed = set(walk(world, modified_since=since))
        assert changed == {after[name][0] for name in moved} | {before[name][0] for name in moved}
        rows = world.rows("pretix/positions")
        assert {row["id"]: row["order_id"] for row in rows.values()} == {
            f"{order.partition('/')[0]}/{name}": order for name, (order, _, _) in after.items()
        }
        orders = {key(o): o for page in world.walk_pretix(ORDERS, **asked) for o in page.json()["results"]}
        for name in changed:
            prices = [float(p["price"]) for p in orders[name]["positions"] if not p["canceled"]]
            assert float(orders[name]["total"]) == pytest.approx(sum(prices))
            if orders[name]["status"] == "p":
                paid = sum(float(payment["amount"]) for payment in orders[name]["payments"])
                assert paid - sum(float(refund["amount"]) for refund in orders[name]["refunds"]) >= sum(prices) - 0.001


def test_a_token_without_order_permission_gets_an_empty_list_and_no_word_why() -> None:
    with setting(max_commit_lag_s=0) as world:
        every = walk(world)
        world.post("/grant", {"events": None, "orders": ["sampleconf"]})
        assert set(walk(world)) == {order for order in every if order.startswith("sampleconf/")}
        world.post("/grant", {"events": ["nordlys", "sampleconf"], "orders": []})
        refused = world.pretix.get(ORDERS).json()
        assert (refused["count"], refused["results"]) == (0, [])
        events = world.pretix.get("/organizers/simorg/events/").json()["results"]
        assert [event["slug"] for event in events] == ["nordlys", "sampleconf"]
        assert world.pretix.get(f"{CONF}/").status_code == 200
        for path in (f"{CONF}/orders/", f"{CONF}/orderpositions/", "/organizers/simorg/events/readers/"):
            answer = world.pretix.get(path)
            assert (answer.status_code, answer.json()) == (
                403,
                {"detail": "You do not have permission to perform this action."},
            )
        world.post("/grant", {})
        assert walk(world) == every


def test_ties_by_last_modified_stand_by_descending_number() -> None:
    with setting(max_commit_lag_s=0, pretix_orders=300) as world:
        rows = world.rows("pretix/orders")
        ties = Counter(row["modified_at"] for row in rows.values())
        instant, count = ties.most_common(1)[0]
        assert count > 20
        since = walk(world, modified_since=instant, ordering="last_modified")[:count]
        oldest_first = [order for order in walk(world) if rows[order]["modified_at"] == instant]
        assert since == oldest_first[::-1]


def test_a_refund_that_is_done_later_leaves_no_stamp() -> None:
    with setting(max_commit_lag_s=0) as world:
        body = {"vendor": "pretix", "actions": ["cancel_refund_open"]}
        order = world.post("/mutate", body)["changes"][0]["id"]
        before = world.rows("pretix/orders")[order]
        assert before["payment_status"] == "FAILED"
        since = world.control.get("/health").json()["now"]
        done = world.post("/mutate", {"vendor": "pretix", "actions": ["refund_done"]})["changes"]
        assert [change["id"] for change in done] == [order]
        after = world.rows("pretix/orders")[order]
        assert (after["payment_status"], after["modified_at"]) == ("REFUNDED", before["modified_at"])
        assert walk(world, modified_since=since) == []


def test_an_order_is_deleted_by_its_id() -> None:
    with setting(max_commit_lag_s=0) as world:
        order = walk(world)[7]
        world.post("/mutate", {"vendor": "pretix", "id": order, "delete": True})
        assert order not in walk(world)
        assert world.rows("pretix/orders")[order]["deleted"]
