from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from sync_pipeline_tests.integration.simulator_setting import Setting, setting

ORDERS = "/organizations/1001/orders/"
ATTENDEES = "/organizations/1001/attendees/"


@pytest.fixture(scope="module")
def still() -> Iterator[Setting]:
    """A world that no test changes."""
    with setting(max_visibility_s=0) as running:
        yield running


def error(answer: httpx.Response) -> tuple[int, str]:
    body = answer.json()
    assert body["status_code"] == answer.status_code
    assert body["error_description"]
    return answer.status_code, body["error"]


def test_credentials(still: Setting) -> None:
    base = still.server.eventbrite_url
    with httpx.Client(base_url=base) as bare:
        assert error(bare.get("/users/me/organizations/")) == (401, "NO_AUTH")
        wrong = {"Authorization": "Bearer nonsense"}
        assert error(bare.get("/users/me/organizations/", headers=wrong)) == (401, "INVALID_AUTH")
        by_query = bare.get("/users/me/organizations/", params={"token": "sim-eventbrite-token"})
        assert by_query.json()["organizations"][0]["id"] == "1001"


def test_refusals(still: Setting) -> None:
    get = still.eventbrite.get
    assert error(get("/organizations/77/orders/")) == (403, "NOT_AUTHORIZED")
    assert error(get("/events/1/attendees/")) == (404, "NOT_FOUND")
    assert error(get("/orders/1/")) == (404, "NOT_FOUND")
    assert error(get("/events/search/")) == (404, "NOT_FOUND")
    assert error(get(ORDERS, params={"changed_since": "2026-01-01T00:00:00+00:00"})) == (400, "ARGUMENTS_ERROR")
    assert error(get(ORDERS, params={"status": "odd"})) == (400, "ARGUMENTS_ERROR")
    assert error(get(ORDERS, params={"page": "9999"})) == (400, "BAD_PAGE")
    assert error(still.eventbrite.post(ORDERS)) == (405, "METHOD_NOT_ALLOWED")


def test_a_missing_slash_is_moved_permanently(still: Setting) -> None:
    answer = still.eventbrite.get(ORDERS.rstrip("/"), params={"page_size": "1"})
    assert error(answer) == (301, "PERMANENTLY_MOVED")
    assert answer.headers["Location"].endswith(ORDERS + "?page_size=1")


@pytest.mark.parametrize(("path", "feed"), [(ORDERS, "orders"), (ATTENDEES, "attendees")])
def test_a_walk_shows_everything_once(still: Setting, path: str, feed: str) -> None:
    pages = list(still.walk_eventbrite(path))
    ids = [record["id"] for page in pages for record in page[feed]]
    assert len(ids) == len(set(ids)) == pages[0]["pagination"]["object_count"]
    assert set(ids) == set(still.rows(f"eventbrite/{feed}"))
    assert [page["pagination"]["page_number"] for page in pages] == list(range(1, len(pages) + 1))
    assert {page["pagination"]["page_count"] for page in pages} == {len(pages)}


def test_the_last_page_still_has_a_continuation_which_yields_nothing(still: Setting) -> None:
    *_, last = still.walk_eventbrite(ORDERS)
    after = still.eventbrite.get(ORDERS, params={"continuation": last["pagination"]["continuation"]}).json()
    assert after["orders"] == []
    assert after["pagination"]["has_more_items"] is False
    assert after["pagination"]["continuation"]


def test_a_continuation_belongs_to_one_request(still: Setting) -> None:
    token = still.eventbrite.get(ORDERS).json()["pagination"]["continuation"]
    bad = (400, "BAD_CONTINUATION_TOKEN")
    assert error(still.eventbrite.get(ORDERS, params={"continuation": "garbage!"})) == bad
    assert error(still.eventbrite.get(ORDERS, params={"continuation": token[:-3] + "AAA"})) == bad
    assert error(still.eventbrite.get(ATTENDEES, params={"continuation": token})) == bad
    assert error(still.eventbrite.get(ORDERS, params={"continuation": token, "status": "active"})) == bad


def test_pages_are_never_longer_than_fifty(still: Setting) -> None:
    assert len(still.eventbrite.get(ORDERS, params={"page_size": "200"}).json()["orders"]) == 50
    assert len(still.eventbrite.get(ORDERS, params={"page_size": "7"}).json()["orders"]) == 7


def test_order_of_a_list_says_nothing_about_changes_and_stays(still: Setting) -> None:
    first, again = (still.eventbrite.get(ORDERS).json()["orders"] for _ in range(2))
    assert first == again
    changed = [record["changed"] for record in first]
    assert changed not in (sorted(changed), sorted(changed, reverse=True))


