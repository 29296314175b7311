"""The ledger transaction: pages become canonical, quarantine and held rows, counted, or nothing does."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from sync_pipeline.kernel.canonical import Counts, Rejection
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import Fenced, InvariantViolation, StoreRefused
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.ledger.checked import CheckedPage, StoredVersion, Target
from sync_pipeline.ledger.copying import copy_new, copy_to_stage
from sync_pipeline.ledger.newest import Newest, newest_of
from sync_pipeline.ledger.statements import SQL, Statements
from sync_pipeline.store.database import Database, in_spite_of_conflicts
from sync_pipeline.trust.logger import get_logger

LOG = get_logger(__name__)

PARENT = attrgetter("parent")
TIMES = 4
"""Times in all that a transaction is done which the database gives up for another one."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Counts per page, in the order of the pages given; `skipped` were applied before by another worker."""

    counts: Sequence[Counts]
    skipped: int
    released: int


def quarantine_key(feed: FeedId, rejection: Rejection) -> str:
    """Deterministic: the same bad record seen again is the same quarantine row."""
    identity = (
        f"id:{rejection.vendor_id}".encode("utf-8", "surrogatepass")
        if rejection.vendor_id is not None
        else b"raw:" + rejection.raw
    )
    return hashlib.blake2b(f"{feed}\x1f".encode() + identity, digest_size=16).hexdigest()


def _quarantine_rows(target: Target, pages: Sequence[CheckedPage], resolution: str) -> list[dict[str, Any]]:
    """Rejections in the order in which they were shown. What the pages show valid after that is `cured` already."""
    rows: list[dict[str, Any]] = []
    valid_later: set[str] = set()
    for page in reversed(pages if any(page.rejected for page in pages) else ()):
        cured = page.mended | valid_later
        rows += [
            _quarantine_row(target, page, one, one.vendor_id in cured, resolution) for one in reversed(page.rejected)
        ]
        valid_later.update(record.vendor_id for record in page.valid)
    return rows[::-1]


def _quarantine_row(
    target: Target, page: CheckedPage, rejection: Rejection, cured: bool, resolution: str
) -> dict[str, Any]:
    return {
        "key": quarantine_key(target.feed, rejection),
        "connection": target.feed.connection,
        "feed": target.feed.feed,
        "vendor_id": rejection.vendor_id,
        "page_id": page.page_id,
        "raw": rejection.raw,
        "codes": sorted({problem.code for problem in rejection.problems}),
        "problems": orjson.dumps(
            [{"code": problem.code, "path": problem.path} for problem in rejection.problems]
        ).decode(),
        "contract_version": target.contract.version,
        "cured": cured,
        "resolution": resolution,
    }


