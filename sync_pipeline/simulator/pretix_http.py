"""pretix's HTTP surface: paths, page-number paging, change filters and error bodies (saas.md §5)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_pipeline.simulator.clock import SimClock, micro_z
from sync_pipeline.simulator.entities import Doc, Entity, Seen, Version
from sync_pipeline.simulator.gate import Call, Gate
from sync_pipeline.simulator.malformed import MARK, break_record, encode, splice
from sync_pipeline.simulator.pretix_grants import Grants, token_of
from sync_pipeline.simulator.pretix_records import ORGANIZER
from sync_pipeline.simulator.pretix_world import PretixWorld, position_key

PREFIX = "/pretix/api/v1"
_PAGE = 50
_DETAILS = {
    400: "Malformed request.",
    401: "Invalid token.",
    403: "You do not have permission to perform this action.",
    404: "Not found.",
}
_ORDERINGS = ("datetime", "code", "status", "last_modified", "cancellation_date")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?")
_TRUE = frozenset({"true", "1", "True", "on"})


class Refused(Exception):
    """A request that the vendor answers with an error body."""

    def __init__(self, status: int, body: Doc) -> None:
        super().__init__(status)
        self.response = JSONResponse(body, status_code=status)


def detail(status: int, text: str | None = None) -> Response:
    return JSONResponse({"detail": text or _DETAILS.get(status, "Internal Server Error")}, status_code=status)


class PretixDialect:
    """pretix's refusals."""

    vendor = "pretix"

    def __init__(self, grants: Grants) -> None:
        self._grants = grants

    def credential_problem(self, request: Request) -> Response | None:
        header = request.headers.get("Authorization")
        if header is None:
            return detail(401, "Authentication credentials were not provided.")
        known = header.lower().startswith("token ") and token_of(request) in self._grants
        return None if known else detail(401)

    def limited(self, window: int, wait: float) -> Response:
        seconds = max(1, math.ceil(wait))
        response = detail(429, f"Request was throttled. Expected available in {seconds} seconds.")
        response.headers["Retry-After"] = str(seconds)
        return response

    def error(self, status: int) -> Response:
        if status == 429:
            return detail(429, "Request was throttled.")
        if status >= 500:
            return Response(f"<h1>Server Error ({status})</h1>", status, media_type="text/html")
        return detail(status)

    def special(self, kind: str) -> Response:
        raise AssertionError(kind)

    def special_kinds(self, request: Request) -> frozenset[str]:
        return frozenset({"duplicates"})


