"""What pretix's orders and positions are made of, and what of it is kept in `metadata`.

Field names: pretix documentation, resource `orders`; pretix/api/serializers/order.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ORDER_USED = frozenset(
    {"code", "event", "status", "email", "phone", "locale", "datetime", "last_modified", "total", "testmode"}
)
ORDER_CREDENTIALS = frozenset({"secret", "url"})
"""Open the buyer's order page to whoever has them (`url` holds the secret): they are not kept in `metadata`."""

ORDER_LEFT_OUT = ORDER_USED | ORDER_CREDENTIALS | {"positions"}
"""Of `metadata`; positions are rows of their own."""

ORDER_KNOWN = frozenset(
    {
        "customer",
        "sales_channel",
        "expires",
        "payment_date",
        "payment_provider",
        "fees",
        "comment",
        "custom_followup_at",
        "checkin_attention",
        "checkin_text",
        "require_approval",
        "valid_if_pending",
        "invoice_address",
        "positions",
        "payments",
        "refunds",
        "downloads",
        "api_meta",
        "cancellation_date",
        "plugin_data",
        "tax_rounding_mode",
        "checkin_count",
        "user",
        "datetime_modified",
        "cancellation_requests",
        "custom_rules",
        "tax_rounding",
    }
)
POSITION_USED = frozenset({"_order", "id", "attendee_name", "attendee_email", "item", "variation", "price", "canceled"})
POSITION_CREDENTIALS = frozenset({"secret", "pdf_data"})
"""The code that opens the door, and what is printed around it: they are not kept in `metadata`."""

POSITION_LEFT_OUT = POSITION_USED | POSITION_CREDENTIALS

POSITION_KNOWN = frozenset(
    {
        "canceled",
        "positionid",
        "order",
        "attendee_name_parts",
        "company",
        "street",
        "zipcode",
        "city",
        "country",
        "state",
        "voucher",
        "voucher_budget_use",
        "tax_rate",
        "tax_value",
        "tax_rule",
        "tax_code",
        "addon_to",
        "subevent",
        "discount",
        "pseudonymization_id",
        "seat",
        "checkins",
        "print_logs",
        "downloads",
        "answers",
        "valid_from",
        "valid_until",
        "blocked",
        "plugin_data",
        "media",
        "used_membership",
        "gift_card_recipients",
        "attendee_email_hidden",
    }
)


def without_codes(items: Any) -> Any:
    """Payments or refunds without the link that pays for the order (it holds its secret) and without gift cards' codes."""
    if type(items) is not list:
        return items
    return [_without_code(item) if type(item) is dict else item for item in items]


def _without_code(item: Mapping[str, Any]) -> Mapping[str, Any]:
    if item.get("payment_url") is not None:
        item = {**item, "payment_url": None}
    details = item.get("details")
    card = details.get("gift_card") if isinstance(details, dict) else None
    if isinstance(details, dict) and isinstance(card, dict) and "secret" in card:
        shown = {name: value for name, value in card.items() if name != "secret"}
        item = {**item, "details": {**details, "gift_card": shown}}
    return item
