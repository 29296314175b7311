"""The Eventbrite account that is simulated: its history, what can happen to it, and the truth about it."""

from __future__ import annotations

import copy
import random
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sync_pipeline.simulator.clock import SimClock, second_z
from sync_pipeline.simulator.entities import Change, Doc, Feed
from sync_pipeline.simulator.eventbrite_records import (
    CLASSES,
    EVENTS,
    attendee_doc,
    event_doc,
    order_doc,
    profile,
    ticket_class_doc,
)
from sync_pipeline.simulator.journal import Journal, lag
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.people import person

VENDOR = "eventbrite"
# Attempted in this proportion by an untargeted mutation.
_ACTIONS = {
    "new_order": 30,
    "check_in": 20,
    "edit_attendee": 15,
    "edit_contact": 10,
    "refund": 8,
    "partial_refund": 5,
    "cancel": 4,
    "complete": 5,
    "abandon": 2,
    "rename_ticket_class": 1,
}
_STATUSES = {
    "placed": 800,
    "pending": 35,
    "started": 25,
    "abandoned": 30,
    "refunded": 20,
    "placed_all_refunded": 25,
    "placed_some_refunded": 35,
    "placed_all_cancelled": 20,
    "placed_checked_in": 110,
}


class EventbriteWorld:
    """Orders and attendees with their versions. One change touches an order and its attendees at one instant."""

    def __init__(self, options: SimulatorOptions, clock: SimClock, journal: Journal) -> None:
        self._options = options
        self._clock = clock
        self._journal = journal
        self._rng = random.Random(f"{options.seed}/eventbrite")
        self.orders = Feed()
        self.attendees = Feed()
        self.order_attendees: dict[str, list[str]] = {}
        start = clock.start.replace(microsecond=0)
        self.events: dict[str, Doc] = {}
        self.ticket_classes: dict[str, list[Doc]] = {}
        for index in range(len(EVENTS)):
            event = event_doc(index, start)
            self.events[event["id"]] = event
            self.ticket_classes[event["id"]] = [ticket_class_doc(event, plan) for plan in CLASSES]
        self._people = 0
        self._attendees_made = 0
        self._fill(start)

    def _fill(self, start: datetime) -> None:
        total = self._options.eventbrite_orders
        span = self._options.history_days * 86_400
        for number in range(total):
            created = start - timedelta(seconds=span - int(span * number / max(total, 1)) - 1)
            wish = self._rng.choices(list(_STATUSES), weights=list(_STATUSES.values()))[0]
            changed = created + timedelta(seconds=self._rng.randrange(0, 86_400))
            if total // 3 <= number < total // 3 + total // 10:
                # One bulk edit: more records than a page holds share one second.
                changed = start - timedelta(seconds=span // 2)
            order_id = self._create(created, 0.0)
            self._shape(order_id, wish, max(created, min(changed, start - timedelta(seconds=1))))

    def _create(self, created: datetime, visible_at: float, status: str = "placed") -> str:
        rng = self._rng
        event = self.events[rng.choice(list(self.events))]
        order_id = str(4_400_000_000 + 37 * len(self.orders.entities))
        self._people += 1
        buyer = person(rng, self._people, self._options.canary)
        quantity = rng.choices((1, 2, 3, 5), weights=(45, 30, 15, 10))[0]
        shared = rng.random() < 0.6  # buyer-only information: every attendee carries the buyer's profile
        docs = []
        for _ in range(quantity):
            if not shared:
                self._people += 1
            who = buyer if shared else person(rng, self._people, self._options.canary)
            kind = rng.choices(self.ticket_classes[event["id"]], weights=[plan.weight for plan in CLASSES])[0]
            self._attendees_made += 1
            docs.append(
                attendee_doc(
                    attendee_id=str(5_500_000_000 + self._attendees_made),
                    order_id=order_id,
                    event=event,
                    ticket_class=kind,
                    holder=profile(who, rng),
                    note=who.note,
                    created=created,
                    rng=rng,
                )
            )
            kind["quantity_sold"] += 1
        order = order_doc(order_id=order_id, event=event, buyer=buyer, status=status, created=created, attendees=docs)
        self.order_attendees[order_id] = [doc["id"] for doc in docs]
        self.orders.put(order_id, order, created, visible_at)
        for doc in docs:
            self.attendees.put(doc["id"], doc, created, visible_at)
        return order_id

    def _shape(self, order_id: str, wish: str, changed: datetime) -> None:
        """Give a fresh order of the history its final state, as one version visible from the start."""
        order = self.orders.entities[order_id].latest.doc
        docs = [self.attendees.entities[key].latest.doc for key in self.order_attendees[order_id]]
        assert order is not None
        status, _, detail = wish.partition("_")
        order["status"] = status
        chosen = [doc for doc in docs if doc is not None]
        if detail == "some_refunded":
            chosen = chosen[:-1]
        for doc in chosen:
            if status in ("pending", "started"):
                doc["status"] = "Unpaid"
            elif status == "abandoned" or detail == "all_cancelled":
                _void(doc, refunded=False)
            elif status == "refunded" or detail in ("all_refunded", "some_refunded"):
                _void(doc, refunded=True)
            elif detail == "checked_in":
                _check_in(doc, changed)
        order["time_remaining"] = 480 if status == "started" else None
        for feed, doc in [(self.orders, order), *((self.attendees, doc) for doc in chosen)]:
            doc["changed"] = second_z(changed)
            feed.entities[doc["id"]].latest.changed = changed

    # -- what can happen -------------------------------------------------------------------------------------------

    def mutate(self, changes: int, actions: Sequence[str] | None = None) -> list[Change]:
        """Let `changes` things happen now, to different orders. Fewer when nothing suitable is left."""
        weights = {name: weight for name, weight in _ACTIONS.items() if not actions or name in actions}
        if not weights:
            raise KeyError("no such action")
        done: list[Change] = []
        touched: set[str] = set()
        for _ in range(changes * 20 + 200):
            if len(done) >= changes:
                break
            action = self._rng.choices(list(weights), weights=list(weights.values()))[0]
            if action == "new_order":
                done.append(self._new_order())
            elif action == "rename_ticket_class":
                done.append(self._rename())
            else:
                order_id = self._rng.choice(list(self.orders.entities) or [""])
                if order_id in touched or order_id not in self.orders.entities:
                    continue
                change = self._happen(action, order_id)
                if change:
                    touched.add(order_id)
                    done.append(change)
        return done

    def _new_order(self) -> Change:
        now, visible_at = self.moment()
        order_id = self._create(now, visible_at, self._rng.choice(("placed", "placed", "placed", "pending")))
        return self._journal.note(VENDOR, "orders", order_id, "new_order", now, visible_at)

    def _rename(self) -> Change:
        """Only the class changes: attendees keep the name they registered under."""
        now, visible_at = self.moment()
        kind = self._rng.choice(self.ticket_classes[self._rng.choice(list(self.events))])
        kind["name"] = kind["display_name"] = f"{kind['name'].split(' – ')[0]} – {now:%H:%M:%S}"
        return self._journal.note(VENDOR, "ticket_classes", kind["id"], "rename_ticket_class", now, visible_at)

    def _happen(self, action: str, order_id: str) -> Change | None:
        order = self.orders.entities[order_id].latest.doc
        docs = [self.attendees.entities[key].latest.doc for key in self.order_attendees[order_id]]
        live = [doc for doc in docs if doc is not None and not doc["cancelled"] and not _given_back(doc)]
        if order is None:
            return None
        now, visible_at = self.moment()
        status = order["status"]
        if action in ("check_in", "edit_attendee"):
            if status != "placed" or not live:
                return None
            doc = self._rng.choice(live)
            edit = (lambda new: _check_in(new, now)) if action == "check_in" else self._edit_holder
            return self.apply("attendees", doc["id"], edit, action, now, visible_at)
        if action == "edit_contact":
            return self._edit_contact(order_id, now, visible_at)
        if action in ("refund", "partial_refund", "cancel"):
            whole = len(live) == len(docs)
            if status != "placed" or not live or (action == "cancel" and not whole):
                return None
            if action == "partial_refund" and len(live) < 2:
                return None
            for doc in live[:1] if action == "partial_refund" else live:
                self._write(
                    "attendees", doc["id"], lambda new: _void(new, refunded=action != "cancel"), now, visible_at
                )
            # A refund moves the order's `changed`; its status goes on saying `placed` more often than not.
            says = "refunded" if action == "refund" and whole and self._rng.random() < 0.3 else status
            return self.apply("orders", order_id, lambda new: new.update(status=says), action, now, visible_at)
        if status not in ("pending", "started"):
            return None
        if action == "complete":
            for doc in live:
                self._write("attendees", doc["id"], lambda new: new.update(status="Attending"), now, visible_at)
            says = "placed"
        else:
            for doc in live:
                self._write("attendees", doc["id"], lambda new: _void(new, refunded=False), now, visible_at)
            says = "abandoned"
        done = {"status": says, "time_remaining": None}
        return self.apply("orders", order_id, lambda new: new.update(done), action, now, visible_at)

    def _edit_contact(self, order_id: str, now: datetime, visible_at: float) -> Change:
        self._people += 1
        who = person(self._rng, self._people, self._options.canary)
        before = self.orders.entities[order_id].latest.doc
        assert before is not None
        for key in self.order_attendees[order_id]:
            doc = self.attendees.entities[key].latest.doc
            if doc is not None and doc["profile"]["email"] == before["email"]:
                self._write("attendees", key, lambda new: new["profile"].update(email=who.email), now, visible_at)
        values = {"name": who.name, "first_name": who.first, "last_name": who.last, "email": who.email}
        return self.apply("orders", order_id, lambda new: new.update(values), "edit_contact", now, visible_at)

    def _edit_holder(self, doc: Doc) -> None:
        self._people += 1
        who = person(self._rng, self._people, self._options.canary)
        doc["profile"] = {**profile(who, self._rng), "email": who.email}
        doc["answers"][0]["answer"] = who.note

    def apply(
        self, feed: str, key: str, edit: Callable[[Doc], object], action: str, now: datetime, visible_at: float
    ) -> Change:
        """Write a new version of one record and note the change."""
        self._write(feed, key, edit, now, visible_at)
        return self._journal.note(VENDOR, feed, key, action, now, visible_at)

    def _write(self, feed: str, key: str, edit: Callable[[Doc], object], now: datetime, visible_at: float) -> None:
        records = self.orders if feed == "orders" else self.attendees
        doc = copy.deepcopy(records.entities[key].latest.doc)
        assert doc is not None
        edit(doc)
        doc["changed"] = second_z(now)
        records.put(key, doc, now, visible_at)

    def moment(self) -> tuple[datetime, float]:
        """Now at this vendor's resolution (a second), and when a change of now will be seen."""
        seconds = self._clock.seconds()
        delay = lag(self._rng, self._options.max_visibility_s)
        return self._clock.at(seconds).replace(microsecond=0), seconds + delay


BARCODE_ONLY = 6
"""Of so many refunds one is shown in the ticket's barcodes only, and of two of these one leaves the ticket as it was else."""


def _given_back(doc: Doc) -> bool:
    return doc["refunded"] or all(code["status"] == "refunded" for code in doc["barcodes"])


def _void(doc: Doc, *, refunded: bool) -> None:
    chance = zlib.crc32(doc["id"].encode()) % (2 * BARCODE_ONLY) if refunded else 2
    if chance != 0:
        doc["cancelled"] = True
        doc["status"] = "Not Attending"
    doc["refunded"] = refunded and chance > 1
    doc["barcodes"] = [{**code, "status": "refunded" if refunded else code["status"]} for code in doc["barcodes"]]


def _check_in(doc: Doc, at: datetime) -> None:
    doc["checked_in"] = True
    doc["status"] = "Checked In"
    doc["barcodes"] = [{**code, "status": "used", "changed": second_z(at)} for code in doc["barcodes"]]
