"""Reconcile one window of days: list, compare, mend, read back, record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from datetime import time as daytime

from sync_pipeline.handoff.deliver import find_lost
from sync_pipeline.kernel.canonical import instant_text
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.landing.pages import FetchedPage
from sync_pipeline.ledger.apply import CheckedPage, Target, check_page
from sync_pipeline.ledger.compare import Comparer, Difference
from sync_pipeline.reconcile.relist import relist
from sync_pipeline.reconcile.unstamped import listed_again, with_causes
from sync_pipeline.runtime import Runtime
from sync_pipeline.sessions.reading import apply_pages, records_of
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.sessions.walk import Sender

GROUP = 20
"""Pages compared in one statement."""


@dataclass(slots=True)
class WindowReport:
    """`deltas`: (difference, action, verified). Actions: repaired, review."""

    feed: FeedId
    start: date
    end: date
    pages: int = 0
    listed: int = 0
    deltas: list[tuple[Difference, str, bool]] = field(default_factory=list)
    without_effect: int = 0
    """Applied rows that were never handed on; they are dead letters now."""

    @property
    def by_cause(self) -> Counter[tuple[str, str]]:
        return Counter((difference.cause, action) for difference, action, _ in self.deltas)

    @property
    def open(self) -> int:
        return sum(1 for _, _, verified in self.deltas if not verified)


async def reconcile_days(
    runtime: Runtime, setup: Setup, feed: str, gateway: Sender, *, start: date, end: date, session: str
) -> WindowReport:
    """Compare what the vendor changed in [start, end) with the store, and repair the store.

    Records missing, stale or altered in the store are taken again from the vendor's own pages through the ledger, so a
    newer version is never overwritten, and compared once more. A record that only the store has waits for review: a
    listing that lacks it is no proof that it is gone. A window that reaches to today also takes what may have changed
    without a stamp, of whatever day (`unstamped`).
    """
    source = setup.source_of(feed)
    target = setup.target(feed)
    comparer = Comparer(runtime.database)
    begins, ends = (datetime.combine(day, daytime(), UTC) for day in (start, end))
    report = WindowReport(FeedId(setup.connection.name, feed), start, end)
    kept: dict[int, FetchedPage] = {}
    group: list[CheckedPage] = []
    suspects: list[Difference] = []
    seen: set[str] = set()
    api = setup.connection.feeds[source]

    async def compare() -> None:
        suspects.extend(await with_causes(runtime.database, target, await comparer.differences(target, group), group))
        group.clear()

    now = runtime.clock.now()
    days = relist(api, gateway, since=begins, now=now, correlation_id=session)
    turn = listed_again(
        runtime.database,
        setup.connection,
        feed,
        source,
        setup.target(source).contract.table,
        gateway,
        before=begins,
        now=now,
        correlation_id=session,
    )
    # A backfill of old days proves those days only.
    listings = [(days, True), (turn, False)] if end >= now.astimezone(UTC).date() else [(days, True)]
    for listing, bounded in listings:
        async for cursor, reply, read in listing:
            records = read.records.get(feed, ())
            report.pages += 1
            report.listed += len(records)
            if not records:
                continue
            [(key, digest)] = await asyncio.to_thread(runtime.objects.put, [reply.body])
            kept[report.pages] = FetchedPage(
                key, digest, len(reply.body), reply.received_at, cursor, reply.audit_id, yields=(feed,)
            )
            checked = check_page(report.pages, records, target.contract)
            seen.update(record.vendor_id for record in checked.valid)
            seen.update(rejected.vendor_id for rejected in checked.rejected if rejected.vendor_id is not None)
            group.append(_within(checked, ends) if bounded else checked)
            if len(group) >= GROUP:
                await compare()
    await compare()
    left = await _repair(runtime, setup, target, comparer, suspects, kept, session) if suspects else set()
    report.deltas = [(one, "repaired", one.vendor_id not in left) for one in _once(suspects)]
    # A change since the listing began moves a record past the window's end or to a newer stamp: not a difference.
    unseen = await comparer.unseen(target, start=begins, end=ends, seen=sorted(seen))
    report.deltas += [(one, "review", False) for one in unseen]
    await comparer.record(target, report.deltas, start=start, end=end)
    if target.handoff:
        report.without_effect = await find_lost(runtime.database, target)
    return report


def _within(page: CheckedPage, end: datetime) -> CheckedPage:
    """Lists have no upper bound: later changes belong to later days."""
    limit = instant_text(end)
    return CheckedPage(page.page_id, [record for record in page.valid if record.modified_at < limit], ())


def _once(differences: Sequence[Difference]) -> list[Difference]:
    return list({one.vendor_id: one for one in differences}.values())


async def _repair(
    runtime: Runtime,
    setup: Setup,
    target: Target,
    comparer: Comparer,
    suspects: Sequence[Difference],
    kept: dict[int, FetchedPage],
    session: str,
) -> set[str]:
    """Take the vendor's pages that hold suspects through landing and ledger; returns the ids that still differ."""
    altered = [one.vendor_id for one in suspects if one.cause == "altered_in_store"]
    if altered:
        await comparer.distrust(target, altered)
    numbers = sorted({one.page for one in suspects if one.page is not None})
    source = setup.connection.feed_id(setup.source_of(target.feed.feed))
    landed = await runtime.landing.land_beside(source, [kept[number] for number in numbers], session=session)
    await apply_pages(setup, runtime.ledger, runtime.objects, landed, fence=None, count=True)
    wanted = {one.vendor_id for one in suspects}
    left: set[str] = set()
    for page in landed:
        records = await records_of(setup, runtime.objects, page)
        checked = check_page(page.id, records, target.contract)
        left |= {one.vendor_id for one in await comparer.differences(target, [checked])} & wanted
    return left
