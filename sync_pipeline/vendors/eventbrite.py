"""Eventbrite API v3: orders and attendees.

Sources: Eventbrite's API reference (authentication, errors, paging, eventual consistency, rate limits).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sync_pipeline.kernel.errors import (
    AuthenticationError,
    CursorExpired,
    ExpansionFailed,
    PermanentError,
    SyncError,
    TransientError,
)
from sync_pipeline.kernel.feed import (
    AGAIN,
    AuthSpec,
    Cursor,
    NextPage,
    PageRead,
    QuotaFeedback,
    QuotaWindow,
    Reply,
    Request,
)
from sync_pipeline.vendors.answers import by_status, error_fields, newest, page, server_clock, stamps

BASE_URL = "https://www.eventbriteapi.com/v3"
WINDOWS = (
    QuotaWindow("hour", 2000, 3600, burst=600, source="Eventbrite API reference: 2,000 calls per hour per token"),
    QuotaWindow("day", 48_000, 86_400, burst=6000, source="secondary sources only: 48,000 calls per day"),
)
OVERLAP = timedelta(minutes=5, seconds=30)
"""Changes are usually seen in 1 to 15 s, and after at most 5 minutes (API reference, eventual consistency)."""

PAGE_SIZE = 50
"""The largest page the API gives."""

AUTHENTICATION = {"INVALID_AUTH", "NO_AUTH", "INVALID_AUTH_HEADER"}
TRANSIENT = {"EXPANSION_FAILED", "INTERNAL_ERROR", "HIT_RATE_LIMIT"}
CODE = re.compile("[A-Z][A-Z0-9_]{0,62}", re.ASCII).fullmatch
"""What looks like one of its codes; anything else in `error` is not shown: it may be about somebody."""

EXPAND = ("expand", "attendees")


def auth(secret_env: str) -> AuthSpec:
    return AuthSpec("bearer", secret_env)


def endpoint(feed: str, *, of_events: bool) -> str:
    """Template of what a feed asks."""
    return f"/events/{{id}}/{feed}/" if of_events else f"/organizations/{{id}}/{feed}/"


@dataclass(frozen=True, slots=True)
class EventbriteApi:
    vendor: str = "eventbrite"
    windows: tuple[QuotaWindow, ...] = WINDOWS

    def classify(self, request: Request, reply: Reply) -> SyncError | None:
        """Eventbrite is judged by the body's `error` before the status: the same error comes with several statuses."""
        if reply.status < 300 or reply.status == 304:
            return None
        said = error_fields(reply).get("error")
        code = said if isinstance(said, str) and CODE(said) else None
        what = f"eventbrite {request.endpoint}: HTTP {reply.status}{f' {code}' if code else ''}"
        if code in AUTHENTICATION:
            return AuthenticationError(
                f"{what}, Eventbrite does not accept the token; put a valid private token into the variable that "
                "`token_env` names"
            )
        if code == "NOT_AUTHORIZED":
            return AuthenticationError(
                f"{what}, the token's user may not read this; check the organization in YAML and the user's role"
            )
        if code == "BAD_CONTINUATION_TOKEN":
            return CursorExpired(f"{what}, the continuation token is spent; the window is walked again")
        if code == "EXPANSION_FAILED" and request.plain is not None:
            return ExpansionFailed(f"{what}, Eventbrite could not add the attendees", status=reply.status)
        if code in TRANSIENT and reply.status != 429:
            return TransientError(
                f"{what}, Eventbrite failed; it is asked again", throttled=code == "HIT_RATE_LIMIT", status=reply.status
            )
        return by_status("eventbrite", request, reply)

    def feedback(self, reply: Reply) -> tuple[QuotaFeedback, ...]:
        """Eventbrite documents no limit headers."""
        return ()


@dataclass(frozen=True, slots=True)
class EventbriteFeed:
    """`orders` or `attendees`, of a whole organization or of some events one after the other."""

    name: str
    organization: str
    events: tuple[str, ...] = ()
    page_size: int = PAGE_SIZE
    overlap: timedelta = OVERLAP

    @property
    def yields(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def scope(self) -> str:
        of = f"events {','.join(sorted(self.events))}" if self.events else f"organization {self.organization}"
        return f"eventbrite {self.name} of {of}"

    @property
    def parts(self) -> tuple[str, ...]:
        return self.events

    @property
    def walk(self) -> str:
        return ",".join(self.events)

    def request(self, cursor: Cursor) -> Request:
        params = [("page_size", str(self.page_size))]
        if self.name == "orders":
            params += [("status", "both"), EXPAND]
        if cursor.since is not None:
            params.append(("changed_since", f"{cursor.since:%Y-%m-%dT%H:%M:%SZ}"))
        if cursor.token is not None:
            params.append(("continuation", cursor.token))
        if self.events:
            event = cursor.of or self.events[cursor.part]
            path = f"/events/{event}/{self.name}/"
        else:
            path = f"/organizations/{self.organization}/{self.name}/"
        asked = endpoint(self.name, of_events=bool(self.events))
        alone = tuple(param for param in params if param != EXPAND)
        plain = Request(asked, path, alone) if EXPAND in params else None
        return Request(asked, path, tuple(params), plain=plain)

    def read(self, cursor: Cursor, reply: Reply) -> PageRead:
        envelope, records = page(f"eventbrite {self.name}", reply, (self.name,))
        paging = envelope.get("pagination")
        if not isinstance(paging, dict):
            raise TransientError(
                f"eventbrite {self.name}: HTTP 200 without `pagination`; it is asked again", status=200
            )
        token = paging.get("continuation")
        follows = NextPage(token=token) if isinstance(token, str) and token else None
        # A continuation is given on the last page too, so that only the flag and an empty page say the end.
        more = bool(records) and cursor.walk != AGAIN and self._more(paging)
        if more and follows is None:
            raise PermanentError(
                f"eventbrite {self.name}: the list goes on, but this page has no continuation token; the window stays open",
                status=200,
            )
        # Our clock may be behind the vendor's; a day is far from a record's made-up year.
        high = newest(stamps(records, "changed"), reply.received_at + timedelta(days=1))
        return PageRead({self.name: records}, follows if more else None, high=high, vendor_now=server_clock(reply))

    def _more(self, paging: Mapping[str, Any]) -> bool:
        """Whether more pages follow, by the flag, else by their count."""
        flag, number, count = (paging.get(key) for key in ("has_more_items", "page_number", "page_count"))
        if isinstance(flag, bool):
            return flag
        if type(number) is int and type(count) is int:
            return number < count
        raise TransientError(
            f"eventbrite {self.name}: HTTP 200 whose `pagination` does not say whether more follows; it is asked again",
            status=200,
        )
