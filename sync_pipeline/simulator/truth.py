"""What is true at the vendors now, whether or not it can be seen yet. A second reading of saas.md §8."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from sync_pipeline.simulator.clock import micro_z
from sync_pipeline.simulator.entities import Doc, Entity, Feed
from sync_pipeline.simulator.eventbrite_world import EventbriteWorld
from sync_pipeline.simulator.pretix_world import PretixWorld, position_key

PENDING, COMPLETED, REFUNDED, FAILED = "PENDING", "COMPLETED", "REFUNDED", "FAILED"


def eventbrite_order_status(status: str, attendees: list[Doc]) -> str:
    """The order's own word first, but `placed` says nothing once every attendee is refunded or cancelled."""
    if status in ("started", "pending"):
        return PENDING
    if status == "abandoned":
        return FAILED
    if status in ("refunded", "deleted", "transferred"):
        return REFUNDED
    void = [doc for doc in attendees if gone_back(doc) or doc["cancelled"]]
    if attendees and len(void) == len(attendees):
        return REFUNDED if any(gone_back(doc) for doc in void) else FAILED
    return COMPLETED


def gone_back(doc: Doc) -> bool:
    """A ticket's money was given back: its flag says so, or no barcode of it stands any longer."""
    return doc["refunded"] or {code["status"] for code in doc.get("barcodes", ())} == {"refunded"}


def eventbrite_attendee_status(doc: Doc) -> str:
    if gone_back(doc):
        return REFUNDED
    if doc["cancelled"]:
        return FAILED
    return PENDING if doc["status"] == "Unpaid" else COMPLETED


def pretix_order_status(doc: Doc) -> str:
    """A cancelled order is refunded when money that was received has gone back; else it came to nothing."""
    if doc["status"] == "n":
        return PENDING
    if doc["status"] == "p":
        return COMPLETED
    if doc["status"] == "e":
        return FAILED
    received = sum(Decimal(p["amount"]) for p in doc["payments"] if p["state"] in ("confirmed", "refunded"))
    returned = sum(Decimal(r["amount"]) for r in doc["refunds"] if r["state"] == "done")
    return REFUNDED if received > 0 and returned >= received else FAILED


def pretix_position_status(order: Doc, position: Doc) -> str:
    """A position shares its order's fate, unless it alone was cancelled out of a living order."""
    fate = pretix_order_status(order)
    if not position["canceled"] or fate in (REFUNDED, FAILED):
        return fate
    return REFUNDED if any(refund["state"] == "done" for refund in order["refunds"]) else FAILED


def eventbrite_orders(world: EventbriteWorld, now: float) -> Iterator[dict[str, Any]]:
    for entity in world.orders.entities.values():
        doc = _last_doc(entity)
        attendees = [_last_doc(world.attendees.entities[key]) for key in world.order_attendees[entity.id]]
        yield _row(
            entity,
            now,
            modified=entity.latest.changed.replace(microsecond=0),
            payment_status=eventbrite_order_status(doc["status"], attendees),
            vendor_status=doc["status"],
            email=doc["email"],
            event_id=doc["event_id"],
            order_id=entity.id,
            tickets=[attendee["ticket_class_id"] for attendee in attendees],
        )


def eventbrite_attendees(world: EventbriteWorld, now: float) -> Iterator[dict[str, Any]]:
    for entity in world.attendees.entities.values():
        doc = _last_doc(entity)
        yield {
            **_row(
                entity,
                now,
                modified=entity.latest.changed.replace(microsecond=0),
                payment_status=eventbrite_attendee_status(doc),
                vendor_status=doc["status"],
                email=doc["profile"]["email"],
                event_id=doc["event_id"],
                order_id=doc["order_id"],
                tickets=[doc["ticket_class_id"]],
            ),
            # A list of its own shows it whole, but whoever waits for its order waits for ever.
            "parent_malformed": world.orders.entities[doc["order_id"]].malformed is not None,
        }


def pretix_orders(world: PretixWorld, now: float) -> Iterator[dict[str, Any]]:
    for entity in world.orders.entities.values():
        doc = _last_doc(entity)
        yield {
            **_row(
                entity,
                now,
                modified=entity.latest.changed,
                payment_status=pretix_order_status(doc),
                vendor_status=doc["status"],
                email=doc["email"],
                event_id=doc["event"],
                order_id=entity.id,
                tickets=[_sku(position) for position in doc["positions"]],
            ),
            "malformed": _tainted(world, entity),
            "testmode": doc["testmode"],
        }


def pretix_positions(world: PretixWorld, now: float) -> Iterator[dict[str, Any]]:
    for entity in world.orders.entities.values():
        doc = _last_doc(entity)
        for position in doc["positions"]:
            key = position_key(doc, position)
            yield {
                **_row(
                    entity,
                    now,
                    modified=entity.latest.changed,
                    payment_status=pretix_position_status(doc, position),
                    vendor_status=doc["status"],
                    email=(position["attendee_email"] or "").strip() or doc["email"],
                    event_id=doc["event"],
                    order_id=entity.id,
                    tickets=[_sku(position)],
                ),
                "id": key,
                "canceled": position["canceled"],
                "testmode": doc["testmode"],
                "malformed": _tainted(world, entity),
                "malformed_kind": entity.malformed or world.malformed_positions.get(key),
                "parent_malformed": entity.malformed is not None,
            }


def _tainted(world: PretixWorld, entity: Entity) -> bool:
    """An order and its positions are delivered as one record: what is wrong with one may cost any of the others."""
    return entity.malformed is not None or world.has_broken_position(_last_doc(entity))


def pending(feeds: list[Feed], now: float) -> int:
    """Versions that exist but cannot be seen yet."""
    return sum(feed.pending(now) for feed in feeds)


def _row(
    entity: Entity,
    now: float,
    *,
    modified: datetime,
    payment_status: str,
    vendor_status: str,
    email: str,
    event_id: str,
    order_id: str,
    tickets: list[str],
) -> dict[str, Any]:
    return {
        "id": entity.id,
        "order_id": order_id,
        "modified_at": micro_z(modified),
        "payment_status": payment_status,
        "vendor_status": vendor_status,
        "email": email.strip().lower(),
        "email_raw": email,
        "event_id": event_id,
        "ticket": tickets[0] if tickets else "",
        "tickets": tickets,
        "deleted": entity.latest.doc is None,
        "malformed": entity.malformed is not None,
        "malformed_kind": entity.malformed,
        "visible": entity.latest.visible_at <= now,
    }


def _sku(position: Doc) -> str:
    return f"{position['item']}/{position['variation']}" if position["variation"] else str(position["item"])


def _last_doc(entity: Entity) -> Doc:
    """The newest content; of a deleted record, what it was."""
    for version in reversed(entity.versions):
        if version.doc is not None:
            return version.doc
    raise AssertionError("a record starts with content")
