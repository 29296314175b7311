"""Eventbrite's HTTP surface: paths, envelopes, continuation tokens and error bodies (saas.md §4)."""

from __future__ import annotations

import base64
import bisect
import json
import re
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_pipeline.simulator.clock import SimClock
from sync_pipeline.simulator.entities import Doc, Entity, Feed, Seen, Version
from sync_pipeline.simulator.eventbrite_records import ORGANIZATION_ID
from sync_pipeline.simulator.eventbrite_world import EventbriteWorld
from sync_pipeline.simulator.gate import Call, Gate
from sync_pipeline.simulator.malformed import break_record

PREFIX = "/eventbrite/v3"
Place = tuple[int, str]  # where a record stands in its list
_PAGE = 50
_WORDS = {
    400: ("ARGUMENTS_ERROR", "There are errors with your arguments."),
    401: ("INVALID_AUTH", "The OAuth token you provided was invalid."),
    403: ("NOT_AUTHORIZED", "You are not authorized to perform that action."),
    404: ("NOT_FOUND", "The path you requested does not exist."),
    405: ("METHOD_NOT_ALLOWED", "Method not allowed."),
    429: ("HIT_RATE_LIMIT", "Hourly rate limit has been reached for this token."),
    500: ("INTERNAL_ERROR", "Unhandled error."),
    502: ("INTERNAL_ERROR", "Bad gateway."),
    503: ("INTERNAL_ERROR", "Service unavailable."),
    504: ("INTERNAL_ERROR", "Gateway timeout."),
}
_ORDER_GROUPS = {
    "active": frozenset({"placed", "pending", "started"}),
    "inactive": frozenset({"abandoned", "refunded"}),
}
_ATTENDEE_GROUPS = {
    "attending": frozenset({"Attending", "Checked In"}),
    "not_attending": frozenset({"Not Attending"}),
    "unpaid": frozenset({"Unpaid"}),
}


class BadRequest(Exception):
    """A request that the vendor refuses, with its word for it."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(error)
        self.response = error_response(status, error, description)


def error_response(status: int, error: str | None = None, description: str | None = None) -> Response:
    word, text = _WORDS.get(status, ("INTERNAL_ERROR", "Unhandled error."))
    body = {"status_code": status, "error_description": description or text, "error": error or word}
    return JSONResponse(body, status_code=status)


class EventbriteDialect:
    """Eventbrite's refusals."""

    vendor = "eventbrite"

    def __init__(self, token: str, *, retry_after: bool) -> None:
        self._token = token
        self._retry_after = retry_after

    def credential_problem(self, request: Request) -> Response | None:
        header = request.headers.get("Authorization")
        given = request.query_params.get("token")
        if header is None and given is None:
            return error_response(401, "NO_AUTH", "An OAuth token is required for all requests")
        if header is not None:
            scheme, _, value = header.partition(" ")
            given = value.strip() if scheme.lower() == "bearer" else ""
        return None if given == self._token else error_response(401)

    def limited(self, window: int, wait: float) -> Response:
        text = _WORDS[429][1] if window == 0 else "Daily rate limit has been reached for this token."
        response = error_response(429, "HIT_RATE_LIMIT", text)
        if self._retry_after:
            response.headers["Retry-After"] = str(int(wait) + 1)
        return response

    def error(self, status: int) -> Response:
        return error_response(status)

    def special(self, kind: str) -> Response:
        if kind == "expansion_failed":
            return error_response(500, "EXPANSION_FAILED", "An error occurred while expanding the response.")
        return error_response(400, "BAD_CONTINUATION_TOKEN", "The continuation token is invalid or has expired.")

    def special_kinds(self, request: Request) -> frozenset[str]:
        kinds = {"duplicates"}
        if request.query_params.get("expand"):
            kinds.add("expansion_failed")
        if request.query_params.get("continuation"):
            kinds.add("bad_continuation")
        return frozenset(kinds)


def encode(doc: Any) -> bytes:
    """JSON in ASCII: characters beyond it come as escapes, those beyond the BMP as surrogate pairs."""
    return json.dumps(doc, separators=(",", ":")).encode()


