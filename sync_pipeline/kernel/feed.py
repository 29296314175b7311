"""Names and addresses: which feed, where in its stream, what to ask and what came back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from sync_pipeline.kernel.grants import Grant


@dataclass(frozen=True, slots=True, order=True)
class FeedId:
    """One stream of one entity at one connection; written `connection/feed`."""

    connection: str
    feed: str

    def __str__(self) -> str:
        return f"{self.connection}/{self.feed}"

    @classmethod
    def parse(cls, text: str) -> FeedId:
        connection, slash, feed = text.partition("/")
        if not slash or not connection or not feed or "/" in feed:
            raise ValueError(f"a feed is written connection/feed, not {text!r}")
        return cls(connection, feed)


AGAIN = "again"
"""`walk` of a cursor whose page is read again: its records are wanted, not the way on, which may hang on headers or settings
that are no longer there."""


@dataclass(frozen=True, slots=True)
class Validator:
    """What an answer was known by (RFC 9110, 13): a request for the same URL may ask for it only if it has changed since.
    `url`: digest of what was asked."""

    url: str
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a feed stands, in the one normal form. Small: it is one row's worth of state.

    `watermark`: everything the vendor changed before it is landed; None before the first window has closed.
    `since`/`opened_at`: the open window, if any: asked from `since` (None = all history), horizon `opened_at`.
    `part`: index into the feed's parts (one event after the other), `of` its name; `position`: page number or offset, by
    paging kind. `walk`: the feed's `walk` when the window was opened: under another the place in it says nothing.
    `token`: the vendor's own paging token, a hint that may expire. `last_key`: last keyset position.
    `high`: newest modification seen in the open window.
    `vendor_now`: the vendor's own clock at the window's first page.
    `pages`: pages landed in the open window.
    `validator`: of the last answer, where it was the whole list. It moves with the cursor, so that "not modified" is never
    taken for pages that were not landed.
    """

    watermark: datetime | None = None
    since: datetime | None = None
    opened_at: datetime | None = None
    part: int = 0
    position: int = 0
    token: str | None = None
    last_key: str | None = None
    high: datetime | None = None
    vendor_now: datetime | None = None
    pages: int = 0
    of: str | None = None
    walk: str | None = None
    validator: Validator | None = None

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask, without credentials. `path` is relative to the connection's base URL, or an absolute URL under it.

    `endpoint` is the template shown in audit, logs and errors (`/organizations/{id}/orders/`): it never holds an id.
    """

    endpoint: str
    path: str
    params: tuple[tuple[str, str], ...] = ()
    method: Literal["GET", "POST", "HEAD"] = "GET"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    weight: int = 1
    idempotent: bool = True
    behind: int = 0
    """How many pages of the list were read before this one: behind the last one a vendor may answer 404."""
    probe: bool = False
    """Asks whether something may be read: the vendor's 403 is an answer, not a fault."""
    plain: Request | None = None
    """The same without what the vendor may fail to add to the records."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the vendor answered. `headers` has lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_at: datetime
    received_at: datetime
    attempts: int = 1
    audit_id: int | None = None
    sha256: bytes = field(init=False, repr=False)
    """Of the body."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", hashlib.sha256(self.body).digest())

    @property
    def not_modified(self) -> bool:
        return self.status == 304


class RawRecord(NamedTuple):
    """One record as the vendor showed it.

    `value` is the parsed JSON, or None when `fault` says why this record cannot be parsed safely
    (a code of contracts.codes). `raw` is the exact bytes; None on the fast path, where `value` is enough to rebuild it.
    """

    value: Any
    fault: str | None = None
    raw: bytes | None = None

    @classmethod
    def many(cls, values: Iterable[Any]) -> list[RawRecord]:
        """A record for each value, as `RawRecord(value)` makes it."""
        # (past the Python function that a named tuple is made by)
        return list(map(tuple.__new__, repeat(cls), zip(values, repeat(None), repeat(None), strict=False)))


@dataclass(frozen=True, slots=True)
class PageRead:
    """A page taken apart: the records of each feed it carries, and where to go on.

    `next`: the cursor's paging fields for the following page (`token`, `position`, `last_key`), or None when this part
    of the window is drained. `high`: newest modification among the records, as the vendor stated it.
    `vendor_now`: the vendor's clock when it made the page, if it says so. `validator`: where the page is the whole list.
    """

    records: Mapping[str, Sequence[RawRecord]]
    next: NextPage | None
    high: datetime | None = None
    vendor_now: datetime | None = None
    validator: Validator | None = None


@dataclass(frozen=True, slots=True)
class NextPage:
    token: str | None = None
    position: int = 0
    last_key: str | None = None


Lane = Literal["P0", "P1", "P2", "P3", "P4"]
"""P0 interactive and webhook fetch, P1 deadline-bound, P2 poll, P3 reconcile, P4 backfill."""


@dataclass(frozen=True, slots=True)
class QuotaWindow:
    """At most `limit` requests in any `seconds` (sliding), in each aligned window (fixed), or each day of `zone` (daily).

    `burst` bounds what may be sent at once; the store counts the window besides, so a burst never puts more than `limit`
    into it. `source` names where the number comes from.
    """

    name: str
    limit: int
    seconds: float
    kind: Literal["sliding", "fixed", "daily"] = "sliding"
    burst: int | None = None
    source: str = ""
    zone: str = "UTC"


@dataclass(frozen=True, slots=True)
class QuotaNode:
    """A node of the quota tree: whoever shares `scope` shares its windows (a vendor's host, an account, a credential, an
    endpoint class). `endpoint`: only requests with this template are charged here; None: every request."""

    scope: str
    windows: tuple[QuotaWindow, ...]
    endpoint: str | None = None
    shared: bool = False
    """Other accounts are charged here too: one account's refusal does not stop them."""


