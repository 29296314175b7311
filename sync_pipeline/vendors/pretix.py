"""pretix REST API v1: orders, and the positions inside them.

Sources: pretix documentation (fundamentals, token authentication, rate limiting, resource `orders`), the order of
operations in its own list view, and its server, version 2026.8: `modified_since` is inclusive, `ordering=last_modified` sorts
equal stamps by descending number.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sync_pipeline.kernel.errors import AuthenticationError, SyncError
from sync_pipeline.kernel.feed import (
    Answer,
    AuthSpec,
    Cursor,
    NextPage,
    PageRead,
    QuotaFeedback,
    QuotaWindow,
    RawRecord,
    Reply,
    Request,
    Surveyed,
)
from sync_pipeline.vendors import keyset
from sync_pipeline.vendors import pretix_access as access
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
    """`organizer` and `events` are named in messages: they are settings."""

    vendor: str = "pretix"
    windows: tuple[QuotaWindow, ...] = WINDOWS
    organizer: str = ""
    events: tuple[str, ...] = ()

    def classify(self, request: Request, reply: Reply) -> SyncError | None:
        if reply.status == 403:
            return None if request.probe else AuthenticationError(self._forbidden(request))
        if reply.status == 404 and ("page", "1") not in request.params and self._page_is_gone(reply):
            # The list shrank while its ties were counted: the walk counts them again.
            return None
        return by_status("pretix", replace(request, endpoint=self.named(request)), reply)

    @staticmethod
    def named(request: Request) -> str:
        """What was asked, by the slugs of organizer and event: a path below an organizer holds nothing else."""
        return request.path if request.path.startswith("/organizers/") else request.endpoint

    def _forbidden(self, request: Request) -> str:
        events = f"events {', '.join(self.events)}" if self.events else "all its events"
        return (
            f"pretix {self.named(request)}: HTTP 403. pretix answers so to a wrong slug as to a missing permission: "
            f"check organizer `{self.organizer}` and {events} (upper and lower case count), and that the token's team "
            "may view the orders of these events"
        )

    @staticmethod
    def _page_is_gone(reply: Reply) -> bool:
        return "page" in str(error_fields(reply).get("detail", "")).lower()

    def feedback(self, reply: Reply) -> tuple[QuotaFeedback, ...]:
        """pretix sends no limit headers; `Retry-After` on a 429 is read for every vendor alike."""
        return ()


@dataclass(frozen=True, slots=True)
class PretixOrders:
    """All orders of an organizer, or of some events one after the other; positions come out of the same pages.

    Sorted by modification and walked by it (see `keyset`): what exists all the time is listed, whatever else is changed or
    deleted meanwhile. The organizer's list leaves out, without a word, the events whose orders the token may not view. So an
    empty one closes a window only after another list has proven the permission (see `pretix_access`).
    """

    organizer: str
    events: tuple[str, ...] = ()
    page_size: int = PAGE_SIZE
    overlap: timedelta = OVERLAP
    name: str = "orders"
    yields: tuple[str, ...] = ("orders", "positions")

    @property
    def parts(self) -> tuple[str, ...]:
        return self.events

    @property
    def walk(self) -> str:
        return ",".join(self.events)

    @property
    def scope(self) -> str:
        return f"pretix {self.organizer}: {','.join(sorted(self.events)) or 'all events'}"

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Templates of what it asks; without events in the settings it asks what the token may view, too."""
        return (access.EVENT_ORDERS,) if self.events else (access.ORDERS, access.EVENTS, access.EVENT_ORDERS)

    def request(self, cursor: Cursor) -> Request:
        if access.proving(cursor):
            return access.question(self.organizer, cursor)
        place = keyset.place(cursor)
        params = [
            ("page", str(place.page)),
            ("page_size", str(place.size or self.page_size)),
            ("ordering", "last_modified"),
            ("include_canceled_positions", "true"),
            ("include_canceled_fees", "true"),
        ]
        if place.since is not None:
            params.append(("modified_since", place.since.isoformat().replace("+00:00", "Z")))
        scope = f"/events/{self._event(cursor)}" if self.events else ""
        endpoint = access.EVENT_ORDERS if self.events else access.ORDERS
        return Request(endpoint, f"/organizers/{self.organizer}{scope}/orders/", tuple(params))

    def read(self, cursor: Cursor, reply: Reply) -> PageRead:
        if access.proving(cursor):
            return access.answer(self.organizer, cursor, reply)
        generated = instant(reply.headers.get("x-page-generated"))
        latest = generated or reply.received_at + timedelta(days=1)
        if reply.status == 404:
            return PageRead({}, keyset.after(cursor, (), more=False, now=latest), vendor_now=generated)
        envelope, orders = page("pretix orders", reply, ("results",))
        if event := self._event(cursor):
            orders = [self._with_event(order, event) for order in orders]
        following = keyset.after(
            cursor,
            keyset.rows_of(orders, ("event", "code"), "last_modified"),
            more=bool(envelope.get("next")),
            now=latest,
        )
        if not (self.events or orders or cursor.last_key or cursor.token):
            following = NextPage(token=access.ANY_ORDER)
        return PageRead(
            {"orders": orders, "positions": list(explode(orders))},
            following,
            high=newest(stamps(orders, "last_modified"), reply.received_at + timedelta(days=1)),
            vendor_now=generated,
        )

    def survey(
        self, known: str | None, settled: datetime | None, now: datetime, answers: Sequence[Answer]
    ) -> Request | Surveyed:
        """Which events' orders the token may view. With events in the settings, their own lists say it."""
        if self.events:
            return Surveyed("")
        return access.survey(self.organizer, self.overlap, known, settled, now, answers)

    def _event(self, cursor: Cursor) -> str | None:
        """The event whose list the cursor stands in, by name: pages are read again after the settings have changed."""
        if cursor.of is not None:
            return cursor.of
        return self.events[cursor.part] if cursor.part < len(self.events) else None

    @property
    def unsettled(self) -> str:
        """Orders with a refund under way, and cancelled ones that still hold money, since a refund may yet be made: pretix's
        `OrderRefund.done()` leaves the order's `last_modified` as it is."""
        under_way = '@.refunds[*].state ? (@ == "created" || @ == "transit" || @ == "external")'
        received = '@.payments[*].state ? (@ == "confirmed" || @ == "refunded")'
        holds_money = f'$vendor_status == "c" && $payment_status == "FAILED" && exists({received})'
        return f"$ ? (exists({under_way}) || ({holds_money}))"

    def again(self, vendor_id: str) -> tuple[Cursor, Request] | None:
        """The list of one order, by its code, below its event."""
        event, _, code = vendor_id.partition("/")
        if self.events and event not in self.events:
            return None
        params = (
            ("page", "1"),
            ("page_size", "1"),
            ("code", code),
            ("include_canceled_positions", "true"),
            ("include_canceled_fees", "true"),
        )
        path = f"/organizers/{self.organizer}/events/{event}/orders/"
        request = Request(access.EVENT_ORDERS, path, params, probe=True)
        return Cursor(of=event), request

    @staticmethod
    def _with_event(order: RawRecord, event: str) -> RawRecord:
        """Older servers leave the event out of lists that are below one event."""
        if not isinstance(order.value, dict) or "event" in order.value:
            return order
        return RawRecord({**order.value, "event": event})


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
