"""pretix orders and positions as registrations. Field names: pretix documentation, resource `orders`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sync_pipeline.contracts import fields
from sync_pipeline.contracts.fields import Refused, at, member, members
from sync_pipeline.contracts.pretix_fields import (
    ORDER_KNOWN,
    ORDER_LEFT_OUT,
    POSITION_KNOWN,
    POSITION_LEFT_OUT,
    without_codes,
)
from sync_pipeline.contracts.registration import Mapped, PaymentStatus, RegistrationContract
from sync_pipeline.contracts.tiers import Tier, TierMap

VERSION = "pretix-3"

ORDER_STATUS: Mapping[str, PaymentStatus] = {"n": "PENDING", "p": "COMPLETED", "e": "FAILED", "r": "REFUNDED"}
"""`r` is what servers before 2.4 say for refunded. `c` (cancelled) is decided by the money, below."""

RECEIVED = frozenset({"confirmed", "refunded"})
"""Payment states of money that came in: a full refund flips the payment to `refunded`."""


def order_payment_status(order: Mapping[str, Any], prefix: str = "") -> PaymentStatus:
    """A cancelled order is REFUNDED when all the money that came in has gone back, else FAILED.

    Raises Refused for a status that the table does not know.
    """
    status = order.get("status")
    if status != "c":
        found = ORDER_STATUS.get(status) if type(status) is str else None
        if found is None:
            raise Refused("MISSING_FIELD" if status is None else "UNKNOWN_STATUS", f"{prefix}status")
        return found
    received = _sum(order.get("payments"), f"{prefix}payments", RECEIVED)
    returned = _sum(order.get("refunds"), f"{prefix}refunds", frozenset({"done"}))
    return "REFUNDED" if received > 0 and returned >= received else "FAILED"


def position_payment_status(order: Mapping[str, Any], *, canceled: bool) -> PaymentStatus:
    """A position shares its order's fate, unless it alone was cancelled out of a living order."""
    fate = order_payment_status(order, "_order.")
    if not canceled or fate in ("REFUNDED", "FAILED"):
        return fate
    refunds = members(order.get("refunds"), "_order.refunds")
    states = [_state(refund, "_order.refunds") for refund in refunds]
    return "REFUNDED" if "done" in states else "FAILED"


def _state(item: Mapping[str, Any], path: str) -> str:
    """The vendor's word for how a payment or a refund stands. Money that nobody can place is not left out in silence."""
    state = item.get("state")
    if type(state) is not str:
        raise Refused("MISSING_FIELD" if state is None else "WRONG_TYPE", f"{path}.state")
    return state


def _sum(items: Any, path: str, states: frozenset[str]) -> Decimal:
    return sum(
        (
            at(f"{path}.amount", fields.amount, item.get("amount"))
            for item in members(items, path)
            if _state(item, path) in states
        ),
        Decimal(0),
    )


def order_key(order: Mapping[str, Any], prefix: str = "") -> str:
    """`event/code`: a code alone is unique only within its event."""
    event = at(f"{prefix}event", fields.required_text, order.get("event"))
    code = at(f"{prefix}code", fields.required_text, order.get("code"))
    return f"{event}/{code}"


GIVEN_AND_FAMILY = ("given_name", "family_name")


def _name(holder: Mapping[str, Any], name: str, prefix: str = "") -> dict[str, Any]:
    """Given and family name where the event's name scheme asks for them (pretix/base/settings.py, PERSON_NAME_SCHEMES).

    Else the whole name goes to `last_name`, since cutting names at a space is a guess; so it does where a part is no text,
    which pretix takes from its API. Titles, middle names and the like stay in `metadata` with the parts.
    """
    whole = at(f"{prefix}{name}", fields.name, holder.get(name))
    parts = holder.get(f"{name}_parts")
    if type(parts) is dict and all(type(parts.get(part)) in (str, type(None)) for part in GIVEN_AND_FAMILY):
        given, family = (at(f"{prefix}{name}_parts.{part}", fields.name, parts.get(part)) for part in GIVEN_AND_FAMILY)
        if (given, family) != (fields.NOT_PROVIDED, fields.NOT_PROVIDED):
            return {"first_name": given, "last_name": family}
    return {"last_name": whole}


OF_ORDER = {"email": "_order.email"}
"""Where the address stands of a holder who gave none: the buyer's is used."""


def _email(position: Mapping[str, Any], order: Mapping[str, Any]) -> tuple[Any, Mapping[str, str]]:
    """The holder's own address or the buyer's, and where it stands if not in the position."""
    own = position.get("attendee_email")
    missing = own is None or (type(own) is str and not own.strip())
    return (order.get("email"), OF_ORDER) if missing else (own, {})


