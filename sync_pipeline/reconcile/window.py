"""Reconcile one window of days: list, compare, mend, read back, record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from datetime import time as daytime

from sync_pipeline.handoff.deliver import find_lost
from sync_pipeline.kernel.canonical import instant_text
from sync_pipeline.kernel.feed import Cursor, FeedId, PageRead, Reply, Unstamped
from sync_pipeline.landing.pages import FetchedPage
from sync_pipeline.ledger.checked import CheckedPage, Target, check_page
from sync_pipeline.ledger.compare import NEWER_IN_QUARANTINE, OLDER_AT_VENDOR, Comparer, Difference
from sync_pipeline.reconcile.absent import ids_of, standing_before, still_absent
from sync_pipeline.reconcile.quarantined import newer_in_quarantine
from sync_pipeline.reconcile.relist import relist
from sync_pipeline.reconcile.stores import Stores
from sync_pipeline.reconcile.unstamped import SQL, days_of_turn, unsettled_again, with_causes
from sync_pipeline.sessions.effects import Sender
from sync_pipeline.sessions.reading import records_of
from sync_pipeline.sessions.setup import Setup

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
    runtime: Stores, setup: Setup, feed: str, gateway: Sender, *, start: date, end: date, session: str
) -> WindowReport:
    """Compare what the vendor changed in [start, end) with the store, and repair the store.

    Records missing, stale or altered in the store are taken again from the vendor's own pages through the ledger, so a
    newer version is never overwritten, and compared once more. A record that only the store has waits for review: a
    listing that lacks it is no proof that it is gone. So does a row whose newer version is in quarantine, and one that
    the vendor shows with other values under an older stamp. A window that reaches to today also takes what may have
    changed without a stamp, of whatever day (`unstamped`), and the days whose turn it is.
    """
    source = setup.source_of(feed)
    target = setup.target(feed)
    table = setup.target(source).contract.table
    now = runtime.clock.now()
    [(began,)] = await runtime.database.statement(SQL.database_now, {})
    report = WindowReport(FeedId(setup.connection.name, feed), start, end)
    listing = _Listing(runtime, setup, feed, gateway, report, now=now, began=began, session=session)
    begins, ends = (_midnight(day) for day in (start, end))
    await listing.whole(begins, ends, strictly=True)
    turn: list[date] = []
    # A backfill of old days proves those days only.
    to_today = end >= now.astimezone(UTC).date()
    if to_today:
        connection = setup.connection
        async for page in unsettled_again(
            runtime.database, connection, feed, source, table, gateway, now=now, correlation_id=session
        ):
            await listing.take(page, None)
        turn = await days_of_turn(runtime.database, connection, feed, source, table, before=begins, now=now)
        for day in turn:
            await listing.whole(_midnight(day), _midnight(day + timedelta(days=1)), strictly=False)
    await listing.compare()
    suspects = listing.suspects
    left = (
        await _repair(runtime, setup, target, listing.comparer, suspects, listing.kept, session, began)
        if suspects
        else set()
    )
    report.deltas = [(one, "repaired", one.vendor_id not in left) for one in _once(suspects)]
    report.deltas += [(one, "review", False) for one in (*listing.absent, *listing.older)]
    newer = await newer_in_quarantine(
        runtime.database, target, start=begins, end=ends, shown=sorted(listing.rejected), everywhere=to_today
    )
    report.deltas += [(one, "review", False) for one in newer]
    await listing.comparer.record(
        target, report.deltas, start=start, end=end, also=turn, everywhere=[NEWER_IN_QUARANTINE] if to_today else []
    )
    if target.handoff:
        report.without_effect = await find_lost(runtime.database, target)
    return report


class _Listing:
    """What one run lists: pages compared with the store in groups, kept in case they are needed for the repair."""

    def __init__(
        self,
        runtime: Stores,
        setup: Setup,
        feed: str,
        gateway: Sender,
        report: WindowReport,
        *,
        now: datetime,
        began: datetime,
        session: str,
    ) -> None:
        self._runtime = runtime
        self._setup = setup
        self._feed = feed
        self._source = setup.source_of(feed)
        self._target = setup.target(feed)
        self._gateway = gateway
        self._report = report
        self._now = now
        self._began = began
        self._session = session
        self._group: list[CheckedPage] = []
        self.comparer = Comparer(runtime.database)
        self.kept: dict[int, FetchedPage] = {}
        self.suspects: list[Difference] = []
        self.absent: list[Difference] = []
        self.older: list[Difference] = []
        self.rejected: set[str] = set()

    async def whole(self, begins: datetime, ends: datetime, *, strictly: bool) -> None:
        """List all that was modified in [begins, ends), and find what only the store has of it.

        `strictly`: what the pages show beyond is left to its own days. Else it is compared too, since a repair takes pages
        whole: nothing is mended that was not reported.
        """
        api = self._setup.connection.feeds[self._source]
        seen: set[str] = set()
        async for page in relist(
            api,
            self._gateway,
            since=begins,
            until=ends if isinstance(api, Unstamped) else None,
            now=self._now,
            correlation_id=self._session,
        ):
            seen |= await self.take(page, ends if strictly else None)
        unseen = await self.comparer.unseen(self._target, start=begins, end=ends, seen=sorted(seen))
        # A change since the listing began moves a record past the window's end or to a newer stamp: not a difference.
        self.absent += await still_absent(
            self._runtime.database,
            self._setup.connection,
            self._source,
            self._target,
            self._gateway,
            await standing_before(self._runtime.database, self._target, unseen, self._began),
            end=ends,
            now=self._now,
            correlation_id=self._session,
        )

    async def take(self, page: tuple[Cursor, Reply, PageRead], ends: datetime | None) -> set[str]:
        """Compare a page's records, those modified before `ends`; returns the ids of all that it shows."""
        cursor, reply, read = page
        records = read.records.get(self._feed, ())
        self._report.pages += 1
        self._report.listed += len(records)
        if not records:
            return set()
        number = self._report.pages
        [key] = await asyncio.to_thread(self._runtime.objects.put, [reply])
        self.kept[number] = FetchedPage.of(reply, key, cursor, (self._feed,))
        checked = check_page(number, records, self._target.contract)
        self.rejected.update(one.vendor_id for one in checked.rejected if one.vendor_id is not None)
        self._group.append(checked if ends is None else _within(checked, ends))
        if len(self._group) >= GROUP:
            await self.compare()
        return ids_of(checked)

    async def compare(self) -> None:
        """Compare the pages that wait for it."""
        found = await self.comparer.differences(self._target, self._group, began=self._began)
        if self.older:  # the last showing decides
            again = {record.vendor_id for page in self._group for record in page.valid}
            self.older = [one for one in self.older if one.vendor_id not in again]
        self.older += [one for one in found if one.cause == OLDER_AT_VENDOR]
        suspects = [one for one in found if one.cause != OLDER_AT_VENDOR]
        self.suspects += await with_causes(self._runtime.database, self._target, suspects, self._group)
        self._group.clear()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, daytime(), UTC)