@dataclass(frozen=True, slots=True)
class QuotaFeedback:
    """What an answer's headers or body say about the quota. Instants are absolute; None = not said.

    `window` is the vendor's own name for it, where it has one. `used` counts calls of everybody on the same key.
    `seconds` is the window's length. `source` names the header or the error code that said it.
    """

    window: str | None = None
    limit: int | None = None
    remaining: int | None = None
    reset_at: datetime | None = None
    blocked_until: datetime | None = None
    used: int | None = None
    seconds: float | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class AuthSpec:
    """How a secret becomes part of a request. `secret_env` is a name, never a value.

    kinds: bearer (`Authorization: Bearer s`), header (`<name>: <prefix>s`), basic (`s` is `user:password`),
    query (`?<name>=s`), none.
    """

    kind: Literal["bearer", "header", "basic", "query", "none"]
    secret_env: str | None = None
    name: str = "Authorization"
    prefix: str = ""
    grant: Grant | None = None
    """How the secret is got where it is a token that ends; None: it stands, under `secret_env`."""


class Feed(Protocol):
    """One feed as its vendor speaks it: pure functions between cursors, requests and pages."""

    @property
    def name(self) -> str: ...

    @property
    def scope(self) -> str:
        """What its lists cover, by settings: account, events, path. Under another scope a watermark says nothing."""

    @property
    def yields(self) -> tuple[str, ...]:
        """Feeds whose records this feed's pages carry; the first is `name` itself."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the sub-streams that one window walks one after the other; none: it is one list."""

    @property
    def walk(self) -> str:
        """By which settings a place inside an open window is counted (order of the parts, paging, page size)."""

    @property
    def overlap(self) -> timedelta:
        """How far before the watermark the next window starts: the vendor's visibility lag and commit lag."""

    @property
    def page_size(self) -> int: ...

    def request(self, cursor: Cursor) -> Request: ...

    def read(self, cursor: Cursor, reply: Reply) -> PageRead:
        """Take a 200 answer apart. Raises TransientError when the body is not what this endpoint answers with."""


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a survey found. `seen`: what the token may read, kept with the cursor. `restart`: why what lies before the
    watermark must be listed again; None when the watermark stands."""

    seen: str
    restart: str | None = None


Answer = tuple[Request, Reply]


@runtime_checkable
class Surveyor(Protocol):
    """A feed whose lists depend on what its token may read at the moment: it asks, once a session, before it polls."""

    def survey(
        self, known: str | None, settled: datetime | None, now: datetime, answers: Sequence[Answer]
    ) -> Request | Surveyed:
        """The next question, or what the answers so far come to. Pure.

        `known`: what the last survey saw (None: there was none). `settled`: what changed before it counts as listed
        (None: nothing was). Raises AuthenticationError when the token may read nothing.
        """


@runtime_checkable
class Unstamped(Feed, Protocol):
    """A feed whose vendor changes some records without a new modification stamp. Its lists are sorted by that stamp."""

    @property
    def unsettled(self) -> str:
        """SQL/JSON path that finds something in the metadata of a stored record which may still change so. It may use the
        row's `$vendor_status` and `$payment_status`."""

    def again(self, vendor_id: str) -> tuple[Cursor, Request] | None:
        """How to list this one record, and the cursor to read the answer by; None when the feed does not cover it."""


@runtime_checkable
class Naming(Protocol):
    """A vendor whose requests messages can name by settings (an account, an event), and not by their template only."""

    def named(self, request: Request) -> str:
        """What was asked, for a message. It holds settings, never an id of a record. The audit keeps the template."""


class VendorApi(Protocol):
    """What is true of all of a vendor's endpoints."""

    @property
    def vendor(self) -> str: ...

    @property
    def windows(self) -> tuple[QuotaWindow, ...]: ...

    def classify(self, request: Request, reply: Reply) -> Exception | None:
        """The SyncError an answer stands for, or None when it is a good one. Pure; the message names no value."""

    def feedback(self, reply: Reply) -> tuple[QuotaFeedback, ...]: ...


@dataclass(frozen=True, slots=True)
class Connection:
    """One account at a vendor, ready to be asked: all its decisions, none of its secrets."""

    name: str
    api: VendorApi
    base_url: str
    auth: AuthSpec
    windows: tuple[QuotaWindow, ...]
    feeds: Mapping[str, Feed]
    nodes: tuple[QuotaNode, ...] = ()
    """Further nodes of the quota tree that its requests are charged to."""
    account: str | None = None
    """Whose `windows` they are: connections that have the same name here share them; None: the connection's own."""
    max_in_flight: int = 4
    timeout_s: float = 30.0
    limits_told: str | None = None
    """The vendor whose form its answers tell the limits in; None: that of `api.vendor`, else the common ones."""
    options: Mapping[str, str] = field(default_factory=dict)
    endpoints: frozenset[str] = frozenset()
    """Templates of all that its feeds may ask, those that are not enabled too."""

    @property
    def quota(self) -> tuple[QuotaNode, ...]:
        return (QuotaNode(self.account or self.name, self.windows), *self.nodes)

    def feed_id(self, feed: str) -> FeedId:
        return FeedId(self.name, feed)

    def scope_of(self, feed: str) -> str:
        """Fingerprint of where and what a source feed lists: 16 hex digits."""
        return hashlib.sha256(f"{self.base_url}\n{self.feeds[feed].scope}".encode()).hexdigest()[:16]
