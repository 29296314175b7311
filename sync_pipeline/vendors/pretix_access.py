"""What a pretix token may read. A list over a whole organizer leaves out, without a word, what it may not.

Only a list below one event answers 403 to a token that may not view its orders (pretix 2026.8: the organizer's list is
filtered by permission, the event's is refused by it). The same 403 stands for a slug that does not exist.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sync_pipeline.kernel.errors import AuthenticationError
from sync_pipeline.kernel.feed import Answer, Cursor, NextPage, PageRead, Reply, Request, Surveyed
from sync_pipeline.vendors.answers import instant, page

ORDERS = "/organizers/{organizer}/orders/"
EVENTS = "/organizers/{organizer}/events/"
EVENT_ORDERS = "/organizers/{organizer}/events/{event}/orders/"

ANY_ORDER, ANY_EVENT, ONE_OF = "prove:order", "prove:event", "prove:one-of:"
"""Tokens of a cursor whose window was empty: what is asked next to prove that it may be."""

REFUSED = "!"
"""Before an event whose orders the token may not view. No slug begins so."""

ASKED_AT_ONCE = 25
"""Events whose permission one survey asks for. Of more, each survey asks others."""


def proving(cursor: Cursor) -> bool:
    return cursor.token is not None and cursor.token.startswith("prove:")


def question(organizer: str, cursor: Cursor) -> Request:
    """Is there any order that the token may view? If not: which events are there, and may it view the orders of one?"""
    if cursor.token == ANY_ORDER:
        return Request(ORDERS, f"/organizers/{organizer}/orders/", (("page", "1"), ("page_size", "1")))
    if cursor.token == ANY_EVENT:
        return _events(organizer, 1)
    first, *others = _slugs_left(cursor)
    return _oldest_order(organizer, first, probe=bool(others))


def answer(organizer: str, cursor: Cursor, reply: Reply) -> PageRead:
    """Drained once a list of orders was answered. Raises AuthenticationError when the token sees no event at all."""
    if cursor.token == ANY_ORDER:
        _, orders = page("pretix orders", reply, ("results",))
        return PageRead({}, None if orders else NextPage(token=ANY_EVENT))
    if cursor.token == ANY_EVENT:
        slugs = _slugs(reply)
        if not slugs:
            raise _sees_nothing(organizer)
        return PageRead({}, NextPage(token=ONE_OF + json.dumps(slugs)))
    others = _slugs_left(cursor)[1:]
    if reply.status == 403 and others:
        return PageRead({}, NextPage(token=ONE_OF + json.dumps(others)))
    page("pretix orders", reply, ("results",))
    return PageRead({}, None)


def survey(
    organizer: str,
    overlap: timedelta,
    known: str | None,
    settled: datetime | None,
    now: datetime,
    answers: Sequence[Answer],
) -> Request | Surveyed:
    """Which events' orders the token may view, for `Surveyor.survey`.

    An event that became readable asks for a restart only when it has an order from before the watermark.
    """
    visible: list[str] = []
    oldest: dict[str, datetime | None] = {}
    refused: set[str] = set()
    more = 1
    for request, reply in answers:
        if request.endpoint == EVENTS:
            visible += _slugs(reply)
            more = more + 1 if _goes_on(reply) else 0
        elif reply.status == 403:
            refused.add(_event_of(request))
        else:
            oldest[_event_of(request)] = _stamp_of_first(reply)
    if more:
        return _events(organizer, more)
    if not visible:
        raise _sees_nothing(organizer)
    names = None if known is None else frozenset(filter(None, known.split(",")))
    before = None if names is None else frozenset(name for name in names if not name.startswith(REFUSED))
    met = None if names is None else frozenset(name.removeprefix(REFUSED) for name in names)
    asked = _turn(sorted(set(visible)), met, before, now)
    left = [slug for slug in asked if slug not in oldest and slug not in refused]
    if left:
        # The last one of all is no probe: when nothing may be read, the vendor's refusal is raised and opens the breaker.
        return _oldest_order(organizer, left[0], probe=bool(oldest) or len(left) > 1 or len(asked) < len(set(visible)))
    readable = set(oldest) | ((before or frozenset()) & set(visible) - refused)
    seen = [slug if slug in readable else REFUSED + slug for slug in set(visible)]
    return Surveyed(",".join(sorted(seen)), _restart(before, oldest, settled, overlap))


def _turn(
    visible: Sequence[str], met: frozenset[str] | None, before: frozenset[str] | None, now: datetime
) -> list[str]:
    """The events to ask for now: all that were not met before, and of the others at most 25, drawn anew each minute (by a
    hash, so that the rhythm of sessions favours none). Readable ones come first."""
    minute = int(now.timestamp() // 60)
    others = [slug for slug in visible if met is not None and slug in met]
    others.sort(key=lambda slug: hashlib.sha256(f"{minute} {slug}".encode()).digest())
    chosen = [slug for slug in visible if met is None or slug not in met] + others[:ASKED_AT_ONCE]
    return sorted(chosen, key=lambda slug: slug not in (before or ()))


def _restart(
    before: frozenset[str] | None, oldest: dict[str, datetime | None], settled: datetime | None, overlap: timedelta
) -> str | None:
    if before is None or settled is None:
        return None
    late = [slug for slug, at in oldest.items() if slug not in before and at is not None and at < settled - overlap]
    if not late:
        return None
    return f"the token may view the orders of {len(late)} more events, and some are older than the watermark"


def _events(organizer: str, number: int) -> Request:
    return Request(EVENTS, f"/organizers/{organizer}/events/", (("page", str(number)), ("page_size", "50")))


def _oldest_order(organizer: str, slug: str, *, probe: bool) -> Request:
    params = (("page", "1"), ("page_size", "1"), ("ordering", "last_modified"))
    return Request(EVENT_ORDERS, f"/organizers/{organizer}/events/{slug}/orders/", params, probe=probe)


def _event_of(request: Request) -> str:
    return request.path.split("/")[4]


def _slugs_left(cursor: Cursor) -> list[str]:
    found: list[str] = json.loads((cursor.token or "").removeprefix(ONE_OF))
    return found


def _slugs(reply: Reply) -> list[str]:
    if reply.status == 404:  # the list of events shrank while it was walked
        return []
    _, events = page("pretix events", reply, ("results",))
    return [str(event.value["slug"]) for event in events if isinstance(event.value, dict) and event.value.get("slug")]


def _goes_on(reply: Reply) -> bool:
    return reply.status != 404 and bool(page("pretix events", reply, ("results",))[0].get("next"))


def _stamp_of_first(reply: Reply) -> datetime | None:
    _, orders = page("pretix orders", reply, ("results",))
    first: Any = orders[0].value if orders else None
    return instant(first.get("last_modified")) if isinstance(first, dict) else None


def _sees_nothing(organizer: str) -> AuthenticationError:
    return AuthenticationError(
        f"pretix organizer `{organizer}`: the token sees no event, so an empty list of orders proves nothing; give its team "
        "access to the events, with the permission to view orders"
    )
