"""The generic `rest` vendor: a JSON API described in YAML alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sync_pipeline.kernel.errors import PermanentError, SyncError
from sync_pipeline.kernel.feed import (
    Cursor,
    PageRead,
    QuotaFeedback,
    QuotaWindow,
    RawRecord,
    Reply,
    Request,
    Validator,
)
from sync_pipeline.kernel.instants import ahead
from sync_pipeline.vendors.answers import by_status, dotted, error_fields, instant, newest, page, server_clock, stamps
from sync_pipeline.vendors.rest_options import RateHeaders, RestFeedOptions, SinceFormat
from sync_pipeline.vendors.rest_paging import Pages, digest

NO_SUCH_PAGE = frozenset({400, 404, 416, 422})
"""What vendors answer where a list has ended. Each may mean something else as well."""

SAYING = frozenset({"detail", "message", "error", "errors", "error_description", "title"})
ENDED = re.compile(
    r"\b(invalid|no such|no more|out of range|beyond|past|exceeds)\s+((the|that|last|final|requested|result)\s+)*pages?\b"
    r"|\bpage(\s+(number|index|no|parameter|value))?\W*(\d+\W*)?((is|was|does|contains)\s+)?"
    r"(out of (range|bounds)|invalid|beyond|past the|exceeds|too (large|high|big)|(not|doesn.t) exist|no (results|records))\b",
    re.IGNORECASE,
)
"""How vendors say that a list has no such page."""


def endpoint(path: str) -> str:
    """Template of what is asked: a path without its ids and parameters."""
    return re.sub(r"/\d+(?=/|$)", "/{id}", path.partition("?")[0])


@dataclass(frozen=True, slots=True)
class RestApi:
    windows: tuple[QuotaWindow, ...]
    headers: RateHeaders | None = None
    vendor: str = "rest"

    def classify(self, request: Request, reply: Reply) -> SyncError | None:
        if reply.status in NO_SUCH_PAGE and request.behind:
            if reply.status == 404 and _says_no_such_page(reply):
                return None
            return PermanentError(
                f"{self.vendor} {request.endpoint}: HTTP {reply.status} for page {request.behind + 1} of a list that we count; "
                "if that only says that the list has ended, name the flag that says so in paging.has_more, or set "
                "paging.short_page_ends",
                status=reply.status,
            )
        return by_status(self.vendor, request, reply)

    def feedback(self, reply: Reply) -> tuple[QuotaFeedback, ...]:
        named = self.headers
        if named is None:
            return ()
        remaining, reset = _number(reply, named.remaining), _number(reply, named.reset)
        if remaining is None:
            return ()
        limit = _number(reply, named.limit)
        return (
            QuotaFeedback(
                window=named.window or self.windows[0].name,
                limit=None if limit is None else int(limit),
                remaining=int(remaining),
                reset_at=None if reset is None else _reset(reset, named.reset_is, reply),
            ),
        )


def _says_no_such_page(reply: Reply) -> bool:
    """`Invalid page.` and its like, where a vendor says what is wrong. That something was not found may be said of anything, and
    a page may be named anywhere."""
    return any(ENDED.search(text) for text in _said(error_fields(reply)))


def _said(value: Any, depth: int = 3) -> Iterator[str]:
    """The texts of an error: `{"error": {"message": …}}`, `{"errors": [{"detail": …}]}`."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for item in value:
            yield from _said(item, depth - 1)
    elif isinstance(value, dict) and depth:
        for key in SAYING & value.keys():
            yield from _said(value[key], depth - 1)


def _number(reply: Reply, header: str) -> float | None:
    try:
        value = float(reply.headers[header.lower()])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _reset(value: float, kind: str, reply: Reply) -> datetime | None:
    """By our clock; None for an instant that is absurd."""
    now = reply.received_at
    try:
        if kind == "seconds":
            return now + timedelta(seconds=value)
        moment = datetime.fromtimestamp(value / (1000 if kind == "epoch_ms" else 1), UTC)
    except (OverflowError, ValueError, OSError):
        return None
    left = ahead(moment, now, server_clock(reply))
    return None if left is None else now + left


FORMATS: dict[SinceFormat, Callable[[datetime], str]] = {
    "iso_seconds": lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}",
    "iso_millis": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
    "iso_micros": lambda at: f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
    "epoch_s": lambda at: str(int(at.timestamp())),
    "epoch_ms": lambda at: str(int(at.timestamp() * 1000)),
}


