"""Eventbrite orders and attendees as registrations. Field names: Eventbrite API reference, objects Order and Attendee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sync_pipeline.contracts import fields
from sync_pipeline.contracts.fields import Refused, at, member, members
from sync_pipeline.contracts.registration import Mapped, PaymentStatus, RegistrationContract
from sync_pipeline.contracts.tiers import Tier, TierMap

VERSION = "eventbrite-5"

ORDER_STATUS: Mapping[str, PaymentStatus] = {
    "started": "PENDING",
    "pending": "PENDING",
    "placed": "COMPLETED",
    "abandoned": "FAILED",
    "refunded": "REFUNDED",
    "deleted": "REFUNDED",
    "transferred": "REFUNDED",
}
"""By the order's own word; `placed` is looked at again with its attendees, since it stays `placed` after a refund."""

ATTENDEE_STATUS: Mapping[str, PaymentStatus] = {
    "Attending": "COMPLETED",
    "Checked In": "COMPLETED",
    "Unpaid": "PENDING",
    "Not Attending": "FAILED",
    "Deleted": "FAILED",
    "Transferred": "FAILED",
}
"""By the attendee's word, which Eventbrite means to retire: the flags `refunded` and `cancelled` come before it."""

ORDER_USED = frozenset(
    {
        "id",
        "created",
        "changed",
        "first_name",
        "last_name",
        "email",
        "event_id",
        "status",
        "attendees",
        "time_remaining",
    }
)
ORDER_KNOWN = frozenset(
    {
        "name",
        "costs",
        "resource_uri",
        "event",
        "ticket_buyer_settings",
        "promo_code",
        "contact_list_preferences",
        "questions",
        "survey_responses",
    }
)
ATTENDEE_USED = frozenset(
    {
        "id",
        "created",
        "changed",
        "event_id",
        "order_id",
        "ticket_class_id",
        "ticket_class_name",
        "quantity",
        "checked_in",
        "cancelled",
        "refunded",
        "status",
    }
)
ATTENDEE_KNOWN = frozenset(
    {
        "profile",
        "costs",
        "answers",
        "barcodes",
        "variant_id",
        "delivery_method",
        "resource_uri",
        "guestlist_id",
        "invited_by",
        "team",
        "affiliate",
        "promotional_code",
        "assigned_unit",
        "survey",
        "addresses",
        "event",
        "order",
        "assigned_number",
        "source",
        "contact_list_preferences",
        "questions",
        "survey_responses",
    }
)


def order_payment_status(status: Any, attendees: Any) -> PaymentStatus:
    """Raises Refused for a status that the table does not know, and for an order that came without its attendees: how many
    tickets it holds is not known either."""
    found = ORDER_STATUS.get(status) if type(status) is str else None
    if found is None:
        raise Refused("MISSING_FIELD" if status is None else "UNKNOWN_STATUS", "status")
    if attendees is None:
        raise Refused("MISSING_EXPANSION", "attendees")
    if status != "placed":
        return found
    people = members(attendees, "attendees")
    refunded = [is_refunded(person, "attendees.") for person in people]
    void = [back or person.get("cancelled") is True for person, back in zip(people, refunded, strict=True)]
    if not people or not all(void):
        return "COMPLETED"
    return "REFUNDED" if any(refunded) else "FAILED"


def is_refunded(attendee: Mapping[str, Any], prefix: str = "") -> bool:
    """By its flag, or by its barcodes alone where all of them are refunded: the flag is not always set."""
    codes = members(attendee.get("barcodes"), f"{prefix}barcodes")
    return attendee.get("refunded") is True or (bool(codes) and all(code.get("status") == "refunded" for code in codes))


def attendee_payment_status(status: Any, *, refunded: bool, cancelled: bool) -> PaymentStatus:
    """Raises Refused for a status that the table does not know."""
    if refunded:
        return "REFUNDED"
    if cancelled:
        return "FAILED"
    found = ATTENDEE_STATUS.get(status) if type(status) is str else None
    if found is None:
        raise Refused("MISSING_FIELD" if status is None else "UNKNOWN_STATUS", "status")
    return found


