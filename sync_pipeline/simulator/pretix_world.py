"""The pretix organizer that is simulated: its history, what can happen to it, and the truth about it."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sync_pipeline.simulator.clock import SimClock
from sync_pipeline.simulator.entities import Change, Doc, Feed
from sync_pipeline.simulator.journal import Journal
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.people import Person, person
from sync_pipeline.simulator.pretix_records import (
    EVENTS,
    ITEMS,
    event_doc,
    item_doc,
    name_parts,
    order_code,
    order_doc,
    payment_doc,
    position_doc,
    refund_doc,
    stamp,
)
from sync_pipeline.simulator.pretix_split import can_be_split, split

VENDOR = "pretix"
_ACTIONS = {
    "new_order": 30,
    "check_in": 20,
    "edit_position": 15,
    "edit_contact": 10,
    "pay": 10,
    "expire": 3,
    "cancel": 3,
    "refund": 6,
    "partial_refund": 4,
    "cancel_position": 4,
    "split": 4,
}
# Asked for by name only: what no change filter can ever show, and what leads up to it.
_ON_REQUEST = {"delete_testmode": 1, "cancel_refund_open": 1, "refund_done": 1, "cancel_paid": 1, "refund_late": 1}
_UNSTAMPED = frozenset({"refund_done", "refund_late", "set_unstamped"})
"""pretix's `OrderRefund.done()` does not touch the order, so its `last_modified` stays."""
_STATES = {
    "pay": 780,
    "open": 60,
    "approval": 10,
    "expire": 40,
    "cancel": 30,
    "refund": 40,
    "partial_refund": 20,
    "denied": 5,
    "cancel_position": 15,
}


