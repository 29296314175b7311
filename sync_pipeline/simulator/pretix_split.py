"""An order split in two, as pretix does it: positions move to a new order and keep their id and their number.

Source: pretix/base/services/orders.py, OrderChangeManager.split and _create_split_order.
"""

from __future__ import annotations

import copy
import random
from decimal import Decimal

from sync_pipeline.simulator.entities import Doc
from sync_pipeline.simulator.pretix_records import payment_doc, refund_doc, token


def parcel(doc: Doc) -> list[Doc]:
    """The positions that would move: the last ticket with its add-ons; none when it is all there is."""
    live = [position for position in doc["positions"] if not position["canceled"]]
    tickets = [position for position in live if position["addon_to"] is None]
    if len(tickets) < 2:
        return []
    last = tickets[-1]
    return [position for position in live if last["id"] in (position["id"], position["addon_to"])]


def can_be_split(doc: Doc) -> bool:
    return doc["status"] in ("n", "p") and not doc["refunds"] and not doc["require_approval"] and bool(parcel(doc))


def split(doc: Doc, *, code: str, when: str, rng: random.Random) -> tuple[Doc, Doc]:
    """The order that is left, and the new one. Money that was paid follows the tickets."""
    left, moved = copy.deepcopy(doc), copy.deepcopy(parcel(doc))
    gone = {position["id"] for position in moved}
    left["positions"] = [position for position in left["positions"] if position["id"] not in gone]
    for position in moved:
        position.update(order=code, secret=token(rng, 32))
    worth = sum((Decimal(position["price"]) for position in moved), Decimal(0))
    left["total"] = f"{Decimal(doc['total']) - worth:.2f}"
    made = copy.deepcopy(doc)
    made.update(
        code=code,
        secret=code.lower() * 3,
        datetime=when,
        total=f"{worth:.2f}",
        positions=moved,
        payments=[],
        refunds=[],
    )
    if doc["status"] == "p" and worth > 0:
        made["payments"] = [payment_doc(1, worth, "confirmed", when, "offsetting")]
        left["refunds"].append(refund_doc(len(left["refunds"]) + 1, worth, "done", when, made["payments"][0]))
    return left, made