class Ledger:
    """Applies checked pages to canonical tables."""

    def __init__(self, database: Database, *, crash: CrashPlan | None = None) -> None:
        self._db = database
        self._crash = crash or CrashPlan()

    async def apply(
        self,
        target: Target,
        pages: Sequence[CheckedPage],
        *,
        fence: tuple[FeedId, int] | None = None,
        count: bool = True,
        resolution: Literal["superseded", "replayed"] = "superseded",
        after: Awaitable[object] | None = None,
        likely_new: bool = False,
        distrusted: Sequence[StoredVersion] = (),
    ) -> Applied:
        """Apply `pages`, given in the order in which they were shown, in one transaction.

        `after`: work that must be done before this is applied; the records are staged meanwhile. Its error is raised.

        `fence`: the lease under which they were landed; a stale one raises Fenced. `count=False` re-derives pages that
        are already counted (replay). `resolution`: what becomes of open quarantine rows whose record is valid now.
        `likely_new`: the store hardly knows any of the records; where it knows none of them, they need no stage.
        `distrusted`: rows whose values are not what their hash says: equal content replaces exactly these.
        Raises InvariantViolation, and keeps nothing, when a record would be unaccounted for; TransactionConflict when the
        database gave up each of some transactions for others.
        """
        # A task, which may be waited for each time the transaction is done.
        ready = None if after is None else asyncio.ensure_future(after)
        new = likely_new and not any(any(map(PARENT, page.valid)) for page in pages)

        async def once() -> Applied:
            return await self._once(
                target, pages, fence, count, resolution, after=ready, new=new, distrusted=distrusted
            )

        return await in_spite_of_conflicts(once, tries=TIMES)

    async def _once(
        self,
        target: Target,
        pages: Sequence[CheckedPage],
        fence: tuple[FeedId, int] | None,
        count: bool,
        resolution: str,
        *,
        after: Awaitable[object] | None,
        new: bool,
        distrusted: Sequence[StoredVersion],
    ) -> Applied:
        """`new`: straight to the table, if the store knows none of the records."""
        if new:
            if after is not None:
                await after
            try:
                applied = await self._apply(target, pages, fence, count, resolution, new=True)
            except StoreRefused as error:
                # A row that came from elsewhere since the look at the table: the stage takes it as it is.
                if error.sqlstate != UniqueViolation.sqlstate:
                    raise
                applied = None
            if applied is not None:
                return applied
            after = None
        applied = await self._apply(target, pages, fence, count, resolution, after=after, distrusted=distrusted)
        assert applied is not None
        return applied

    async def _apply(
        self,
        target: Target,
        pages: Sequence[CheckedPage],
        fence: tuple[FeedId, int] | None,
        count: bool,
        resolution: str,
        *,
        after: Awaitable[object] | None = None,
        new: bool = False,
        distrusted: Sequence[StoredVersion] = (),
    ) -> Applied | None:
        """One transaction. `new`: only if the store knows none of the records; else None and nothing is done."""
        statements = Statements.of(target)
        async with self._db.transaction() as conn:
            newest = None if new else await self._stage(conn, statements, pages)
            if after is not None:
                await after
            todo = await self._begin(conn, target, pages, fence=fence, count=count)
            if new:
                newest = newest_of([page.shown for page in todo])
                if not await copy_new(conn, target, statements, newest.standing):
                    return None
            elif newest is None or len(todo) < len(pages):
                await conn.execute(statements.clear)
                newest = await self._stage(conn, statements, todo)
            self._crash.reach(CrashPoint.LEDGER_STAGED)
            counts = await self._write(
                conn, statements, target, todo, newest, resolution, new=new, distrusted=distrusted
            )
            released = await self._settle(conn, statements, target, todo, counts if count else ())
            self._crash.reach(CrashPoint.LEDGER_BEFORE_COMMIT)
        self._crash.reach(CrashPoint.LEDGER_AFTER_COMMIT)
        _log_rejections(target, todo)
        return Applied(counts, len(pages) - len(todo), released)

    async def _stage(self, conn: AsyncConnection[Any], statements: Statements, pages: Sequence[CheckedPage]) -> Newest:
        newest = newest_of([page.shown for page in pages])
        await conn.execute(statements.create)
        await copy_to_stage(conn, statements, newest.standing)
        return newest

    async def _begin(
        self,
        conn: AsyncConnection[Any],
        target: Target,
        pages: Sequence[CheckedPage],
        *,
        fence: tuple[FeedId, int] | None,
        count: bool,
    ) -> list[CheckedPage]:
        """Lock the feed; returns the pages that are still to be applied.

        Here and below statements that do not wait for each other's answers are sent together: while pages are checked,
        each answer waited for costs this session's event loop a turn of milliseconds.
        """
        feed, number = fence or (target.feed, None)
        async with conn.pipeline():
            await conn.execute(SQL.begin, {"lock": f"ledger:{target.feed}"})
            holder = await conn.execute(
                SQL.holds_lease, {"connection": feed.connection, "feed": feed.feed, "fence": number}
            )
            landed = await conn.execute(SQL.still_landed, {"pages": [page.page_id for page in pages]})
        if fence is not None and await holder.fetchone() is None:
            raise Fenced(
                f"{feed}: another worker has taken this feed's lease (fence {number} is stale); "
                "nothing was applied, the other worker will apply the landed pages"
            )
        still = {row[0] for row in await landed.fetchall()}
        return [page for page in pages if page.page_id in still] if count else list(pages)

    async def _write(
        self,
        conn: AsyncConnection[Any],
        statements: Statements,
        target: Target,
        pages: Sequence[CheckedPage],
        newest: Newest,
        resolution: str,
        *,
        new: bool,
        distrusted: Sequence[StoredVersion],
    ) -> list[Counts]:
        rejected = _quarantine_rows(target, pages, resolution)
        outcomes = {page.page_id: Counter(newest.outdone.get(page.page_id)) for page in pages}
        found = None
        async with conn.pipeline():
            if not new:
                found = await conn.execute(statements.apply, {**statements.parameters, **_looked_at(distrusted)})
                await conn.execute(statements.cured, {**statements.parameters, "resolution": resolution})
            if rejected:
                await conn.cursor().executemany(statements.put, rejected)
        if found is None:
            rows = [(page_id, "applied", len(records)) for page_id, records in newest.standing]
        else:
            rows = await found.fetchall()
        for page_id, outcome, number in rows:
            outcomes[page_id][outcome] += number
        counts = [_counts(page, outcomes[page.page_id]) for page in pages]
        for page, counted in zip(pages, counts, strict=True):
            if not counted.conserved:
                raise InvariantViolation(
                    f"{target.feed}: page {page.page_id} received {counted.received} records but accounts for another "
                    "number; the page was not applied and stays landed"
                )
        return counts

    async def _settle(
        self,
        conn: AsyncConnection[Any],
        statements: Statements,
        target: Target,
        pages: Sequence[CheckedPage],
        counts: Sequence[Counts],
    ) -> int:
        """Write the counts to the pages (none are given for a replay) and release who waited for these records."""
        async with conn.pipeline():
            counted = await conn.execute(
                SQL.count_pages,
                {
                    "contract_version": target.contract.version,
                    "pages": [page.page_id for page, _ in zip(pages, counts, strict=False)],
                    "received": [one.received for one in counts],
                    "applied": [one.applied for one in counts],
                    "unchanged": [one.unchanged for one in counts],
                    "superseded": [one.superseded for one in counts],
                    "held": [one.held for one in counts],
                    "quarantined": [one.quarantined for one in counts],
                },
            )
            released = await conn.execute(statements.release, statements.parameters)
        if counted.rowcount != len(counts):
            raise InvariantViolation(
                f"{target.feed}: {len(counts)} pages were to be counted, {counted.rowcount} could be; nothing was applied"
            )
        return sum(row[1] for row in await released.fetchall())

    async def release_held(self, targets: Sequence[Target]) -> int:
        """Apply what is held though its parent is in the table; returns how many.

        A child's transaction does not see a parent that is being applied beside it, nor that one the child.
        """

        async def once() -> int:
            async with self._db.transaction() as conn:
                return await _release(conn, targets)

        return await in_spite_of_conflicts(once, tries=TIMES)

    async def expire_held(self, targets: Sequence[Target], *, ttl_s: float) -> int:
        """Write a dead letter for each record of `targets` whose parent did not come within `ttl_s` seconds; returns how many.

        Those whose parent did come are released first. The others stay held, and are released when it comes.
        """

        async def once() -> int:
            async with self._db.transaction() as conn:
                await _release(conn, targets)
                dead = 0
                for connection in sorted({target.feed.connection for target in targets}):
                    dead += (await conn.execute(SQL.expire_held, {"connection": connection, "ttl": ttl_s})).rowcount
                return dead

        return await in_spite_of_conflicts(once, tries=TIMES)

    async def note_drift(self, target: Target) -> None:
        """Remember fields the contract did not know: their names, never their values."""
        paths = sorted(target.contract.drift())
        if not paths:
            return
        async with self._db.transaction() as conn:
            await conn.execute(
                SQL.note_drift,
                {
                    "connection": target.feed.connection,
                    "feed": target.feed.feed,
                    "paths": paths,
                    "contract_version": target.contract.version,
                },
            )