class PretixWorld:
    """Orders with their versions; positions, payments and refunds live inside an order, as they do at the vendor."""

    def __init__(self, options: SimulatorOptions, clock: SimClock, journal: Journal) -> None:
        self._options = options
        self._clock = clock
        self._journal = journal
        self._rng = random.Random(f"{options.seed}/pretix")
        self.orders = Feed()
        start = clock.start.replace(microsecond=0)
        self.events = {event["slug"]: event for event in (event_doc(index, start) for index in range(len(EVENTS)))}
        self.items = {EVENTS[i][0]: [item_doc(i, plan) for plan in ITEMS] for i in range(len(EVENTS))}
        self.items_modified = dict.fromkeys(self.items, start)
        self.offsets = {slug: offset for slug, _, _, offset in EVENTS}
        self.malformed_positions: dict[str, str] = {}
        self._people = 0
        self._positions = 23_000
        self._fill(start)

    def _fill(self, start: datetime) -> None:
        total = self._options.pretix_orders
        span = self._options.history_days * 86_400
        for number in range(total):
            created = start - timedelta(seconds=span - span * number / max(total, 1) - 1)
            key = self._create(created, 0.0, repeat_code=number % 97 == 96)
            wish = self._rng.choices(list(_STATES), weights=list(_STATES.values()))[0]
            changed = min(created + timedelta(seconds=self._rng.uniform(1, 86_400)), start - timedelta(seconds=1))
            if total // 3 <= number < total // 3 + total // 10:
                changed = start - timedelta(seconds=span // 2)  # one bulk edit: a tie wider than a page
            changed = max(created, changed)
            doc = self.orders.entities[key].latest.doc
            assert doc is not None
            doc["testmode"] = number % 60 == 59
            if wish not in ("open", "approval", "denied"):
                if wish in ("refund", "partial_refund", "cancel_position"):
                    self._edit("pay", doc, changed)
                self._edit(wish, doc, changed)
            else:
                doc["require_approval"] = wish != "open"
                doc["status"] = "c" if wish == "denied" else "n"
            doc["last_modified"] = stamp(changed, self.offsets[doc["event"]])
            self.orders.entities[key].latest.changed = changed

    def _create(self, created: datetime, visible_at: float, *, repeat_code: bool = False) -> str:
        rng = self._rng
        slug = rng.choice(list(self.events))
        code = self._new_code(slug, repeat=repeat_code)
        self._people += 1
        buyer = person(rng, self._people, self._options.canary)
        positions: list[Doc] = []
        for _ in range(rng.choices((1, 2, 3, 4), weights=(45, 30, 15, 10))[0]):
            item = rng.choices(self.items[slug], weights=[plan.weight for plan in ITEMS])[0]
            self._people += 1
            holder = person(rng, self._people, self._options.canary) if item["admission"] else None
            main = self._position(code, positions, item, None, holder)
            if item["admission"] and rng.random() < 0.15:
                self._position(code, positions, self.items[slug][4], main["id"], None)
        offset = self.offsets[slug]
        order = order_doc(
            code=code,
            slug=slug,
            buyer=buyer,
            created=stamp(created, offset),
            expires=stamp(created + timedelta(days=14), offset),
            positions=positions,
        )
        self.orders.put(f"{slug}/{code}", order, created, visible_at)
        return f"{slug}/{code}"

    def _position(self, code: str, positions: list[Doc], item: Doc, addon_to: int | None, holder: Person | None) -> Doc:
        self._positions += 1
        variations = item["variations"]
        doc = position_doc(
            pk=self._positions,
            code=code,
            positionid=len(positions) + 1,
            item=item,
            variation=self._rng.choice(variations)["id"] if variations else None,
            addon_to=addon_to,
            holder=holder,
            note=holder.note if holder else "",
            rng=self._rng,
        )
        positions.append(doc)
        return doc

    def _new_code(self, slug: str, *, repeat: bool) -> str:
        """A code that is new in this event. Some exist in another event too: only event and code together are a key."""
        if repeat:
            for key in self.orders.entities:
                code = key.partition("/")[2]
                if f"{slug}/{code}" not in self.orders.entities:
                    return code
        while f"{slug}/{(code := order_code(self._rng))}" in self.orders.entities:
            pass
        return code

    def break_positions(self, kinds: dict[str, str]) -> None:
        """Show these positions broken, in their orders too: `{event}/{id}` to a kind of malformation."""
        self.malformed_positions = kinds

    def has_broken_position(self, order: Doc) -> bool:
        broken = self.malformed_positions
        return bool(broken) and any(position_key(order, position) in broken for position in order["positions"])

    # -- what can happen -------------------------------------------------------------------------------------------

    def mutate(self, changes: int, actions: Sequence[str] | None = None) -> list[Change]:
        """Let `changes` things happen now, to different orders. Fewer when nothing suitable is left."""
        known = {**_ACTIONS, **_ON_REQUEST}
        weights = {name: known[name] for name in actions if name in known} if actions else _ACTIONS
        if not weights:
            raise KeyError("no such action")
        done: list[Change] = []
        touched: set[str] = set()
        for _ in range(changes * 20 + 200):
            if len(done) >= changes:
                break
            action = self._rng.choices(list(weights), weights=list(weights.values()))[0]
            now, visible_at = self.moment()
            if action == "new_order":
                key = self._create(now, visible_at)
                done.append(self._journal.note(VENDOR, "orders", key, action, now, visible_at))
                continue
            key = self._rng.choice(list(self.orders.entities) or [""])
            doc = self.orders.entities[key].latest.doc if key in self.orders.entities else None
            if key in touched or doc is None or not _possible(action, doc):
                continue
            touched.add(key)
            if action == "delete_testmode":
                done.append(self.remove(key))
            elif action == "split":
                done.append(self.split(key, now, visible_at))
            else:
                edit = self._editor(action, now)
                done.append(self.apply(key, edit, action, now, visible_at))
        return done

    def remove(self, key: str) -> Change:
        """Delete an order now."""
        now, visible_at = self.moment()
        self.orders.put(key, None, now, visible_at)
        return self._journal.note(VENDOR, "orders", key, "delete_testmode", now, visible_at)

    def _editor(self, action: str, now: datetime) -> Callable[[Doc], object]:
        return lambda doc: self._edit(action, doc, now)

    def apply(self, key: str, edit: Callable[[Doc], object], action: str, now: datetime, visible_at: float) -> Change:
        """Write a new version of one order and note the change. Some changes leave its `last_modified` as it is."""
        latest = self.orders.entities[key].latest
        doc = copy.deepcopy(latest.doc)
        assert doc is not None
        edit(doc)
        if action in _UNSTAMPED:
            self.orders.put(key, doc, latest.changed, visible_at)
        else:
            doc["last_modified"] = stamp(now, self.offsets[doc["event"]])
            self.orders.put(key, doc, now, visible_at)
        return self._journal.note(VENDOR, "orders", key, action, now, visible_at)

    def split(self, key: str, now: datetime, visible_at: float) -> Change:
        """Move an order's last ticket to a new order, in one transaction. The new one is stamped first."""
        doc = self.orders.entities[key].latest.doc
        assert doc is not None
        slug, offset = doc["event"], self.offsets[doc["event"]]
        code = self._new_code(slug, repeat=False)
        left, made = split(doc, code=code, when=stamp(now, offset), rng=self._rng)
        later = max(now, self._clock.now())
        made["last_modified"], left["last_modified"] = stamp(now, offset), stamp(later, offset)
        self.orders.put(f"{slug}/{code}", made, now, visible_at)
        self.orders.put(key, left, later, visible_at)
        self._journal.note(VENDOR, "orders", f"{slug}/{code}", "split_off", now, visible_at)
        return self._journal.note(VENDOR, "orders", key, "split", later, visible_at)

    def _edit(self, action: str, doc: Doc, now: datetime) -> None:
        when = stamp(now, self.offsets[doc["event"]])
        total = Decimal(doc["total"])
        live = [position for position in doc["positions"] if not position["canceled"]]
        if action == "pay":
            doc["status"] = "p"
            doc["payments"].append(
                payment_doc(len(doc["payments"]) + 1, total, "confirmed", when, self._rng.choice(("stripe", "manual")))
            )
        elif action == "expire":
            doc["status"] = "e"
        elif action == "refund_done":
            for refund in doc["refunds"]:
                refund.update(state="done", execution_date=when)
            doc["payments"][-1]["state"] = "refunded"
        elif action == "refund_late":
            self._refund(doc, total, when)
        elif action in ("cancel", "refund", "partial_refund", "cancel_refund_open", "cancel_paid"):
            if action not in ("cancel", "cancel_paid") and doc["payments"]:
                self._refund(doc, total / 2 if action == "partial_refund" else total, when)
            if action == "cancel_refund_open":
                doc["refunds"][-1].update(state="created", execution_date=None)
                doc["payments"][-1]["state"] = "confirmed"
            if action != "partial_refund":
                doc["status"] = "c"
                doc["cancellation_date"] = when
                for position in live:
                    position["canceled"] = True
        elif action == "cancel_position" and len(live) > 1:
            live[-1]["canceled"] = True
            self._refund(doc, Decimal(live[-1]["price"]), when)
            doc["total"] = f"{total - Decimal(live[-1]['price']):.2f}"
        elif action == "check_in" and live:
            position = self._rng.choice(live)
            position["checkins"].append({"list": 1, "datetime": when, "type": "entry", "gate": None})
        elif action == "edit_position" and live:
            self._people += 1
            who = person(self._rng, self._people, self._options.canary)
            position = self._rng.choice(live)
            position.update(attendee_name=who.name, attendee_email=who.email)
            position["attendee_name_parts"] = name_parts(who)
        elif action == "edit_contact":
            self._people += 1
            who = person(self._rng, self._people, self._options.canary)
            doc.update(email=who.email, phone=who.phone or None)

    def _refund(self, doc: Doc, amount: Decimal, when: str) -> None:
        if not doc["payments"] or amount <= 0:
            return
        payment = doc["payments"][-1]
        doc["refunds"].append(refund_doc(len(doc["refunds"]) + 1, amount, "done", when, payment))
        if amount >= Decimal(payment["amount"]):
            payment["state"] = "refunded"

    def moment(self) -> tuple[datetime, float]:
        """`last_modified` of a change made now, and when its transaction commits and the change is seen."""
        seconds = self._clock.seconds()
        delay = self._rng.uniform(0.0, self._options.max_commit_lag_s)
        return self._clock.at(seconds).astimezone(UTC), seconds + delay


def position_key(order: Doc, position: Doc) -> str:
    """A position's id stays its own when the order is split; its number within the order is used again."""
    return f"{order['event']}/{position['id']}"


def _possible(action: str, doc: Doc) -> bool:
    status = doc["status"]
    if action == "split":
        return can_be_split(doc)
    live = [position for position in doc["positions"] if not position["canceled"]]
    if action == "delete_testmode":
        return bool(doc["testmode"])
    if action in ("pay", "expire", "cancel"):
        return status == "n" and not doc["require_approval"]
    if action == "refund_done":
        return status == "c" and any(refund["state"] == "created" for refund in doc["refunds"])
    if action in ("refund", "partial_refund", "cancel_refund_open", "cancel_paid", "refund_late"):
        paid = [payment for payment in doc["payments"] if payment["state"] == "confirmed"]
        before = "c" if action == "refund_late" else "p"
        return status == before and bool(paid) and not doc["refunds"] and Decimal(doc["total"]) > 0
    if action == "cancel_position":
        return status == "p" and len(live) > 1 and not doc["refunds"] and live[-1]["addon_to"] is None
    if action in ("check_in", "edit_position"):
        return status == "p" and bool(live)
    return action == "edit_contact"