class PretixApi:
    """Answers requests from the world as it can be seen at this instant."""

    def __init__(self, world: PretixWorld, clock: SimClock, gate: Gate, grants: Grants) -> None:
        self._world = world
        self._clock = clock
        self._gate = gate
        self._grants = grants

    def routes(self) -> list[Route]:
        org, event = "/organizers/{organizer}", "/organizers/{organizer}/events/{event}"
        table: list[tuple[str, Callable[[Call], Response]]] = [
            ("/organizers/", self._organizers),
            (f"{org}/", self._organizer),
            (f"{org}/events/", self._events),
            (f"{org}/orders/", self._orders),
            (f"{event}/", self._event),
            (f"{event}/orders/", self._orders),
            (f"{event}/orders/{{code}}/", self._order),
            (f"{event}/items/", self._items),
            (f"{event}/orderpositions/", self._positions),
        ]
        routes = [
            Route(PREFIX + path, self._gate.endpoint(path, self._guarded(handler)), methods=["GET"])
            for path, handler in table
        ]
        other = self._gate.endpoint("other", self._unknown)
        every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [*routes, Route(PREFIX + "/{rest:path}", other, methods=every)]

    def _guarded(self, handler: Callable[[Call], Response]) -> Callable[[Call], Response]:
        def guarded(call: Call) -> Response:
            params = call.request.path_params
            if params.get("organizer", ORGANIZER) != ORGANIZER:
                return detail(403)
            event = params.get("event")
            if event is not None and not self._may(call, event):
                return detail(403)
            try:
                return handler(call)
            except Refused as refusal:
                return refusal.response

        return guarded

    def _may(self, call: Call, event: str) -> bool:
        """An event that is not there is refused like one that the token may not see; so are its orders."""
        grant = self._grants[token_of(call.request)]
        about_orders = "/order" in call.endpoint.partition("{event}")[2]
        return event in self._world.events and (grant.reads(event) if about_orders else grant.sees(event))

    def _unknown(self, call: Call) -> Response:
        if call.request.method != "GET":
            return detail(405, f"Method '{call.request.method}' not allowed.")
        url = call.request.url
        if not url.path.endswith("/"):
            return Response(status_code=301, headers={"Location": str(url.replace(path=url.path + "/"))})
        return detail(404)

    # -- small things ----------------------------------------------------------------------------------------------

    def _organizers(self, call: Call) -> Response:
        return self._page(call, [encode({"name": "Simulated Organizer", "slug": ORGANIZER})])

    def _organizer(self, call: Call) -> Response:
        return _json(encode({"name": "Simulated Organizer", "slug": ORGANIZER}))

    def _events(self, call: Call) -> Response:
        grant = self._grants[token_of(call.request)]
        shown = [doc for slug, doc in sorted(self._world.events.items()) if grant.sees(slug)]
        return self._page(call, [encode(doc) for doc in shown])

    def _event(self, call: Call) -> Response:
        return _json(encode(self._world.events[call.request.path_params["event"]]))

    def _items(self, call: Call) -> Response:
        slug = call.request.path_params["event"]
        modified = self._world.items_modified[slug].replace(microsecond=0)
        since = call.request.headers.get("If-Modified-Since")
        headers = {"Last-Modified": format_datetime(modified, usegmt=True)}
        if since is not None and _http_date(since) >= modified:
            return Response(status_code=304, headers=headers)
        response = self._page(call, [encode(doc) for doc in self._world.items[slug]])
        response.headers.update(headers)
        return response

    # -- orders and positions --------------------------------------------------------------------------------------

    def _order(self, call: Call) -> Response:
        params = call.request.path_params
        seen = self._world.orders.get(f"{params['event']}/{params['code']}", self._clock.seconds())
        if seen is None:
            return detail(404)
        return _json(self._render(seen, canceled=_flag(call, "include_canceled_positions"), exclude=frozenset()))

    def _orders(self, call: Call) -> Response:
        generated = self._clock.now()
        rows = self._seen(call)
        canceled = _flag(call, "include_canceled_positions")
        exclude = frozenset(call.request.query_params.getlist("exclude"))
        response = self._page_of(call, rows, lambda row: self._render(row, canceled=canceled, exclude=exclude))
        response.headers["X-Page-Generated"] = micro_z(generated)
        return response

    def _seen(self, call: Call) -> list[Seen]:
        """Orders as DRF would select them: filtered and sorted anew for each page, over what is committed by now.

        An organizer's list is filtered by what the token may read; it says nothing of what it leaves out.
        """
        grant = self._grants[token_of(call.request)]
        slug = call.request.path_params.get("event")
        modified, created = _instant(call, "modified_since"), _instant(call, "created_since")
        before = _instant(call, "created_before")
        status, code, email = call.query("status"), call.query("code"), call.query("email")
        if status is not None and any(letter not in "npec" for letter in status.split(",")):
            raise Refused(400, {"status": ["Select a valid choice. That choice is not one of the available choices."]})

        def keep(entity: Entity, version: Version) -> bool:
            doc = version.doc or {}
            born = datetime.fromisoformat(doc["datetime"])
            return (
                (slug is None or doc["event"] == slug)
                and grant.reads(doc["event"])
                and (modified is None or version.changed >= modified)
                and (created is None or born >= created)
                and (before is None or born < before)
                and (status is None or doc["status"] in status.split(","))
                and (code is None or doc["code"] == code)
                and (email is None or str(doc["email"]).lower() == email.lower())
            )

        # Unknown fields are ignored, as Django's filters do.
        wished = (call.query("ordering") or "datetime").split(",")
        ordering = next((name for name in wished if name.lstrip("-") in _ORDERINGS), "datetime")
        key = (slug, modified, created, before, status, code, email, ordering, grant.visible, grant.orders)
        # Equal values stand by descending number, as pretix's TotalOrderingFilter has them.
        rows = self._world.orders.snapshot(
            key, self._clock.seconds(), keep=keep, sort=lambda row: (_sort_value(row, ordering), -row[0].seq)
        )
        return rows[::-1] if ordering.startswith("-") else rows

    def _positions(self, call: Call) -> Response:
        canceled = _flag(call, "include_canceled_positions")
        rows = [
            (position_key(version.doc or {}, position), position)
            for _, version in self._seen(call)
            for position in (version.doc or {})["positions"]
            if canceled or not position["canceled"]
        ]
        return self._page_of(call, rows, self._render_position)

    def _render_position(self, row: tuple[str, Doc]) -> bytes:
        kind = self._world.malformed_positions.get(row[0])
        return break_record(kind, row[1]) if kind else encode(row[1])

    def _render(self, seen: Seen, *, canceled: bool, exclude: frozenset[str]) -> bytes:
        entity, version = seen
        variant = f"{canceled}/{','.join(sorted(exclude))}"
        broken = self._world.has_broken_position(version.doc or {"positions": ()})
        raw = version.raw.get(variant)
        if raw is not None and entity.malformed is None and not broken:
            return raw
        doc = {name: value for name, value in (version.doc or {}).items() if name not in exclude}
        if "positions" in doc and not canceled:
            doc["positions"] = [position for position in doc["positions"] if not position["canceled"]]
        if entity.malformed:
            return break_record(entity.malformed, doc)
        if broken and "positions" in doc:
            shown = [self._render_position((position_key(doc, row), row)) for row in doc["positions"]]
            return splice({**doc, "positions": MARK}, b"[" + b",".join(shown) + b"]")
        raw = version.raw[variant] = encode(doc)
        return raw

    # -- paging ----------------------------------------------------------------------------------------------------

    def _page(self, call: Call, rows: list[bytes]) -> Response:
        return self._page_of(call, rows, lambda row: row)

    def _page_of(self, call: Call, rows: list[Any], render: Callable[[Any], bytes]) -> Response:
        size = _size(call)
        pages = max(1, -(-len(rows) // size))
        asked = call.query("page") or "1"
        number = pages if asked == "last" else int(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else 0
        if not 1 <= number <= pages:
            raise Refused(404, {"detail": "Invalid page."})
        shown = [render(row) for row in rows[(number - 1) * size : number * size]]
        if call.duplicates and shown:
            shown = [*shown, *shown[: max(1, len(shown) // 5)]]
        body = b'{"count":%d,"next":%s,"previous":%s,"results":[%s]}' % (
            len(rows),
            encode(self._link(call, number + 1) if number < pages else None),
            encode(self._link(call, number - 1) if number > 1 else None),
            b",".join(shown),
        )
        return _json(body)

    def _link(self, call: Call, number: int) -> str:
        url = call.request.url
        return str(url.remove_query_params("page") if number == 1 else url.include_query_params(page=number))


def _sort_value(row: Seen, ordering: str) -> Any:
    name = ordering.lstrip("-")
    doc = row[1].doc or {}
    if name == "last_modified":
        return row[1].changed
    if name == "datetime":
        return datetime.fromisoformat(doc["datetime"])
    return doc[name] or ""


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _flag(call: Call, name: str) -> bool:
    return call.query(name) in _TRUE


def _size(call: Call) -> int:
    text = call.query("page_size") or ""
    return min(_PAGE, int(text)) if re.fullmatch(r"[0-9]{1,9}", text) and int(text) else _PAGE


def _instant(call: Call, name: str) -> datetime | None:
    """An aware instant from the query. A `+` that was not escaped arrives as a space and is refused."""
    text = call.query(name)
    if not text:
        return None
    if _INSTANT.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        except ValueError:
            pass
    raise Refused(400, {name: ["Enter a valid date/time."]})


def _http_date(text: str) -> datetime:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
