"""How the `rest` vendor's pages lead from one to the next, by the paging that a feed's settings name.

A list ends where the vendor says so, or with a page that holds nothing new. A short page is no end: a vendor may give smaller
pages than it is asked for, or leave out rows it does not show.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from sync_pipeline.kernel.errors import CursorExpired, PermanentError
from sync_pipeline.kernel.feed import AGAIN, Cursor, NextPage, RawRecord, Reply
from sync_pipeline.kernel.urls import without
from sync_pipeline.kernel.wire import raw_bytes
from sync_pipeline.vendors.answers import dotted
from sync_pipeline.vendors.rest_options import RestFeedOptions

CONTENT = "content:"
"""Begins the mark of a record that has no key, and that of a page."""

BARREN = 20
"""Pages in a row that bring nothing new, though more is said or seems to follow, before that is no longer believed."""

MORE = " and more"
"""Ends what is noted of a counted page whose flag said that more follows."""

ENDS = "paging.has_more, or set paging.short_page_ends,"
"""What ends a list whose every page leads on."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows of the way on. `records`: as in `Pages.following`. `more`: what its flag says, None: nothing."""

    cursor: Cursor
    envelope: Mapping[str, Any]
    records: list[RawRecord]
    shown: int
    more: Any


@dataclass(frozen=True, slots=True)
class Pages:
    """The paging of one feed. `base_url`: what relative links are relative to. `secret_param`: the query parameter that carries
    the credential, which a vendor may repeat in its links: there it is taken out again, since links are kept."""

    name: str
    options: RestFeedOptions
    base_url: str = ""
    secret_param: str | None = None

    def _key(self, record: RawRecord) -> str | None:
        found = dotted(record.value, self.options.paging.key)
        return None if found is None or isinstance(found, dict | list) else str(found)

    def _mark(self, record: RawRecord) -> str:
        """What a record is known by when it is seen again: its key, else its content."""
        key = self._key(record)
        return key if key is not None else CONTENT + digest(raw_bytes(record))

    def following(
        self, cursor: Cursor, envelope: Mapping[str, Any], records: list[RawRecord], shown: int, reply: Reply
    ) -> NextPage | None:
        """`records`: those of the `shown` ones that the walk has not seen before. Raises PermanentError where more is said to
        follow and nothing says where: to take that for the end would lose it."""
        paging = self.options.paging
        # A flag that is not there says nothing, neither way.
        more = dotted(envelope, paging.has_more) if paging.has_more else None
        if more is not None and not more:
            return None
        if not more and paging.short_page_ends and shown < self.options.page_size:
            return None
        page = Page(cursor, envelope, records, shown, more)
        match paging.kind:
            case "cursor" | "continuation":
                return self._by_token(page)
            case "next_link":
                return self._by_link(page, reply.headers.get("link"))
            case "page_number":
                return self._by_number(page)
            case "keyset":
                return self._by_key(page)
            case "offset":
                return self._by_offset(page)
            case _:
                return self._lost(more, "paging.kind")

    def _by_token(self, page: Page) -> NextPage | None:
        token = dotted(page.envelope, self.options.paging.token)
        self._can_lead_on(page)
        if not token:
            # JSON's null, false, "" and 0 are no token; the text "0" may be one.
            return self._lost(page.more, "paging.token")
        if token is True or isinstance(token, dict | list):
            return self._lost(True, "paging.token")
        mark = content(page.records)
        if str(token) == page.cursor.token:
            if mark is None:
                return self._lost(page.more, "paging.token")
            if _came_again(mark, page.cursor):
                return self._lost(True, "paging.param")
        return self._led_on(page, str(token), mark, wrong="paging.param")

    def _by_link(self, page: Page, header: str | None) -> NextPage | None:
        url = dotted(page.envelope, self.options.paging.token) or link_header(header or "")
        if url is None and header is None:
            self._can_lead_on(page)
        if not url:
            return self._lost(page.more, "paging.token")
        if not isinstance(url, str):
            return self._lost(True, "paging.token")
        url, mark = self._link(url), content(page.records)
        if url == page.cursor.token:
            # A last page may lead to itself. A full one that was shown before may as well be the first, given for any link.
            again = _came_again(mark, page.cursor) and page.shown >= self.options.page_size
            return self._lost(page.more or again, "paging.token")
        return self._led_on(page, url, mark, wrong="paging.token")

    def _led_on(self, page: Page, token: str, mark: str | None, *, wrong: str) -> NextPage:
        """Where a token or a link leads, unless it does so again and again and nothing comes of it. `mark`: the page's
        `content`. `wrong`: what to look at where it is always the same page."""
        again = _came_again(mark, page.cursor)
        barren = 0 if mark is not None and not again else page.cursor.position + 1
        if barren > BARREN:
            ends = "paging.has_more" if self.options.paging.kind == "continuation" else ENDS
            raise PermanentError(
                f"rest {self.name}: {barren} pages in a row brought nothing new, and each leads on; check "
                f"{wrong if again else ends} in YAML, the window stays open"
            )
        return NextPage(token=token, position=barren, last_key=page.cursor.last_key if mark is None else mark)

    def _by_number(self, page: Page) -> NextPage | None:
        cursor, records = page.cursor, page.records
        number = cursor.position or self.options.paging.first_page
        barren = 0 if records else _barren(cursor) + 1
        if barren > BARREN:
            return self._lost(page.more, "paging.has_more")
        mark = self._mark(records[-1]) if records else cursor.last_key
        if records and mark == cursor.last_key:
            # The same page again. Where another came before it, it is what the vendor gives behind the last one.
            # Of a first page that comes again nobody can tell: a short one too may be all that a vendor gives at once.
            return self._lost(page.more or cursor.pages < 2, "paging.param, or set paging.short_page_ends,")
        if not records and not page.more:
            return None
        return NextPage(position=number + 1, token=_noted(barren, page.more), last_key=mark)

    def _by_key(self, page: Page) -> NextPage | None:
        last, full = page.cursor.last_key, len(page.records) >= self.options.page_size
        keys = [key for record in page.records if (key := self._key(record)) is not None]
        if keys and keys[-1] != last:
            return NextPage(last_key=keys[-1])
        if any(key != last for key in keys):
            # Asked from its last record on, the vendor may give that one again: but not what is before it.
            return self._lost(True, "paging.param")
        # A full page without a key beyond the last one: what is behind it cannot be asked for.
        return self._lost(page.more or full, "paging.key")

    def _by_offset(self, page: Page) -> NextPage | None:
        paging, cursor = self.options.paging, page.cursor
        position = self.start(cursor) + page.shown
        if not page.records and page.shown <= paging.drift_guard:
            return self._lost(page.more, "paging.has_more")
        if not page.records:
            # Rows came in before the last one; or the vendor gives the same page whatever is asked for.
            barren = _barren(cursor) + 1
            if barren > BARREN:
                return self._lost(True, "paging.param")
            return NextPage(position=position, last_key=cursor.last_key, token=_noted(barren, page.more))
        mark = self._mark(page.records[-1])
        if paging.drift_guard == 0 and mark == cursor.last_key:
            return self._lost(True, "paging.param")
        return NextPage(position=position, last_key=mark, token=_noted(0, page.more))

    def may_end(self, cursor: Cursor) -> None:
        """Behind a page that said more there is one. Where it is gone the list has moved, or the vendor fails to show it."""
        if (cursor.token or "").endswith(MORE) and cursor.walk != AGAIN:
            raise CursorExpired(
                f"rest {self.name}: the vendor has no page {cursor.pages + 1}, though the one before it said that more follows; "
                "the window is walked again"
            )

    def start(self, cursor: Cursor) -> int:
        """The offset to ask from: rows before our place are asked again where the last one seen can be known again."""
        return max(0, cursor.position - (self.options.paging.drift_guard if cursor.last_key else 0))

    def _can_lead_on(self, page: Page) -> None:
        """A path that leads nowhere on the first page, though the page is full, is more likely mistyped than the end."""
        paging = self.options.paging
        if paging.token_may_be_absent or page.more is not None or page.cursor.pages:
            return
        if page.shown < self.options.page_size:
            return
        parent, _, name = paging.token.rpartition(".")
        holder = dotted(page.envelope, parent)
        if not isinstance(holder, dict) or name not in holder:
            raise PermanentError(
                f"rest {self.name}: the first page is full, and nothing stands at paging.token to lead on; correct its path in "
                "YAML, or set paging.token_may_be_absent if the vendor leaves it out on the last page; the window stays open"
            )

    def _lost(self, more: Any, setting: str) -> NextPage | None:
        """The end of the list, unless there is `more`."""
        if more:
            raise PermanentError(
                f"rest {self.name}: the list goes on, but this page does not say where; check {setting} in YAML, the window "
                "stays open"
            )
        return None

    def _link(self, url: str) -> str:
        """The next page's URL, whole and without our credential."""
        if self.base_url:
            url = urljoin(f"{self.base_url}/{self.options.path.lstrip('/')}", url)
        return url if self.secret_param is None else without(url, {self.secret_param})

    def behind_guard(self, cursor: Cursor, records: list[RawRecord]) -> list[RawRecord]:
        """Rows that moved down are seen twice, which is harmless; a last row that is gone may have pulled others up past
        us, so the window is walked again."""
        if self.options.paging.drift_guard == 0:
            return records
        by_content = (cursor.last_key or "").startswith(CONTENT)
        keys = [self._mark(record) if by_content else self._key(record) for record in records]
        if cursor.last_key not in keys:
            raise CursorExpired(
                f"rest {self.name}: the list moved while it was walked by offset; its window is walked again"
            )
        return records[keys.index(cursor.last_key) + 1 :]


LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[^\s=;,]+(?:\s*=\s*(?:"[^"]*"|[^\s";,]*))?)*)')
ATTRIBUTE = re.compile(r';\s*([^\s=;,]+)\s*=\s*(?:"([^"]*)"|([^\s";,]*))')


def link_header(value: str) -> str | None:
    """The URL of `rel="next"` in a Link header (RFC 8288): a URL may hold commas, and a relation be one of several words."""
    for target, attributes in LINK.findall(value):
        for name, quoted, bare in ATTRIBUTE.findall(attributes):
            if name.lower() == "rel" and "next" in (quoted or bare).lower().split():
                return str(target)
    return None


def _noted(barren: int, more: Any) -> str | None:
    """What stands in the place of a token where pages are counted: how many in a row brought nothing new, and whether the last
    one said that more follows."""
    return f"{barren}{MORE if more else ''}" if barren or more else None


def _barren(cursor: Cursor) -> int:
    return int((cursor.token or "0").removesuffix(MORE))


def _came_again(mark: str | None, cursor: Cursor) -> bool:
    """Whether a token or a link led to the page that it was on."""
    return mark is not None and mark == cursor.last_key


def content(records: Sequence[RawRecord]) -> str | None:
    """By which a page that is shown again is known: as many records, with the same at both ends. None of an empty one."""
    if not records:
        return None
    return f"{CONTENT}{len(records)}:{digest(raw_bytes(records[0]) + raw_bytes(records[-1]))}"


def digest(said: bytes) -> str:
    return hashlib.sha256(said).hexdigest()[:16]