@dataclass(frozen=True, slots=True)
class RestFeed:
    """One list of an API. `base_url` and `secret_param`: as in `Pages`."""

    name: str
    options: RestFeedOptions
    base_url: str = ""
    secret_param: str | None = None
    parts: tuple[str, ...] = ()
    walk: str = field(init=False, repr=False)
    _pages: Pages = field(init=False, repr=False)

    def __post_init__(self) -> None:
        options = self.options
        counted = [options.paging.model_dump(), options.page_size_param, options.page_size, options.records]
        object.__setattr__(self, "walk", digest(orjson.dumps(counted, option=orjson.OPT_SORT_KEYS)))
        object.__setattr__(self, "_pages", Pages(self.name, options, self.base_url, self.secret_param))

    @property
    def yields(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def scope(self) -> str:
        return f"rest {self.options.path} {sorted(self.options.params.items())}"

    @property
    def overlap(self) -> timedelta:
        return timedelta(seconds=self.options.overlap_s)

    @property
    def page_size(self) -> int:
        return self.options.page_size

    def request(self, cursor: Cursor) -> Request:
        options, paging = self.options, self.options.paging
        params = dict(options.params)
        if options.page_size_param:
            params[options.page_size_param] = str(options.page_size)
        if cursor.since is not None and options.modified is not None and options.modified.param:
            params[options.modified.param] = FORMATS[options.modified.format](cursor.since.astimezone(UTC))
        path = options.path
        if paging.kind == "page_number":
            params[paging.param] = str(cursor.position or paging.first_page)
        elif paging.kind == "offset":
            params[paging.param] = str(self._pages.start(cursor))
        elif paging.kind == "keyset" and cursor.last_key is not None:
            params[paging.param] = cursor.last_key
        elif paging.kind == "next_link" and cursor.token is not None:
            path, params = cursor.token, {}
        elif paging.kind in ("cursor", "continuation") and cursor.token is not None:
            params[paging.param] = cursor.token
        behind = cursor.pages if paging.kind in ("page_number", "offset") else 0
        request = Request(endpoint(options.path), path, tuple(params.items()), weight=options.weight, behind=behind)
        unless = self._unless_changed(cursor, request)
        return replace(request, headers=unless) if unless else request

    def _unless_changed(self, cursor: Cursor, request: Request) -> tuple[tuple[str, str], ...]:
        known = cursor.validator
        if not self.options.conditional or cursor.pages or known is None or known.url != _url(request):
            return ()
        named = (("if-none-match", known.etag), ("if-modified-since", known.last_modified))
        return tuple((name, value) for name, value in named if value)

    def read(self, cursor: Cursor, reply: Reply) -> PageRead:
        if reply.status == 404:
            self._pages.may_end(cursor)
            return PageRead({}, None, vendor_now=server_clock(reply))
        where = tuple(self.options.records.split(".")) if self.options.records else ()
        envelope, shown = page(f"rest {self.name}", reply, where)
        if cursor.walk is not None and cursor.walk != self.walk:
            # A page of other settings, read again: where it led to is no longer known, nor needed.
            return PageRead({self.name: shown}, None)
        records = shown
        if self.options.paging.kind == "offset" and cursor.last_key is not None:
            records = self._pages.behind_guard(cursor, shown)
        return PageRead(
            {self.name: records},
            self._pages.following(cursor, envelope, records, len(shown), reply),
            high=self._newest(records, reply.received_at),
            vendor_now=server_clock(reply),
            validator=self._validator(cursor, reply),
        )

    def _validator(self, cursor: Cursor, reply: Reply) -> Validator | None:
        etag, last_modified = reply.headers.get("etag"), reply.headers.get("last-modified")
        if not self.options.conditional or not (etag or last_modified):
            return None
        return Validator(_url(self.request(cursor)), etag, last_modified)

    def _newest(self, records: list[RawRecord], received_at: datetime) -> datetime | None:
        if self.options.modified is None:
            return None
        path = self.options.modified.field
        found = [dotted(record.value, path) for record in records] if "." in path else stamps(records, path)
        return newest(found, received_at + timedelta(days=1), moment)


def moment(value: Any) -> datetime | None:
    """An instant from ISO text or epoch seconds or milliseconds."""
    if isinstance(value, str):
        return instant(value)
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def _url(request: Request) -> str:
    return digest("\x1f".join([request.path, *(f"{name}={value}" for name, value in request.params)]).encode())
