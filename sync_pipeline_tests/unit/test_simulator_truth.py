from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline.simulator import truth


def attendee(*, refunded: bool = False, cancelled: bool = False, status: str = "Attending") -> dict[str, Any]:
    return {"refunded": refunded, "cancelled": cancelled, "status": status}


GOING, REFUNDED = attendee(), attendee(refunded=True, cancelled=True)
CANCELLED = attendee(cancelled=True)


def coded(*statuses: str, **more: Any) -> dict[str, Any]:
    return {**attendee(**more), "barcodes": [{"status": status} for status in statuses]}


BY_CODE = coded("refunded", "refunded")


@pytest.mark.parametrize(
    ("status", "attendees", "expected"),
    [
        ("started", [GOING], "PENDING"),
        ("pending", [GOING], "PENDING"),
        ("placed", [GOING], "COMPLETED"),
        ("placed", [], "COMPLETED"),
        ("placed", [GOING, REFUNDED], "COMPLETED"),
        ("placed", [GOING, CANCELLED], "COMPLETED"),
        ("placed", [REFUNDED, REFUNDED], "REFUNDED"),
        ("placed", [REFUNDED, CANCELLED], "REFUNDED"),
        ("placed", [CANCELLED], "FAILED"),
        ("placed", [BY_CODE], "REFUNDED"),
        ("placed", [BY_CODE, GOING], "COMPLETED"),
        ("placed", [BY_CODE, CANCELLED], "REFUNDED"),
        ("refunded", [REFUNDED], "REFUNDED"),
        ("abandoned", [CANCELLED], "FAILED"),
    ],
)
def test_eventbrite_orders(status: str, attendees: list[dict[str, Any]], expected: str) -> None:
    assert truth.eventbrite_order_status(status, attendees) == expected


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (GOING, "COMPLETED"),
        (attendee(status="Checked In"), "COMPLETED"),
        (attendee(status="Unpaid"), "PENDING"),
        (REFUNDED, "REFUNDED"),
        (CANCELLED, "FAILED"),
        (BY_CODE, "REFUNDED"),
        (coded("refunded", cancelled=True), "REFUNDED"),
        (coded("refunded", "unused"), "COMPLETED"),
        (coded(), "COMPLETED"),
    ],
)
def test_eventbrite_attendees(doc: dict[str, Any], expected: str) -> None:
    assert truth.eventbrite_attendee_status(doc) == expected


def order(status: str, paid: str | None = None, returned: str | None = None, **more: Any) -> dict[str, Any]:
    payments = [{"state": more.get("payment", "confirmed"), "amount": paid}] if paid else []
    refunds = [{"state": more.get("refund", "done"), "amount": returned}] if returned else []
    return {"status": status, "payments": payments, "refunds": refunds}


@pytest.mark.parametrize(
    ("doc", "expected"),
    [
        (order("n"), "PENDING"),
        (order("p", "23.00"), "COMPLETED"),
        (order("p", "23.00", "10.00"), "COMPLETED"),
        (order("e"), "FAILED"),
        (order("c"), "FAILED"),
        (order("c", "23.00", "23.00"), "REFUNDED"),
        (order("c", "23.00", "23.00", payment="refunded"), "REFUNDED"),
        (order("c", "23.00", "23.00", refund="created"), "FAILED"),
        (order("c", "23.00", payment="canceled"), "FAILED"),
    ],
)
def test_pretix_orders(doc: dict[str, Any], expected: str) -> None:
    assert truth.pretix_order_status(doc) == expected


@pytest.mark.parametrize(
    ("doc", "canceled", "expected"),
    [
        (order("p", "23.00"), False, "COMPLETED"),
        (order("p", "23.00", "9.50"), True, "REFUNDED"),
        (order("p", "23.00"), True, "FAILED"),
        (order("c", "23.00", "23.00"), True, "REFUNDED"),
        (order("e"), False, "FAILED"),
    ],
)
def test_pretix_positions(doc: dict[str, Any], canceled: bool, expected: str) -> None:
    assert truth.pretix_position_status(doc, {"canceled": canceled}) == expected
