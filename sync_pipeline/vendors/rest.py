"""The generic `rest` vendor: a JSON API described in YAML alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sync_pipeline.kernel.errors import CursorExpired, SyncError
from sync_pipeline.kernel.feed import Cursor, NextPage, PageRead, QuotaFeedback, QuotaWindow, RawRecord, Reply, Request
from sync_pipeline.vendors.answers import by_status, newest, page, server_clock, stamps

SinceFormat = Literal["iso_seconds", "iso_millis", "iso_micros", "epoch_s", "epoch_ms"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Paging(Strict):
    """How the end of a page leads to the next one."""

    kind: Literal["cursor", "next_link", "continuation", "page_number", "offset", "keyset", "none"] = Field(
        description="cursor: a token in the body; next_link: a URL in the body or the Link header; continuation: a token "
        "and a has-more flag; page_number, offset: counted by us; keyset: the last record's key."
    )
    param: str = Field("cursor", description="Query parameter that carries the token, page number, offset or key.")
    token: str = Field("next_cursor", description="Dotted path of the token or of the next URL in the body.")
    has_more: str | None = Field(None, description="Dotted path of a flag that says whether more follows.")
    first_page: int = Field(1, ge=0, description="Number of the first page (page_number).")
    drift_guard: int = Field(
        1,
        ge=0,
        description="offset: records asked again at each page's start; if the last one seen is not among the page, the "
        "list has moved and the window is walked again.",
    )
    key: str = Field("id", description="keyset, offset: dotted path of a record's key.")


class Modified(Strict):
    """How changes are asked for."""

    field: str = Field(description="Dotted path of a record's modification instant.", examples=["modified_at"])
    param: str | None = Field(
        None, description="Query parameter for `changed since`; none: the whole list is asked for."
    )
    format: SinceFormat = "iso_seconds"


class RestFeedOptions(Strict):
    """What a feed of the `rest` vendor needs to be told."""

    path: str = Field(description="Path below base_url.", examples=["/v1/registrations"])
    records: str = Field("data", description="Dotted path of the array of records; empty: the body is the array.")
    params: Mapping[str, str] = Field(default_factory=dict, description="Query parameters of every request.")
    paging: Paging = Paging(kind="cursor")
    modified: Modified | None = None
    page_size_param: str | None = Field(None, description="Query parameter for the page size.")
    page_size: int = Field(100, ge=1, le=10_000)
    overlap_s: float = Field(60, ge=0, description="Seconds asked for again before the watermark.")
    conditional: bool = Field(False, description="Send If-None-Match / If-Modified-Since on the first page.")


class RateHeaders(Strict):
    """Names of the headers in which the vendor tells its quota."""

    limit: str = "x-ratelimit-limit"
    remaining: str = "x-ratelimit-remaining"
    reset: str = "x-ratelimit-reset"
    reset_is: Literal["seconds", "epoch_s", "epoch_ms"] = "seconds"
    window: str | None = Field(
        None, description="Which of the connection's limits the headers speak of (default first)."
    )


@dataclass(frozen=True, slots=True)
class RestApi:
    windows: tuple[QuotaWindow, ...]
    headers: RateHeaders | None = None
    vendor: str = "rest"

    def classify(self, request: Request, reply: Reply) -> SyncError | None:
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
                reset_at=None if reset is None else _reset(reset, named.reset_is, reply.received_at),
            ),
        )


def _number(reply: Reply, header: str) -> float | None:
    try:
        return float(reply.headers[header.lower()])
    except (KeyError, ValueError):
        return None


def _reset(value: float, kind: str, now: datetime) -> datetime | None:
    try:
        if kind == "seconds":
            return now + timedelta(seconds=value)
        return datetime.fromtimestamp(value / (1000 if kind == "epoch_ms" else 1), UTC)
    except (OverflowError, ValueError, OSError):
        return None


def dotted(value: Any, path: str) -> Any:
    """The value at a dotted path, or None."""
    for name in path.split(".") if path else ():
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


FORMATS: dict[SinceFormat, Callable[[datetime], str]] = {
    "iso_seconds": lambda at: f"{at:%Y-%m-%dT%H:%M:%SZ}",
    "iso_millis": lambda at: f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
    "iso_micros": lambda at: f"{at:%Y-%m-%dT%H:%M:%S.%f}Z",
    "epoch_s": lambda at: str(int(at.timestamp())),
    "epoch_ms": lambda at: str(int(at.timestamp() * 1000)),
}


@dataclass(frozen=True, slots=True)
class RestFeed:
    name: str
    options: RestFeedOptions
    parts: int = 1

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
            params[paging.param] = str(max(0, cursor.position - (paging.drift_guard if cursor.last_key else 0)))
        elif paging.kind == "keyset" and cursor.last_key is not None:
            params[paging.param] = cursor.last_key
        elif paging.kind == "next_link" and cursor.token is not None:
            path, params = cursor.token, {}
        elif paging.kind in ("cursor", "continuation") and cursor.token is not None:
            params[paging.param] = cursor.token
        first = cursor.pages == 0
        endpoint = re.sub(r"/\d+(?=/|$)", "/{id}", options.path)
        return Request(endpoint, path, tuple(params.items()), conditional=options.conditional and first)

    def read(self, cursor: Cursor, reply: Reply) -> PageRead:
        where = tuple(self.options.records.split(".")) if self.options.records else ()
        envelope, records = page(f"rest {self.name}", reply, where)
        following = self._next(cursor, envelope, records, reply)
        if self.options.paging.kind == "offset" and cursor.last_key is not None:
            records = self._without_guard(cursor, records)
        return PageRead(
            {self.name: records},
            following,
            high=self._newest(records, reply.received_at),
            vendor_now=server_clock(reply),
        )

    def _newest(self, records: list[RawRecord], received_at: datetime) -> datetime | None:
        if self.options.modified is None:
            return None
        path = self.options.modified.field
        found = [dotted(record.value, path) for record in records] if "." in path else stamps(records, path)
        return newest(found, received_at + timedelta(days=1), moment)

    def _key(self, record: RawRecord) -> str | None:
        found = dotted(record.value, self.options.paging.key)
        return None if found is None or isinstance(found, dict | list) else str(found)

    def _next(
        self, cursor: Cursor, envelope: Mapping[str, Any], records: list[RawRecord], reply: Reply
    ) -> NextPage | None:
        paging = self.options.paging
        if paging.has_more is not None and not dotted(envelope, paging.has_more):
            return None
        match paging.kind:
            case "cursor" | "continuation":
                token = dotted(envelope, paging.token)
                return (
                    NextPage(token=str(token))
                    if token not in (None, "") and (records or token != cursor.token)
                    else None
                )
            case "next_link":
                url = dotted(envelope, paging.token) or link_header(reply.headers.get("link", ""))
                return NextPage(token=url) if isinstance(url, str) and url and url != cursor.token else None
            case "page_number":
                number = cursor.position or paging.first_page
                return NextPage(position=number + 1) if self._full(records) else None
            case "keyset":
                key = self._key(records[-1]) if records else None
                return NextPage(last_key=key) if self._full(records) and key and key != cursor.last_key else None
            case "offset":
                start = max(0, cursor.position - (paging.drift_guard if cursor.last_key else 0))
                key = self._key(records[-1]) if records else None
                return NextPage(position=start + len(records), last_key=key) if self._full(records) and key else None
            case _:
                return None

    def _full(self, records: list[RawRecord]) -> bool:
        """Counted paging goes on until a page is short: the vendor may give smaller pages than asked for, so where no
        flag says more, only an empty page is the end."""
        if self.options.paging.has_more is not None or self.options.page_size_param is None:
            return bool(records)
        return len(records) >= self.options.page_size

    def _without_guard(self, cursor: Cursor, records: list[RawRecord]) -> list[RawRecord]:
        """Rows that moved down are seen twice, which is harmless; a last row that is gone may have pulled others up past
        us, so the window is walked again."""
        if self.options.paging.drift_guard == 0:
            return records
        keys = [self._key(record) for record in records]
        if cursor.last_key not in keys:
            raise CursorExpired(
                f"rest {self.name}: the list moved while it was walked by offset; its window is walked again"
            )
        return records[keys.index(cursor.last_key) + 1 :]


def moment(value: Any) -> datetime | None:
    """An instant from ISO text or epoch seconds or milliseconds."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return None if found.tzinfo is None else found.astimezone(UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def link_header(value: str) -> str | None:
    """The URL of `rel="next"` in a Link header (RFC 8288)."""
    for part in value.split(","):
        target, _, attributes = part.partition(";")
        if re.search(r'rel\s*=\s*"?next"?', attributes):
            return target.strip().strip("<>")
    return None
