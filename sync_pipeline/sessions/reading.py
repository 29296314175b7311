"""Reading landed pages again: after a crash, and whenever canonical rows are derived anew without asking the vendor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.kernel.feed import AGAIN, FeedId, RawRecord, Reply
from sync_pipeline.landing.objects import ObjectStore
from sync_pipeline.landing.pages import LandedPage, Landing
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import CheckedPage, check_page
from sync_pipeline.sessions.effects import Effects
from sync_pipeline.sessions.setup import Setup

GROUP = 20
MOST_WAITING = 100_000
"""Pages looked at by a resync. A killed worker leaves some dozens."""


class Unreadable(PermanentError):
    """A landed page that cannot be taken apart any more."""

    def __init__(self, page: LandedPage, why: str) -> None:
        super().__init__(f"{page.feed}: page {page.id} {why}")
        self.page = page


async def records_of(setup: Setup, objects: ObjectStore, page: LandedPage) -> Sequence[RawRecord]:
    """The records of one landed page, as the vendor module reads them today. Raises Unreadable; and what an object store
    raises that is away: its pages are not lost."""
    try:
        body = await asyncio.to_thread(objects.get, page.object_key)
    except (LookupError, ValueError) as error:
        raise Unreadable(page, f"cannot be read again ({error}); restore the object") from None
    reply = Reply(200, {}, body, page.fetched_at, page.fetched_at)
    try:
        read = setup.connection.feeds[page.source_feed].read(replace(page.cursor, walk=AGAIN), reply)
    except (TransientError, PermanentError) as error:
        raise Unreadable(page, f"is not readable by this vendor module: {error}") from None
    return read.records.get(page.feed.feed, ())


async def apply_pages(
    setup: Setup,
    ledger: Ledger,
    objects: ObjectStore,
    pages: Iterable[LandedPage],
    *,
    fence: tuple[FeedId, int] | None,
    count: bool,
) -> dict[str, Counts]:
    """Check and apply landed pages in the order in which they were shown; returns the counts per feed."""
    checked: dict[str, list[CheckedPage]] = {}
    totals: dict[str, Counts] = {}
    for page in sorted(pages, key=lambda page: (page.shown_at, page.id)):
        records = await records_of(setup, objects, page)
        contract = setup.feeds[page.feed.feed].contract
        checked.setdefault(page.feed.feed, []).append(check_page(page.id, records, contract))
    for feed, group in checked.items():
        applied = await ledger.apply(setup.target(feed), group, fence=fence, count=count)
        totals[feed] = sum(applied.counts, totals.get(feed, Counts()))
    return totals


async def recover(setup: Setup, effects: Effects, source: str, *, fence: int) -> dict[str, Counts]:
    """Apply the pages that a killed worker landed but did not apply."""
    totals: dict[str, Counts] = {}
    feeds = setup.connection.feeds[source].yields
    holds = (setup.connection.feed_id(source), fence)
    while pages := await effects.landing.pending(setup.connection.name, feeds, limit=GROUP):
        try:
            done = await apply_pages(setup, effects.ledger, effects.objects, pages, fence=holds, count=True)
        except Unreadable as error:
            since = error.page.cursor.since
            start = "beginning" if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}"
            raise PermanentError(
                f"{error}, or run `sync-pipeline resync {error.page.feed} --from {start}`, which lists again what was on it"
            ) from None
        for feed, counts in done.items():
            totals[feed] = totals.get(feed, Counts()) + counts
    return totals


async def start_again(
    setup: Setup, landing: Landing, objects: ObjectStore, source: str, *, since: datetime | None, skip: bool = False
) -> int:
    """Force a feed's cursor back (None: to the beginning); returns how many landed pages were given up. `skip`, and what is
    raised without it: as in `Landing.reset`.

    A page that waits and cannot be read any more would stop each session in `recover`. It is given up if what was on it is
    listed again from `since`; one of a list that began earlier is not, since nothing else would bring its records.
    """
    given_up = []
    for page in await landing.pending(setup.connection.name, setup.connection.feeds[source].yields, limit=MOST_WAITING):
        if since is None or (page.cursor.since is not None and since <= page.cursor.since):
            try:
                await records_of(setup, objects, page)
            except Unreadable:
                given_up.append(page.id)
    await landing.reset(setup.connection.feed_id(source), since=since, given_up=given_up, skip=skip)
    return len(given_up)


async def derive_again(
    setup: Setup, landing: Landing, ledger: Ledger, objects: ObjectStore, feed: str
) -> tuple[int, Counts]:
    """Derive a feed's canonical and quarantine rows anew from all its landed pages; returns (pages, counts).

    A newer version is never overwritten: the version rule is the ledger's, whatever the order of reading.
    """
    after, number, total = 0, 0, Counts()
    feed_id = FeedId(setup.connection.name, feed)
    while pages := await landing.landed(feed_id, after=after, limit=GROUP):
        done = await apply_pages(setup, ledger, objects, pages, fence=None, count=False)
        total = total + done.get(feed, Counts())
        after, number = pages[-1].id, number + len(pages)
    return number, total