def _within(page: CheckedPage, end: datetime) -> CheckedPage:
    """Lists have no upper bound: later changes belong to later days."""
    limit = instant_text(end)
    return CheckedPage(page.page_id, [record for record in page.valid if record.modified_at < limit], ())


def _once(differences: Sequence[Difference]) -> list[Difference]:
    return list({one.vendor_id: one for one in differences}.values())


async def _repair(
    runtime: Stores,
    setup: Setup,
    target: Target,
    comparer: Comparer,
    suspects: Sequence[Difference],
    kept: dict[int, FetchedPage],
    session: str,
    began: datetime,
) -> set[str]:
    """Take the vendor's pages that hold suspects through landing and ledger; returns the ids that still differ."""
    numbers = sorted({one.page for one in suspects if one.page is not None})
    source = setup.connection.feed_id(setup.source_of(target.feed.feed))
    landed = await runtime.landing.land_beside(
        source, [kept[number] for number in numbers], session=session, began=began
    )
    pages = [check_page(page.id, await records_of(setup, runtime.objects, page), target.contract) for page in landed]
    # In the transaction that repairs them, and no other: a row that waits for its repair would be found lost.
    altered = [one.stored for one in suspects if one.cause == "altered_in_store" and one.stored is not None]
    await runtime.ledger.apply(target, pages, distrusted=altered)
    wanted = {one.vendor_id for one in suspects}
    left: set[str] = set()
    for page in pages:
        left |= {one.vendor_id for one in await comparer.differences(target, [page], began=began)} & wanted
    return left