async def _release(conn: AsyncConnection[Any], targets: Sequence[Target]) -> int:
    """Under the locks of all the feeds: who applies a child waits for its held row, and this for the child's."""
    released = 0
    for target in sorted(targets, key=lambda one: str(one.feed)):
        await conn.execute(SQL.begin, {"lock": f"ledger:{target.feed}"})
    for target in targets:
        statements = Statements.of(target)
        found = await conn.execute(statements.release, statements.parameters)
        released += sum(row[1] for row in await found.fetchall())
    return released


def _looked_at(rows: Sequence[StoredVersion]) -> dict[str, Any]:
    return {
        "distrusted": [row.vendor_id for row in rows],
        "stamps": [row.modified_at for row in rows],
        "shown_on": [row.page_id for row in rows],
        "hashes": [row.content_hash for row in rows],
    }


def _log_rejections(target: Target, pages: Sequence[CheckedPage]) -> None:
    """Codes and quarantine keys of what was rejected: where to look, never what it said."""
    rejected = [rejection for page in pages for rejection in page.rejected]
    if not rejected:
        return
    codes = Counter(code for rejection in rejected for code in {problem.code for problem in rejection.problems})
    log = LOG.bind(connection=target.feed.connection, feed=target.feed.feed, contract_version=target.contract.version)
    log.info("records quarantined", rejection_reason=dict(sorted(codes.items())), quarantined=len(rejected))
    if not log.isEnabledFor(logging.DEBUG):
        return
    for rejection in rejected:
        log.debug(
            "record quarantined",
            rejection_reason=sorted({problem.code for problem in rejection.problems}),
            idempotency_key=quarantine_key(target.feed, rejection),
        )


def _counts(page: CheckedPage, outcomes: Mapping[str, int]) -> Counts:
    return Counts(
        received=page.received,
        applied=outcomes.get("applied", 0),
        unchanged=outcomes.get("unchanged", 0),
        superseded=outcomes.get("superseded", 0),
        held=outcomes.get("held", 0),
        quarantined=len(page.rejected),
    )