def names(holder: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """First and last name; where neither is given the whole name goes to `last_name`, since cutting it is a guess."""
    whole = at(f"{prefix}name", fields.name, holder.get("name"))
    first, last = holder.get("first_name"), holder.get("last_name")
    if all(part is None or (type(part) is str and not part.strip()) for part in (first, last)):
        return {"last_name": whole}
    return {"first_name": first, "last_name": last}


def gross(costs: Any) -> dict[str, Any]:
    """Amount and currency of `costs.gross`. Raises Refused for an amount without a currency, which alone says what its smallest
    unit is."""
    paid = member(member(costs, "costs").get("gross"), "costs.gross")
    if not paid:
        return {}
    code = at("costs.gross.currency", fields.currency, paid.get("currency"))
    value = at("costs.gross.value", fields.minor_units, paid.get("value"), code)
    if value and code == fields.NO_CURRENCY:
        raise Refused("MISSING_FIELD", "costs.gross.currency")
    return {"currency": code, "amount": str(value)}


def _rest(record: Mapping[str, Any], used: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in used}


def _without_codes(barcodes: Any) -> list[dict[str, Any]]:
    """What became of the barcodes, without what is printed on the ticket and opens the door. Raises Refused for what are none:
    where no code is seen, none can be left out."""
    found = members(barcodes, "barcodes")
    return [{name: value for name, value in code.items() if name != "barcode"} for code in found]


class OrderContract(RegistrationContract):
    """One order: its buyer, its sum, its payment status."""

    def __init__(self, *, tiers: TierMap, hold_for_parent: bool = False) -> None:
        del tiers, hold_for_parent
        super().__init__(
            version=VERSION,
            mapping=self.map_order,
            identify=lambda record: record.get("id"),
            paths={"vendor_id": "id", "order_id": "id", "created_at": "created", "modified_at": "changed"},
            known=ORDER_KNOWN,
        )

    @staticmethod
    def map_order(record: Mapping[str, Any]) -> Mapped:
        attendees = record.get("attendees")
        values = {
            "vendor_id": record.get("id"),
            "kind": "order",
            "order_id": record.get("id"),
            "event_id": record.get("event_id"),
            "email": record.get("email"),
            **names(record),
            "tier": Tier.NOT_A_TICKET,
            "quantity": len(attendees) if isinstance(attendees, list) else None,
            "payment_status": order_payment_status(record.get("status"), attendees),
            "vendor_status": record.get("status"),
            "created_at": record.get("created"),
            "modified_at": record.get("changed"),
            **gross(record.get("costs")),
        }
        return Mapped(values, _rest(record, ORDER_USED))


class AttendeeContract(RegistrationContract):
    """One ticket and who holds it. By default Eventbrite gives every attendee of an order the buyer's profile."""

    def __init__(self, *, tiers: TierMap, hold_for_parent: bool = False) -> None:
        self._tiers = tiers
        self._hold = hold_for_parent
        super().__init__(
            version=f"{VERSION}+tiers-{tiers.version}",
            mapping=self.map_attendee,
            identify=lambda record: record.get("id"),
            paths={
                "vendor_id": "id",
                "created_at": "created",
                "modified_at": "changed",
                "email": "profile.email",
                "first_name": "profile.first_name",
                "last_name": "profile.last_name",
                "phone": "profile.cell_phone",
                "ticket_sku": "ticket_class_id",
                "ticket_name": "ticket_class_name",
            },
            known=ATTENDEE_KNOWN,
            parent_feed="orders" if hold_for_parent else None,
        )

    def map_attendee(self, record: Mapping[str, Any]) -> Mapped:
        profile = member(record.get("profile"), "profile")
        sku = at("ticket_class_id", fields.identifier, record.get("ticket_class_id"))
        name = at("ticket_class_name", fields.text, record.get("ticket_class_name"))
        values = {
            "vendor_id": record.get("id"),
            "kind": "attendee",
            "order_id": record.get("order_id"),
            "event_id": record.get("event_id"),
            "email": profile.get("email"),
            **names(profile, "profile."),
            "phone": profile.get("cell_phone"),
            "ticket_sku": sku,
            "ticket_name": name,
            "tier": self._tiers.tier(str(record.get("event_id")), sku, name),
            "quantity": record.get("quantity"),
            "payment_status": attendee_payment_status(
                record.get("status"),
                refunded=at("refunded", fields.flag, record.get("refunded")) or is_refunded(record),
                cancelled=at("cancelled", fields.flag, record.get("cancelled")),
            ),
            "vendor_status": record.get("status"),
            "checked_in": record.get("checked_in"),
            "created_at": record.get("created"),
            "modified_at": record.get("changed"),
            **gross(record.get("costs")),
        }
        rest = _rest(record, ATTENDEE_USED)
        if rest.get("barcodes") is not None:
            rest["barcodes"] = _without_codes(rest["barcodes"])
        parent = str(record.get("order_id")) if self._hold else None
        return Mapped(values, rest, parent)
