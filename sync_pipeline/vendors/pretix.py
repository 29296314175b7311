"""pretix REST API v1: orders, and the positions inside them.

Sources: pretix documentation (fundamentals, token authentication, rate limiting, resource `orders`) and the order of
operations in its own list view.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

from sync_pipeline.kernel.errors import SyncError
from sync_pipeline.kernel.feed import (
    AuthSpec,
    Cursor,
    NextPage,
    PageRead,
    QuotaFeedback,
    QuotaWindow,
    RawRecord,
    Reply,
    Request,
)
from sync_pipeline.vendors.answers import by_status, error_fields, instant, newest, page, stamps

BASE_URL = "https://pretix.eu/api/v1"
WINDOWS = (
    QuotaWindow("minute", 360, 60, burst=90, source="pretix documentation: 360 requests per minute per organizer"),
)
OVERLAP = timedelta(seconds=60)
"""`X-Page-Generated` is taken before the page's query; transactions that commit later carry older stamps."""

PAGE_SIZE = 50
"""The largest page the API gives."""


def auth(secret_env: str) -> AuthSpec:
    return AuthSpec("header", secret_env, name="Authorization", prefix="Token ")


@dataclass(frozen=True, slots=True)
class PretixApi:
    vendor: str = "pretix"
    windows: tuple[QuotaWindow, ...] = WINDOWS

    def classify(self, request: Request, reply: Reply) -> SyncError | None:
        if reply.status == 404 and ("page", "1") not in request.params and self._page_is_gone(reply):
            # The list shrank while it was walked (a test order was deleted): nothing is behind its end.
            return None
        return by_status("pretix", request, reply)

    @staticmethod
    def _page_is_gone(reply: Reply) -> bool:
        return "page" in str(error_fields(reply).get("detail", "")).lower()

    def feedback(self, reply: Reply) -> tuple[QuotaFeedback, ...]:
        """pretix sends no limit headers; `Retry-After` on a 429 is read for every vendor alike."""
        return ()


@dataclass(frozen=True, slots=True)
class PretixOrders:
    """All orders of an organizer, or of some events one after the other; positions come out of the same pages.

    The default ordering is by creation: a changed order keeps its place, so a walk may see it twice but never skips one.
    """

    organizer: str
    events: tuple[str, ...] = ()
    page_size: int = PAGE_SIZE
    overlap: timedelta = OVERLAP
    name: str = "orders"
    yields: tuple[str, ...] = ("orders", "positions")

    @property
    def parts(self) -> int:
        return max(1, len(self.events))

    def request(self, cursor: Cursor) -> Request:
        params = [
            ("page", str(max(1, cursor.position))),
            ("page_size", str(self.page_size)),
            ("include_canceled_positions", "true"),
            ("include_canceled_fees", "true"),
        ]
        if cursor.since is not None:
            params.append(("modified_since", cursor.since.isoformat().replace("+00:00", "Z")))
        scope = f"/events/{self.events[cursor.part]}" if self.events else ""
        endpoint = (
            "/organizers/{organizer}/events/{event}/orders/" if self.events else "/organizers/{organizer}/orders/"
        )
        return Request(endpoint, f"/organizers/{self.organizer}{scope}/orders/", tuple(params))

    def read(self, cursor: Cursor, reply: Reply) -> PageRead:
        generated = instant(reply.headers.get("x-page-generated"))
        if reply.status == 404:
            return PageRead({}, None, vendor_now=generated)
        envelope, orders = page("pretix orders", reply, ("results",))
        if self.events:
            orders = [self._with_event(order, self.events[cursor.part]) for order in orders]
        high = newest(stamps(orders, "last_modified"), reply.received_at + timedelta(days=1))
        return PageRead(
            {"orders": orders, "positions": list(explode(orders))},
            self._next(envelope.get("next"), cursor) if orders else None,
            high=high,
            vendor_now=generated,
        )

    @staticmethod
    def _with_event(order: RawRecord, event: str) -> RawRecord:
        """Older servers leave the event out of lists that are below one event."""
        if not isinstance(order.value, dict) or "event" in order.value:
            return order
        return RawRecord({**order.value, "event": event})

    @staticmethod
    def _next(url: object, cursor: Cursor) -> NextPage | None:
        """Only the page number is taken from the link: its host is whatever the server believes itself to be."""
        if not isinstance(url, str) or not url:
            return None
        number = dict(parse_qsl(urlsplit(url).query)).get("page", "")
        return NextPage(position=int(number) if number.isdigit() else max(1, cursor.position) + 1)


def explode(orders: Iterable[RawRecord]) -> Iterable[RawRecord]:
    """Each order's positions as records of their own, with the order they belong to under `_order`.

    An order that cannot be parsed, or whose positions are no list, yields none: it is rejected as an order.
    """
    for order in orders:
        if order.fault is not None or not isinstance(order.value, dict):
            continue
        positions = order.value.get("positions")
        if not isinstance(positions, list):
            continue
        parent = {name: value for name, value in order.value.items() if name != "positions"}
        for position in positions:
            if isinstance(position, dict):
                yield RawRecord({**position, "_order": parent})
            else:
                yield RawRecord(position)