class OrderContract(RegistrationContract):
    """One order: its buyer, its sum, its payment status."""

    def __init__(self, *, tiers: TierMap, hold_for_parent: bool = False) -> None:
        del tiers, hold_for_parent
        super().__init__(
            version=VERSION,
            mapping=self.map_order,
            identify=order_key,
            paths={
                "created_at": "datetime",
                "modified_at": "last_modified",
                "amount": "total",
                "test_mode": "testmode",
            },
            known=ORDER_KNOWN,
        )

    @staticmethod
    def map_order(record: Mapping[str, Any]) -> Mapped:
        key = order_key(record)
        invoice = member(record.get("invoice_address"), "invoice_address")
        positions = members(record.get("positions"), "positions")
        values = {
            "vendor_id": key,
            "kind": "order",
            "order_id": key,
            "event_id": record.get("event"),
            "email": record.get("email"),
            **_name(invoice, "name", "invoice_address."),
            "phone": record.get("phone"),
            "tier": Tier.NOT_A_TICKET,
            "quantity": sum(1 for position in positions if position.get("canceled") is not True),
            "amount": record.get("total"),
            "payment_status": order_payment_status(record),
            "vendor_status": record.get("status"),
            "test_mode": record.get("testmode"),
            "locale": record.get("locale") or fields.UNDETERMINED,
            "created_at": record.get("datetime"),
            "modified_at": record.get("last_modified"),
        }
        rest = {name: value for name, value in record.items() if name not in ORDER_LEFT_OUT}
        for name in ("payments", "refunds"):
            if rest.get(name):
                rest[name] = without_codes(rest[name])
        return Mapped(values, rest)


class PositionContract(RegistrationContract):
    """One position of an order: a ticket or an add-on, and who holds it.

    Its key is pretix's own id of it. When an order is split its positions move to a new order and keep their id, while the
    place in the order (`positionid`) is given to the next position that is added (pretix/base/services/orders.py,
    OrderChangeManager): keyed by order and place, one person would stand in two orders, and two people in one row.
    """

    def __init__(self, *, tiers: TierMap, hold_for_parent: bool = False) -> None:
        self._tiers = tiers
        self._hold = hold_for_parent
        super().__init__(
            version=f"{VERSION}+tiers-{tiers.version}",
            mapping=self.map_position,
            identify=self.position_key,
            paths={
                "order_id": "_order.code",
                "event_id": "_order.event",
                "email": "attendee_email",
                "created_at": "_order.datetime",
                "modified_at": "_order.last_modified",
                "amount": "price",
                "test_mode": "_order.testmode",
                "locale": "_order.locale",
                "phone": "_order.phone",
            },
            known=POSITION_KNOWN,
            parent_feed="orders" if hold_for_parent else None,
        )

    @staticmethod
    def position_key(record: Mapping[str, Any]) -> str:
        """`event/id`: ids are unique at a server; the event is there for the reader, and never changes."""
        order = member(record.get("_order"), "_order")
        event = at("_order.event", fields.required_text, order.get("event"))
        return f"{event}/{at('id', fields.identifier, record.get('id'))}"

    def map_position(self, record: Mapping[str, Any]) -> Mapped:
        order = member(record.get("_order"), "_order")
        parent = order_key(order, "_order.")
        item = at("item", fields.identifier, record.get("item"))
        variation = record.get("variation")
        sku = item if variation is None else f"{item}/{at('variation', fields.identifier, variation)}"
        canceled = at("canceled", fields.flag, record.get("canceled"))
        event = str(order.get("event"))
        email, email_path = _email(record, order)
        values = {
            "vendor_id": self.position_key(record),
            "kind": "attendee",
            "order_id": parent,
            "event_id": order.get("event"),
            "email": email,
            **_name(record, "attendee_name"),
            "phone": order.get("phone"),
            "ticket_sku": sku,
            "tier": self._tier(event, item, sku, record),
            "amount": record.get("price"),
            "payment_status": position_payment_status(order, canceled=canceled),
            "vendor_status": order.get("status"),
            "checked_in": bool(members(record.get("checkins"), "checkins")),
            "test_mode": order.get("testmode"),
            "locale": order.get("locale") or fields.UNDETERMINED,
            "created_at": order.get("datetime"),
            "modified_at": order.get("last_modified"),
        }
        rest = {name: value for name, value in record.items() if name not in POSITION_LEFT_OUT}
        rest["canceled"] = canceled
        return Mapped(values, rest, parent if self._hold else None, email_path)

    def _tier(self, event: str, item: str, sku: str, record: Mapping[str, Any]) -> Tier:
        """Orders name items by number only, so tiers come from `skus`; an add-on is known by what it hangs on."""
        tier = self._tiers.tier(event, sku, "")
        if tier is Tier.UNKNOWN_TIER and sku != item:
            tier = self._tiers.tier(event, item, "")
        if tier is Tier.UNKNOWN_TIER and record.get("addon_to") is not None:
            return Tier.ADD_ON
        return tier
