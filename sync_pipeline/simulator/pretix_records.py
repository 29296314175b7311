"""pretix's records: events, items, orders with positions, payments and refunds (saas.md §5)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from sync_pipeline.simulator.clock import micro_z
from sync_pipeline.simulator.entities import Doc
from sync_pipeline.simulator.people import Person

ORGANIZER = "simorg"
_CODE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ3789"


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """A product. `tier` is what an organiser would map it to; None for the one nobody thought of mapping."""

    suffix: int
    names: dict[str, str]
    price: str
    tier: str | None
    weight: int
    variations: tuple[str, ...] = ()
    admission: bool = True
    add_on: bool = False


ITEMS = (
    ItemPlan(1, {"en": "Regular ticket", "de": "Normales Ticket"}, "23.00", "GENERAL", 50, ("Weekend", "One day")),
    ItemPlan(2, {"en": "Early bird", "de": "Frühbucher"}, "18.00", "EARLY_BIRD", 20),
    ItemPlan(3, {"en": "Patron", "de": "Förderer"}, "120.00", "VIP", 6),
    ItemPlan(4, {"en": "Student", "de": "Studierende"}, "9.50", "STUDENT", 12),
    ItemPlan(5, {"en": "Workshop", "de": "Workshop"}, "15.00", "ADD_ON", 0, admission=False, add_on=True),
    ItemPlan(6, {"en": "Donation", "de": "Spende"}, "5.00", "DONATION", 4, admission=False),
    ItemPlan(7, {"en": "Helpers", "de": "Helfende", "de-informal": "Helfer"}, "0.00", None, 1),
)
# One event reports its instants with an offset: the same instants, another spelling.
EVENTS = (
    ("sampleconf", {"en": "Sample Conference", "de": "Beispielkonferenz"}, "EUR", 0),
    ("summerfest", {"en": "Summer Festival", "de": "Sommerfest"}, "EUR", 120),
    ("nordlys", {"en": "Northern Lights", "no": "Nordlys"}, "NOK", 0),
    ("readers", {"en": "Readers' Circle ✨"}, "GBP", 0),
)


def item_id(event_index: int, plan: ItemPlan) -> int:
    return 1000 * (event_index + 1) + plan.suffix


def variation_id(item: int, place: int) -> int:
    return 10 * item + place + 1


def stamp(moment: datetime, offset_minutes: int) -> str:
    if offset_minutes == 0:
        return micro_z(moment)
    return moment.astimezone(timezone(timedelta(minutes=offset_minutes))).isoformat()


def event_doc(index: int, start: datetime) -> Doc:
    slug, names, currency, offset = EVENTS[index]
    return {
        "name": names,
        "slug": slug,
        "live": True,
        "testmode": False,
        "currency": currency,
        "date_from": stamp(start + timedelta(days=20 * index), offset),
        "date_to": None,
        "is_public": True,
        "presale_start": None,
        "presale_end": None,
        "location": {"en": "Old Harbour Hall"},
        "has_subevents": False,
        "timezone": "UTC" if offset == 0 else "Europe/Berlin",
        "plugins": [],
        "meta_data": {},
    }


def item_doc(event_index: int, plan: ItemPlan) -> Doc:
    item = item_id(event_index, plan)
    return {
        "id": item,
        "name": plan.names,
        "internal_name": None,
        "default_price": plan.price,
        "category": None,
        "active": True,
        "admission": plan.admission,
        "personalized": plan.admission,
        "free_price": plan.suffix == 6,
        "tax_rate": "0.00",
        "has_variations": bool(plan.variations),
        "variations": [
            {"id": variation_id(item, place), "value": {"en": value}, "price": plan.price, "active": True}
            for place, value in enumerate(plan.variations)
        ],
        "addons": [],
        "position": plan.suffix,
    }


def order_code(rng: random.Random) -> str:
    return "".join(rng.choices(_CODE_LETTERS, k=5))


def token(rng: random.Random, length: int) -> str:
    return "".join(rng.choices("abcdefghijkmnpqrstuvwxyz23456789", k=length))


def name_parts(who: Person) -> Doc:
    """By the event's name scheme; here one person in two gave a name in two parts."""
    given, _, family = who.name.partition(" ")
    if family and len(who.name) % 2:
        return {"_scheme": "given_family", "given_name": given, "family_name": family}
    return {"_scheme": "full", "full_name": who.name}


def position_doc(
    *,
    pk: int,
    code: str,
    positionid: int,
    item: Doc,
    variation: int | None,
    addon_to: int | None,
    holder: Person | None,
    note: str,
    rng: random.Random,
) -> Doc:
    return {
        "id": pk,
        "order": code,
        "positionid": positionid,
        "item": item["id"],
        "variation": variation,
        "price": item["default_price"],
        "attendee_name": holder.name if holder else None,
        "attendee_name_parts": name_parts(holder) if holder else {},
        "attendee_email": holder.email if holder and rng.random() < 0.6 else ("" if pk % 3 == 0 else None),
        "company": None,
        "voucher": None,
        "tax_rate": "0.00",
        "tax_value": "0.00",
        "secret": token(rng, 32),
        "addon_to": addon_to,
        "subevent": None,
        "pseudonymization_id": token(rng, 10).upper(),
        "canceled": False,
        "checkins": [],
        "answers": [{"question": 12, "question_identifier": "WY3TP9SL", "answer": note, "options": []}] if note else [],
        "seat": None,
    }


def payment_doc(local_id: int, amount: Decimal, state: str, created: str, provider: str) -> Doc:
    return {
        "local_id": local_id,
        "state": state,
        "amount": f"{amount:.2f}",
        "created": created,
        "payment_date": created if state in ("confirmed", "refunded") else None,
        "provider": provider,
        "payment_url": None,
        "details": {},
    }


def refund_doc(local_id: int, amount: Decimal, state: str, created: str, payment: Doc) -> Doc:
    return {
        "local_id": local_id,
        "state": state,
        "source": "admin",
        "amount": f"{amount:.2f}",
        "payment": payment["local_id"],
        "created": created,
        "execution_date": created if state == "done" else None,
        "provider": payment["provider"],
        "details": {},
    }


def order_doc(*, code: str, slug: str, buyer: Person, created: str, expires: str, positions: list[Doc]) -> Doc:
    total = sum((Decimal(position["price"]) for position in positions), Decimal(0))
    invoice: Doc = {
        "last_modified": created,
        "is_business": False,
        "company": "",
        "name": buyer.name,
        "name_parts": name_parts(buyer),
        "street": "Long Lane 1",
        "zipcode": "12345",
        "city": "Harbourton",
        "country": "DE",
        "internal_reference": "",
        "vat_id": "",
        "vat_id_validated": False,
    }
    return {
        "code": code,
        "event": slug,
        "status": "n",
        "testmode": False,
        "secret": code.lower() * 3,
        "email": buyer.email,
        "phone": buyer.phone or None,
        "customer": None,
        "locale": "de" if len(code) and code[0] < "H" else "en",
        "sales_channel": "web",
        "datetime": created,
        "expires": expires,
        "payment_date": None,
        "payment_provider": "banktransfer",
        "fees": [],
        "total": f"{total:.2f}",
        "comment": "",
        "require_approval": False,
        "invoice_address": invoice if len(positions) % 2 else None,
        "positions": positions,
        "payments": [],
        "refunds": [],
        "downloads": [],
        "last_modified": created,
        "cancellation_date": None,
    }