def test_changed_since_is_inclusive_to_the_second(still: Setting) -> None:
    rows = still.rows("eventbrite/orders").values()
    instant = sorted(row["modified_at"] for row in rows)[len(rows) // 2]
    later = (datetime.fromisoformat(instant) + timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")

    def since(moment: str) -> set[str]:
        return {o["id"] for page in still.walk_eventbrite(ORDERS, changed_since=moment) for o in page["orders"]}

    assert since(instant) == {row["id"] for row in rows if row["modified_at"] >= instant}
    assert since(instant) - since(later) == {row["id"] for row in rows if row["modified_at"] == instant}
    assert since(later) < since(instant)


def test_more_records_than_a_page_share_one_second() -> None:
    with setting(eventbrite_orders=900, pretix_orders=0) as world:
        ties = Counter(row["modified_at"] for row in world.rows("eventbrite/orders").values())
        instant, count = ties.most_common(1)[0]
        assert count > 50
        seen = {
            record["id"]
            for page in world.walk_eventbrite(ORDERS, changed_since=instant)
            for record in page["orders"]
            if record["changed"] == instant
        }
        assert len(seen) == count


def test_last_item_seen_narrows_the_boundary_second_of_event_lists() -> None:
    with setting(eventbrite_orders=900, pretix_orders=0) as world:
        rows = world.rows("eventbrite/orders").values()
        (event, instant), count = Counter((r["event_id"], r["modified_at"]) for r in rows).most_common(1)[0]
        tied = sorted(int(r["id"]) for r in rows if (r["event_id"], r["modified_at"]) == (event, instant))
        assert count > 2
        query = {"changed_since": instant, "last_item_seen": str(tied[1])}
        found = [o for page in world.walk_eventbrite(f"/events/{event}/orders/", **query) for o in page["orders"]]
        at_boundary = sorted(int(o["id"]) for o in found if o["changed"] == instant)
        assert at_boundary == tied[2:]
        assert any(o["changed"] > instant for o in found)


def test_expansions_carry_what_the_other_lists_show(still: Setting) -> None:
    attendees = {a["id"]: a for page in still.walk_eventbrite(ATTENDEES) for a in page["attendees"]}
    order = still.eventbrite.get(ORDERS, params={"expand": "attendees,event"}).json()["orders"][0]
    assert order["attendees"]
    assert all(attendees[attendee["id"]] == attendee for attendee in order["attendees"])
    assert order["event"]["id"] == order["event_id"]
    assert still.eventbrite.get(f"/orders/{order['id']}/", params={"expand": "attendees,event"}).json() == order
    assert "attendees" not in still.eventbrite.get(f"/orders/{order['id']}/").json()


def test_ticket_classes_and_events(still: Setting) -> None:
    events = still.eventbrite.get("/organizations/1001/events/").json()["events"]
    assert len(events) == 6
    classes = still.eventbrite.get(f"/events/{events[0]['id']}/ticket_classes/").json()["ticket_classes"]
    assert {kind["category"] for kind in classes} == {"admission", "add_on", "donation"}
    catalog = still.control.get("/catalog").json()["eventbrite"]
    assert any(entry["tier"] is None for entry in catalog)
    assert {kind["id"] for kind in classes} <= {entry["ticket_class_id"] for entry in catalog}


def test_the_world_holds_every_status_and_awkward_people() -> None:
    with setting(eventbrite_orders=800, pretix_orders=0) as world:
        orders = world.rows("eventbrite/orders").values()
        assert {row["vendor_status"] for row in orders} == {"started", "pending", "placed", "abandoned", "refunded"}
        assert {row["payment_status"] for row in orders} == {"PENDING", "COMPLETED", "REFUNDED", "FAILED"}
        stale = [r for r in orders if (r["vendor_status"], r["payment_status"]) == ("placed", "REFUNDED")]
        assert stale, "some orders go on saying placed after their refund"
        attendees = [a for page in world.walk_eventbrite(ATTENDEES) for a in page["attendees"]]
        text = "".join(attendee["profile"]["name"] for attendee in attendees)
        assert any(ord(letter) > 0xFFFF for letter in text)
        assert any(0x300 <= ord(letter) < 0x370 for letter in text), "decomposed accents"
        assert any("o'brien" in attendee["profile"]["email"] for attendee in attendees)
        assert any(a["profile"]["name"] == "Info Requested" for a in attendees)
        yen = next(a["costs"]["gross"] for a in attendees if a["costs"]["gross"]["currency"] == "JPY")
        assert "." not in yen["major_value"]


def test_some_refunds_are_shown_in_barcodes_only() -> None:
    with setting(eventbrite_orders=800, pretix_orders=0) as world:
        world.post("/mutate", {"vendor": "eventbrite", "changes": 40, "actions": ["refund", "partial_refund"]})
        truth = world.rows("eventbrite/attendees")
        attendees = [a for page in world.walk_eventbrite(ATTENDEES) for a in page["attendees"]]
        unflagged = [
            a for a in attendees if not a["refunded"] and {code["status"] for code in a["barcodes"]} == {"refunded"}
        ]
        assert {truth[a["id"]]["payment_status"] for a in unflagged} == {"REFUNDED"}
        assert {a["cancelled"] for a in unflagged} == {True, False}, "some stay as they were else"
        flagged = [a for a in attendees if a["refunded"]]
        assert len(flagged) > len(unflagged)


def test_a_change_is_seen_late_and_stamped_early() -> None:
    with setting(max_visibility_s=300) as world:
        before = world.eventbrite.get(ORDERS).json()["pagination"]["object_count"]
        done = world.post("/mutate", {"vendor": "eventbrite", "changes": 1, "actions": ["new_order"]})["changes"][0]
        path = f"/orders/{done['id']}/"
        assert done["at"] < done["visible_at"]
        assert error(world.eventbrite.get(path)) == (404, "NOT_FOUND")
        assert world.eventbrite.get(ORDERS).json()["pagination"]["object_count"] == before
        assert world.rows("eventbrite/orders")[done["id"]]["visible"] is False
        assert world.control.get("/stats").json()["pending_visibility"] > 0
        world.advance(300)
        order = world.eventbrite.get(path).json()
        assert datetime.fromisoformat(order["changed"]) == datetime.fromisoformat(done["at"])
        since = {"changed_since": order["changed"]}
        assert [o["id"] for o in world.eventbrite.get(ORDERS, params=since).json()["orders"]] == [done["id"]]
        assert world.rows("eventbrite/orders")[done["id"]]["visible"] is True
        assert world.control.get("/stats").json()["pending_visibility"] == 0


def test_until_then_the_old_state_is_shown() -> None:
    with setting(max_visibility_s=300) as world:
        key = next(iter(world.rows("eventbrite/orders")))
        old = world.eventbrite.get(f"/orders/{key}/").json()
        world.post("/mutate", {"vendor": "eventbrite", "id": key, "set": {"email": "new@example.com"}})
        assert world.eventbrite.get(f"/orders/{key}/").json() == old
        assert world.rows("eventbrite/orders")[key]["email"] == "new@example.com"
        world.advance(301)
        assert world.eventbrite.get(f"/orders/{key}/").json()["email"] == "new@example.com"


def test_a_change_behind_the_walk_is_missed_by_it_and_found_by_the_next() -> None:
    with setting(max_visibility_s=0) as world:
        start: str = world.control.get("/health").json()["now"][:19] + "Z"
        world.advance(2)
        ids = [o["id"] for page in world.walk_eventbrite(ORDERS) for o in page["orders"]]
        # Two recent changes; the walk over them is interrupted after the first.
        early, late, middle = ids[3], ids[200], ids[100]
        for key in (middle, late):
            world.post("/mutate", {"vendor": "eventbrite", "id": key, "set": {}})
        pages = world.walk_eventbrite(ORDERS, changed_since=start, page_size="1")
        seen = [next(pages)["orders"][0]["id"]]
        world.post("/mutate", {"vendor": "eventbrite", "id": early, "set": {}})
        seen += [o["id"] for page in pages for o in page["orders"]]
        assert seen == [middle, late]
        again = [o["id"] for o in world.eventbrite.get(ORDERS, params={"changed_since": start}).json()["orders"]]
        assert again == [early, middle, late]


def test_the_hourly_limit_slides_and_breaches_are_counted() -> None:
    with setting(eventbrite_per_hour=5, eventbrite_per_day=8) as world:
        statuses: list[Any] = [world.eventbrite.get(ORDERS).status_code for _ in range(7)]
        assert statuses == [200] * 5 + [429] * 2
        refusal = world.eventbrite.get(ORDERS)
        assert error(refusal) == (429, "HIT_RATE_LIMIT")
        assert "Retry-After" not in refusal.headers
        counts = world.stats("eventbrite")
        assert (counts["requests"], counts["ok"], counts["answers_429"], counts["limit_breaches"]) == (8, 5, 3, 3)
        world.advance(3601)
        statuses = [world.eventbrite.get(ORDERS).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429], "the daily limit counts on"
        world.post("/reset_stats", {})
        assert world.stats("eventbrite")["requests"] == 0
        assert world.eventbrite.get(ORDERS).status_code == 429, "counts are forgotten, windows are not"
        world.advance(86_401)
        assert world.eventbrite.get(ORDERS).status_code == 200


def test_every_action_changes_what_it_names() -> None:
    with setting(eventbrite_orders=400, max_visibility_s=0) as world:
        for action in ("check_in", "edit_attendee", "edit_contact", "refund", "partial_refund", "cancel", "complete"):
            world.advance(5)
            since = world.control.get("/health").json()["now"]
            body = {"vendor": "eventbrite", "changes": 2, "actions": [action]}
            done = world.post("/mutate", body)["changes"]
            assert [change["action"] for change in done] == [action] * 2
            for change in done:
                row = world.rows(f"eventbrite/{change['feed']}")[change["id"]]
                assert row["modified_at"][:19] >= since[:19]
        kind = world.post("/mutate", {"vendor": "eventbrite", "actions": ["rename_ticket_class"]})["changes"][0]
        assert kind["feed"] == "ticket_classes"