class EventbriteApi:
    """Answers requests from the world as it can be seen at this instant."""

    def __init__(self, world: EventbriteWorld, clock: SimClock, gate: Gate) -> None:
        self._world = world
        self._clock = clock
        self._gate = gate

    def routes(self) -> list[Route]:
        table: list[tuple[str, Callable[[Call], Response]]] = [
            ("/users/me/organizations/", self._organizations),
            ("/organizations/{org}/events/", self._events),
            ("/organizations/{org}/orders/", self._orders),
            ("/organizations/{org}/attendees/", self._attendees),
            ("/events/{event}/", self._event),
            ("/events/{event}/orders/", self._orders),
            ("/events/{event}/attendees/", self._attendees),
            ("/events/{event}/attendees/{attendee}/", self._attendee),
            ("/events/{event}/ticket_classes/", self._ticket_classes),
            ("/orders/{order}/", self._order),
        ]
        routes = [
            Route(PREFIX + path, self._gate.endpoint(path, self._guarded(handler)), methods=["GET"])
            for path, handler in table
        ]
        other = self._gate.endpoint("other", self._guarded(self._unknown))
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [*routes, Route(PREFIX + "/{rest:path}", other, methods=every)]

    def _guarded(self, handler: Callable[[Call], Response]) -> Callable[[Call], Response]:
        def guarded(call: Call) -> Response:
            try:
                org, event = call.request.path_params.get("org"), call.request.path_params.get("event")
                if org not in (None, ORGANIZATION_ID):
                    return error_response(403)
                if event is not None and event not in self._world.events:
                    return error_response(404, description="The event you requested does not exist.")
                return handler(call)
            except BadRequest as refusal:
                return refusal.response

        return guarded

    def _unknown(self, call: Call) -> Response:
        if call.request.method != "GET":
            return error_response(405)
        if not call.request.url.path.endswith("/"):
            url = call.request.url
            response = error_response(301, "PERMANENTLY_MOVED", "Resource must be accessed at a different URI")
            response.headers["Location"] = str(url.replace(path=url.path + "/"))
            return response
        return error_response(404)

    # -- single objects --------------------------------------------------------------------------------------------

    def _event(self, call: Call) -> Response:
        return _json(encode(self._world.events[call.request.path_params["event"]]))

    def _order(self, call: Call) -> Response:
        seen = self._world.orders.get(call.request.path_params["order"], self._clock.seconds())
        if seen is None:
            return error_response(404, description="The order you requested does not exist.")
        return _json(self._render(seen, "orders", _expansions(call)))

    def _attendee(self, call: Call) -> Response:
        seen = self._world.attendees.get(call.request.path_params["attendee"], self._clock.seconds())
        if seen is None or _doc(seen)["event_id"] != call.request.path_params["event"]:
            return error_response(404, description="The attendee you requested does not exist.")
        return _json(self._render(seen, "attendees", _expansions(call)))

    # -- lists -----------------------------------------------------------------------------------------------------

    def _organizations(self, call: Call) -> Response:
        doc = {"_type": "organization", "name": "Simulated Events", "vertical": "default", "id": ORGANIZATION_ID}
        return self._static(call, "organizations", [{**doc, "locale": None, "parent_id": None}])

    def _events(self, call: Call) -> Response:
        wanted = (call.query("status") or "all").split(",")
        docs = [doc for doc in self._world.events.values() if "all" in wanted or doc["status"] in wanted]
        order = call.query("order_by") or "start_asc"
        name, _, direction = order.rpartition("_")
        if name not in ("start", "created", "name") or direction not in ("asc", "desc"):
            raise BadRequest("ARGUMENTS_ERROR", "There are errors with your arguments: order_by - INVALID")
        docs.sort(key=lambda doc: encode(doc[name]), reverse=direction == "desc")
        return self._static(call, "events", docs)

    def _ticket_classes(self, call: Call) -> Response:
        return self._static(call, "ticket_classes", self._world.ticket_classes[call.request.path_params["event"]])

    def _static(self, call: Call, name: str, docs: list[Doc]) -> Response:
        return self._paged(call, name, len(docs), lambda index: (index, ""), lambda index: encode(docs[index]))

    def _orders(self, call: Call) -> Response:
        groups = {"both": None, "all": None, "all_not_deleted": None, **_ORDER_GROUPS}
        keep = _filter(call, groups, self._event_of(call))
        only, exclude = call.query("only_emails"), call.query("exclude_emails")
        emails = frozenset((only or "").lower().split(",")), frozenset((exclude or "").lower().split(","))

        def wanted(entity: Entity, version: Version) -> bool:
            email = str((version.doc or {})["email"]).lower()
            return keep(entity, version) and (not only or email in emails[0]) and email not in emails[1]

        return self._records(call, "orders", self._world.orders, wanted)

    def _attendees(self, call: Call) -> Response:
        keep = _filter(call, {"all": None, **_ATTENDEE_GROUPS}, self._event_of(call))
        return self._records(call, "attendees", self._world.attendees, keep)

    def _event_of(self, call: Call) -> str | None:
        event: str | None = call.request.path_params.get("event")
        return event

    def _records(self, call: Call, name: str, feed: Feed, keep: Callable[[Entity, Version], bool]) -> Response:
        # The vendor documents no order. This one is fixed for a record and has nothing to do with its changes.
        key = (call.request.url.path, _query_identity(call))
        seen = feed.snapshot(key, self._clock.seconds(), keep=keep, sort=lambda row: _place(row[0]))
        expand = _expansions(call)
        return self._paged(
            call,
            name,
            len(seen),
            lambda index: _place(seen[index][0]),
            lambda index: self._render(seen[index], name, expand),
        )

    def _paged(
        self,
        call: Call,
        name: str,
        total: int,
        place: Callable[[int], Place],
        render: Callable[[int], bytes],
    ) -> Response:
        size = _page_size(call)
        number, start = 1, 0
        token = call.query("continuation")
        if token is not None:
            number, after = _read_continuation(token, call)
            start = bisect.bisect_right(range(total), after, key=place) if after else 0
        elif call.query("page") is not None:
            number = _positive(call.query("page"), "BAD_PAGE", "The page number you requested is invalid.")
            start = (number - 1) * size
            if start >= total and number > 1:
                raise BadRequest("BAD_PAGE", "The page number you requested does not exist.")
        rows = [render(index) for index in range(start, min(start + size, total))]
        if rows:
            last: Place | None = place(start + len(rows) - 1)
        else:
            last = _read_continuation(token, call)[1] if token else None
        if call.duplicates and rows:
            rows = [*rows, *rows[: max(1, len(rows) // 5)]]
        pagination = {
            "object_count": total,
            "page_number": number,
            "page_size": size,
            "page_count": max(1, -(-total // size)),
            "continuation": _continuation(number + 1, last, call),
            "has_more_items": start + size < total,
        }
        body = b'{"pagination":%s,"%s":[%s]}' % (encode(pagination), name.encode(), b",".join(rows))
        return _json(body)

    def _render(self, seen: Seen, name: str, expand: frozenset[str]) -> bytes:
        entity, version = seen
        doc = _doc(seen)
        extra: Doc = {}
        if name == "orders" and "attendees" in expand:
            now = self._clock.seconds()
            rows = (self._world.attendees.get(key, now) for key in self._world.order_attendees[entity.id])
            extra["attendees"] = [_doc(row) for row in rows if row is not None]
        if "event" in expand:
            extra["event"] = self._world.events[doc["event_id"]]
        if entity.malformed:
            return break_record(entity.malformed, {**doc, **extra})
        raw = version.raw.get("plain")
        if raw is None:
            raw = version.raw["plain"] = encode(doc)
        return raw if not extra else raw[:-1] + b"," + encode(extra)[1:]


def _doc(seen: Seen) -> Doc:
    assert seen[1].doc is not None
    return seen[1].doc


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _place(entity: Entity) -> Place:
    return zlib.crc32(entity.id.encode()), entity.id


def _expansions(call: Call) -> frozenset[str]:
    return frozenset((call.query("expand") or "").split(","))


def _positive(text: str | None, error: str, description: str) -> int:
    if text is None or not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise BadRequest(error, description)
    return int(text)


def _page_size(call: Call) -> int:
    if call.query("page_size") is None:
        return _PAGE
    wrong = "There are errors with your arguments: page_size - INVALID"
    return min(_PAGE, _positive(call.query("page_size"), "ARGUMENTS_ERROR", wrong))


def _filter(
    call: Call, groups: dict[str, frozenset[str] | None], event: str | None
) -> Callable[[Entity, Version], bool]:
    status = call.query("status")
    names = status.split(",") if status else []
    if any(name not in groups for name in names):
        raise BadRequest("ARGUMENTS_ERROR", "There are errors with your arguments: status - INVALID")
    allowed: frozenset[str] | None = frozenset()
    for name in names:
        group = groups[name]
        allowed = None if group is None or allowed is None else allowed | group
    since = _instant(call.query("changed_since"))
    last_seen = call.query("last_item_seen") if event is not None and since is not None else None

    def keep(entity: Entity, version: Version) -> bool:
        doc = version.doc or {}
        if event is not None and doc["event_id"] != event:
            return False
        if names and allowed is not None and doc["status"] not in allowed:
            return False
        if since is None:
            return True
        changed = version.changed.replace(microsecond=0)
        if changed == since and last_seen is not None and last_seen.isdigit():
            return int(entity.id) > int(last_seen)
        return changed >= since

    return keep


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadRequest("ARGUMENTS_ERROR", "There are errors with your arguments: changed_since - INVALID") from None


def _query_identity(call: Call) -> str:
    """The request without what may differ from page to page of one walk."""
    free = {"continuation", "page", "token"}
    return "&".join(sorted(f"{name}={value}" for name, value in call.request.query_params.items() if name not in free))


def _continuation(number: int, last: Place | None, call: Call) -> str:
    payload = json.dumps([number, last, zlib.crc32((call.request.url.path + _query_identity(call)).encode())]).encode()
    return base64.urlsafe_b64encode(zlib.crc32(payload).to_bytes(4, "big") + payload).decode().rstrip("=")


def _read_continuation(token: str, call: Call) -> tuple[int, Place | None]:
    """Page number and last key seen; a token that was not made for this very request is refused."""
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        checksum, payload = raw[:4], raw[4:]
        number, last, request = json.loads(payload)
        good = int.from_bytes(checksum, "big") == zlib.crc32(payload)
    except (ValueError, TypeError):
        good = False
    if not good or request != zlib.crc32((call.request.url.path + _query_identity(call)).encode()):
        raise BadRequest("BAD_CONTINUATION_TOKEN", "The continuation token is invalid or has expired.")
    return int(number), (int(last[0]), str(last[1])) if last else None
