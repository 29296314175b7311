"""Quarantined records through their contract once more, without asking the vendor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from sync_pipeline.kernel.canonical import Canonical, Counts, Problem, Rejection
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.kernel.wire import parse_record
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import CheckedPage
from sync_pipeline.ledger.statements import SQL
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.database import Database

ORPHAN = "ORPHAN"


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Which rejections. Every field narrows; None does not."""

    connection: str | None = None
    feed: str | None = None
    code: str | None = None
    status: str | None = "open"
    kind: str | None = None
    contract_version: str | None = None
    keys: tuple[str, ...] | None = None
    limit: int = 1000


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """One rejection, without its payload."""

    key: str
    feed: FeedId
    vendor_id: str | None
    kind: str
    page_id: int
    codes: tuple[str, ...]
    problems: tuple[Problem, ...]
    contract_version: str
    status: str
    times_seen: int
    attempts: int
    first_seen: datetime
    last_seen: datetime
    older_in_table: bool
    """The canonical table still has the version before this one."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """`passing` would pass (dry run) or have passed; `failing` counts the codes of those that still fail."""

    tried: int
    passing: int
    failing: Counter[str]
    counts: Counts
    dry_run: bool
    unconfigured: int = 0
    """Not tried: their feed is disabled, or no longer in the YAML."""


class Quarantine:
    """Lists, replays and discards rejections."""

    def __init__(self, database: Database, ledger: Ledger, *, crash: CrashPlan | None = None) -> None:
        self._db = database
        self._ledger = ledger
        self._crash = crash or CrashPlan()

    async def find(self, chosen: QuarantineFilter) -> list[QuarantineRow]:
        async with self._db.transaction() as conn:
            found = await conn.execute(SQL.quarantine_select, _parameters(chosen))
            return [
                QuarantineRow(
                    row[0], FeedId(row[1], row[2]), row[3], row[4], row[5], tuple(row[6]),
                    tuple(Problem(problem["code"], problem["path"]) for problem in row[7]),
                    row[8], row[9], row[10], row[11], row[12], row[13], row[14],
                )
                for row in await found.fetchall()
            ]  # fmt: skip

    async def raw(self, key: str) -> bytes | None:
        """The record as the vendor showed it. Personal data: for the operator's eyes only."""
        async with self._db.transaction() as conn:
            found = await conn.execute(SQL.quarantine_raw, {"key": key})
            row = await found.fetchone()
        return None if row is None else bytes(row[0])

    async def discard(self, chosen: QuarantineFilter, *, dry_run: bool = False) -> int:
        """Close rejections that will never be wanted; returns how many.

        Of a refused handoff the version that was refused is given up; later ones are handed on. One of which a later version
        was rejected meanwhile stays open: nobody has looked at that.
        """
        rows = await self.find(chosen)
        if dry_run:
            return len(rows)
        async with self._db.transaction() as conn:
            looked_at = [(row.key, row.page_id) for row in rows]
            found = await conn.execute(SQL.quarantine_resolve, _resolved(looked_at, "discarded"))
            closed = [key for (key,) in await found.fetchall()]
            await conn.execute(SQL.give_up, {"keys": closed})
            return len(closed)

    async def replay(self, setup: Setup, chosen: QuarantineFilter, *, dry_run: bool = False) -> ReplayReport:
        """Put the chosen rejections of one connection through today's contract.

        What passes is applied by the ledger's version rule, so a newer row is never overwritten; what fails keeps its
        row with today's codes. A version that is rejected meanwhile takes over the row, which stays open. Orphans are
        applied if their parent is in the table by now; a dry run does not try them. Rejections of a feed that is no longer
        configured have no contract: they are counted and stay as they are.
        Idempotent: a crash in between leaves rows open whose records are already applied.
        """
        found = [row for row in await self.find(chosen) if row.feed.connection == setup.connection.name]
        rejected = [row for row in found if row.kind == "quarantine"]
        rows = [row for row in rejected if row.feed.feed in setup.feeds]
        orphans = [] if dry_run else [row for row in found if row.codes == (ORPHAN,)]
        failing: Counter[str] = Counter()
        total, passing = Counts(), 0
        for feed in dict.fromkeys(row.feed.feed for row in rows):
            done, codes, counts = await self._replay_feed(
                setup, feed, [row for row in rows if row.feed.feed == feed], dry_run=dry_run
            )
            passing += done
            failing += codes
            total = total + counts
        if orphans:
            await self._ledger.release_held(setup.targets())
            alone = await self.find(replace(chosen, keys=tuple(row.key for row in orphans)))
            failing.update(ORPHAN for _ in alone)
            passing += len(orphans) - len(alone)
        unconfigured = len(rejected) - len(rows)
        return ReplayReport(len(rows) + len(orphans), passing, failing, total, dry_run, unconfigured)

    async def _replay_feed(
        self, setup: Setup, feed: str, rows: Sequence[QuarantineRow], *, dry_run: bool
    ) -> tuple[int, Counter[str], Counts]:
        contract = setup.feeds[feed].contract
        codes: Counter[str] = Counter()
        passed: list[tuple[str, int]] = []
        pages: dict[int, list[Canonical]] = {}
        failed: list[tuple[str, int, Rejection]] = []
        for key, raw, page_id in await self._payloads([row.key for row in rows]):
            [outcome] = contract.check([parse_record(raw)])
            if isinstance(outcome, Canonical):
                passed.append((key, page_id))
                pages.setdefault(page_id, []).append(outcome)
            else:
                failed.append((key, page_id, outcome))
                codes.update({problem.code for problem in outcome.problems})
        if dry_run:
            return len(passed), codes, Counts(received=len(passed))
        applied = await self._ledger.apply(
            setup.target(feed),
            [CheckedPage(page, valid, ()) for page, valid in pages.items()],
            count=False,
            resolution="replayed",
        )
        async with self._db.transaction() as conn:
            await conn.execute(SQL.quarantine_resolve, _resolved(passed, "replayed"))
            for key, page_id, rejection in failed:
                await conn.execute(SQL.quarantine_again, _again(key, page_id, rejection, contract.version))
            self._crash.reach(CrashPoint.REPLAY_BEFORE_COMMIT)
        return len(passed), codes, sum(applied.counts, Counts())

    async def _payloads(self, keys: Sequence[str]) -> list[tuple[str, bytes, int]]:
        async with self._db.transaction() as conn:
            found = await conn.execute(SQL.quarantine_lock, {"keys": list(keys)})
            return [(key, bytes(raw), page) for key, raw, page in await found.fetchall()]


def _parameters(chosen: QuarantineFilter) -> dict[str, Any]:
    return {
        "connection": chosen.connection,
        "feed": chosen.feed,
        "status": chosen.status,
        "kind": chosen.kind,
        "code": chosen.code,
        "contract_version": chosen.contract_version,
        "keys": list(chosen.keys) if chosen.keys is not None else None,
        "limit": chosen.limit,
    }


def _resolved(looked_at: Sequence[tuple[str, int]], status: str) -> dict[str, Any]:
    """`looked_at`: keys, and the pages that had shown the records by then."""
    return {"keys": [key for key, _ in looked_at], "pages": [page for _, page in looked_at], "status": status}


def _again(key: str, page_id: int, rejection: Rejection, contract_version: str) -> dict[str, Any]:
    return {
        "key": key,
        "page_id": page_id,
        "codes": sorted({problem.code for problem in rejection.problems}),
        "problems": orjson.dumps([{"code": p.code, "path": p.path} for p in rejection.problems]).decode(),
        "contract_version": contract_version,
    }
