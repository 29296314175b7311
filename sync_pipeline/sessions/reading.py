"""Reading landed pages again: after a crash, and whenever canonical rows are derived anew without asking the vendor."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.kernel.feed import FeedId, RawRecord, Reply
from sync_pipeline.landing.objects import ObjectStore
from sync_pipeline.landing.pages import LandedPage, Landing
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import CheckedPage, check_page
from sync_pipeline.sessions.effects import Effects
from sync_pipeline.sessions.setup import Setup

GROUP = 20


async def records_of(setup: Setup, objects: ObjectStore, page: LandedPage) -> Sequence[RawRecord]:
    """The records of one landed page, as the vendor module reads them today."""
    try:
        body = await asyncio.to_thread(objects.get, page.object_key)
    except (LookupError, ValueError) as error:
        raise PermanentError(
            f"{page.feed}: page {page.id} cannot be read again ({error}); restore the object or resync the feed"
        ) from None
    reply = Reply(200, {}, body, page.fetched_at, page.fetched_at)
    try:
        read = setup.connection.feeds[page.source_feed].read(page.cursor, reply)
    except TransientError as error:
        raise PermanentError(f"{page.feed}: page {page.id} is not readable by this vendor module: {error}") from None
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
    """Check and apply landed pages in order; returns the counts per feed."""
    checked: dict[str, list[CheckedPage]] = {}
    totals: dict[str, Counts] = {}
    for page in pages:
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
        done = await apply_pages(setup, effects.ledger, effects.objects, pages, fence=holds, count=True)
        for feed, counts in done.items():
            totals[feed] = totals.get(feed, Counts()) + counts
    return totals


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
