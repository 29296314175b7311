"""Eventbrite's records: events, ticket classes, orders and attendees, as its documents describe them (saas.md §4.2)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from sync_pipeline.simulator.clock import second_z
from sync_pipeline.simulator.entities import Doc
from sync_pipeline.simulator.people import Person

ORGANIZATION_ID = "1001"
_API = "https://www.eventbriteapi.com/v3"
_EXPONENT = {"JPY": 0}


@dataclass(frozen=True, slots=True)
class ClassPlan:
    """A kind of ticket. `tier` is what an organiser would map it to; None for the one nobody thought of mapping."""

    suffix: str
    name: str
    category: str
    price: int
    tier: str | None
    weight: int


CLASSES = (
    ClassPlan("01", "General Admission", "admission", 4500, "GENERAL", 50),
    ClassPlan("02", "Early Bird", "admission", 3000, "EARLY_BIRD", 20),
    ClassPlan("03", "VIP", "admission", 15000, "VIP", 8),
    ClassPlan("04", "Student", "admission", 1500, "STUDENT", 8),
    ClassPlan("05", "Community (free)", "admission", 0, "COMPLIMENTARY", 6),
    ClassPlan("06", "Workshop", "add_on", 2500, "ADD_ON", 5),
    ClassPlan("07", "Donation", "donation", 1000, "DONATION", 2),
    ClassPlan("08", "Press & Crew", "admission", 0, None, 1),
)
EVENTS = (
    ("900100000001", "Autumn Developer Days", "USD"),
    ("900100000002", "Riverside Book Fair", "USD"),
    ("900100000003", "Nordic Choir Weekend", "EUR"),
    ("900100000004", "Tokyo Typography Talks", "JPY"),
    ("900100000005", "Open Data Breakfast", "GBP"),
    ("900100000006", "Museum Night", "EUR"),
)


def class_id(event_id: str, plan: ClassPlan) -> str:
    return f"7{event_id[-3:]}{plan.suffix}"


def money(currency: str, value: int) -> Doc:
    """Minor units with the vendor's own spellings beside them; JPY has no minor unit."""
    exponent = _EXPONENT.get(currency, 2)
    major = f"{value / 10**exponent:.{exponent}f}"
    return {"currency": currency, "value": value, "major_value": major, "display": f"{major} {currency}"}


def costs(currency: str, base: int) -> Doc:
    fee, tax = base * 37 // 1000, base // 10
    return {
        "base_price": money(currency, base),
        "eventbrite_fee": money(currency, fee),
        "gross": money(currency, base + fee + tax),
        "payment_fee": money(currency, 0),
        "tax": money(currency, tax),
    }


def event_doc(index: int, start: datetime) -> Doc:
    event_id, name, currency = EVENTS[index]
    begins = start + timedelta(days=10 * (index - 2))
    local = begins.strftime("%Y-%m-%dT%H:%M:%S")
    return {
        "id": event_id,
        "name": {"text": name, "html": f"<p>{name}</p>"},
        "organization_id": ORGANIZATION_ID,
        "created": second_z(start - timedelta(days=90)),
        "changed": second_z(start - timedelta(days=61)),
        "start": {"timezone": "UTC", "utc": second_z(begins), "local": local},
        "end": {"timezone": "UTC", "utc": second_z(begins + timedelta(hours=8)), "local": local},
        "status": "completed" if begins < start else "live",
        "currency": currency,
        "online_event": index == 4,
        "resource_uri": f"{_API}/events/{event_id}/",
    }


def ticket_class_doc(event: Doc, plan: ClassPlan) -> Doc:
    price = plan.price if event["currency"] != "JPY" else plan.price // 100 * 100
    return {
        "id": class_id(event["id"], plan),
        "event_id": event["id"],
        "name": plan.name,
        "display_name": plan.name,
        "category": plan.category,
        "free": price == 0,
        "donation": plan.category == "donation",
        "cost": None if price == 0 else money(event["currency"], price),
        "quantity_sold": 0,
        "on_sale_status": "AVAILABLE",
        "hidden": plan.tier is None,
        "inventory_tier_id": None,
        "variants": [],
        "resource_uri": f"{_API}/events/{event['id']}/ticket_classes/{class_id(event['id'], plan)}/",
    }


def profile(who: Person, rng: random.Random) -> Doc:
    """The holder's profile. Some were never filled in and say so in the vendor's own words."""
    if rng.random() < 0.03 and not who.phone:
        names = {"name": "Info Requested", "first_name": "Info", "last_name": "Requested"}
    else:
        names = {"name": who.name, "first_name": who.first, "last_name": who.last}
    doc: Doc = {**names, "email": who.email, "addresses": {}}
    if who.phone:
        doc["cell_phone"] = who.phone
    if rng.random() < 0.2:
        doc["addresses"] = {"home": {"city": "Bergen", "country": "NO", "address_1": "Strandgaten 1"}}
    return doc


def attendee_doc(
    *,
    attendee_id: str,
    order_id: str,
    event: Doc,
    ticket_class: Doc,
    holder: Doc,
    note: str,
    created: datetime,
    rng: random.Random,
) -> Doc:
    price = 0 if ticket_class["cost"] is None else ticket_class["cost"]["value"]
    stamp = second_z(created)
    return {
        "id": attendee_id,
        "created": stamp,
        "changed": stamp,
        "ticket_class_id": ticket_class["id"],
        "ticket_class_name": ticket_class["name"],
        "variant_id": f"T{ticket_class['id']}-D1" if rng.random() < 0.05 else None,
        "quantity": 1,
        "profile": holder,
        "answers": [
            {"question_id": "31", "question": "Dietary needs?", "type": "text", "answer": note},
            {"question_id": "32", "question": "T-shirt", "type": "multiple_choice", "answer": rng.choice("SML")},
        ],
        "barcodes": [
            {
                "barcode": f"{attendee_id}{rng.randrange(10**9):09d}",
                "status": "unused",
                "created": stamp,
                "changed": stamp,
                "checkin_type": 0,
                "is_printed": False,
            }
        ],
        "checked_in": False,
        "cancelled": False,
        "refunded": False,
        "costs": costs(event["currency"], price),
        "status": "Attending",
        "event_id": event["id"],
        "order_id": order_id,
        "delivery_method": "electronic",
        "guestlist_id": None,
        "invited_by": None,
        "team": None,
        "affiliate": None,
        "promotional_code": None,
        "resource_uri": f"{_API}/events/{event['id']}/attendees/{attendee_id}/",
    }


def order_doc(*, order_id: str, event: Doc, buyer: Person, status: str, created: datetime, attendees: list[Doc]) -> Doc:
    base = sum(attendee["costs"]["base_price"]["value"] for attendee in attendees)
    return {
        "id": order_id,
        "created": second_z(created),
        "changed": second_z(created),
        "name": buyer.name,
        "first_name": buyer.first,
        "last_name": buyer.last,
        "email": buyer.email,
        "costs": costs(event["currency"], base),
        "event_id": event["id"],
        "time_remaining": 480 if status == "started" else None,
        "resource_uri": f"{_API}/orders/{order_id}/",
        "status": status,
    }
