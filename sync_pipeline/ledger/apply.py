"""The ledger transaction: pages become canonical, quarantine and held rows, counted, or nothing does."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import orjson
from psycopg import AsyncConnection, sql

from sync_pipeline.kernel.canonical import NULL, Canonical, Contract, Counts, Rejection, copy_fields
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import Fenced, InvariantViolation
from sync_pipeline.kernel.feed import FeedId, RawRecord
from sync_pipeline.ledger.newest import Newest, Shown, newest_of
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries
from sync_pipeline.trust.logger import get_logger

SQL = queries(__package__)
LOG = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """A landed page after its contract: each record is in exactly one of the two lists."""

    page_id: int
    valid: Sequence[Canonical]
    rejected: Sequence[Rejection]

    @property
    def received(self) -> int:
        return len(self.valid) + len(self.rejected)

    @property
    def shown(self) -> Shown:
        return self.page_id, self.valid


@dataclass(frozen=True, slots=True)
class Target:
    """Where a feed's records go. `handoff`: applied changes also go to the outbox."""

    feed: FeedId
    contract: Contract
    handoff: bool = False
    handoff_feeds: tuple[str, ...] = ()
    """Feeds of the connection that hand off, for children this feed's rows release."""


@dataclass(frozen=True, slots=True)
class Applied:
    """Counts per page, in the order of the pages given; `skipped` were applied before by another worker."""

    counts: Sequence[Counts]
    skipped: int
    released: int


def check_page(page_id: int, records: Sequence[RawRecord], contract: Contract) -> CheckedPage:
    """Run the contract over a page's records."""
    outcomes = contract.check(records)
    return CheckedPage(
        page_id,
        [outcome for outcome in outcomes if isinstance(outcome, Canonical)],
        [outcome for outcome in outcomes if isinstance(outcome, Rejection)],
    )


def quarantine_key(feed: FeedId, rejection: Rejection) -> str:
    """Deterministic: the same bad record seen again is the same quarantine row."""
    identity = (
        f"id:{rejection.vendor_id}".encode("utf-8", "surrogatepass")
        if rejection.vendor_id is not None
        else b"raw:" + rejection.raw
    )
    return hashlib.blake2b(f"{feed}\x1f".encode() + identity, digest_size=16).hexdigest()


def _quarantine_rows(target: Target, page: CheckedPage) -> list[dict[str, Any]]:
    return [
        {
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
        }
        for rejection in page.rejected
    ]


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
    ) -> Applied:
        """Apply `pages` in one transaction.

        `after`: work that must be done before this is applied; the records are staged meanwhile. Its error is raised.

        `fence`: the lease under which they were landed; a stale one raises Fenced. `count=False` re-derives pages that
        are already counted (replay). `resolution`: what becomes of open quarantine rows whose record is valid now.
        Raises InvariantViolation, and keeps nothing, when a record would be unaccounted for.
        """
        statements = Statements.of(target)
        async with self._db.transaction() as conn:
            await conn.execute(statements.create)
            newest = await self._stage(conn, statements, pages)
            if after is not None:
                await after
            todo = await self._begin(conn, target, pages, fence=fence, count=count)
            if len(todo) < len(pages):
                await conn.execute(statements.clear)
                newest = await self._stage(conn, statements, todo)
            self._crash.reach(CrashPoint.LEDGER_STAGED)
            counts = await self._write(conn, statements, target, todo, newest, resolution)
            released = await self._settle(conn, statements, target, todo, counts if count else ())
            self._crash.reach(CrashPoint.LEDGER_BEFORE_COMMIT)
        self._crash.reach(CrashPoint.LEDGER_AFTER_COMMIT)
        _log_rejections(target, todo)
        return Applied(counts, len(pages) - len(todo), released)

    async def _stage(self, conn: AsyncConnection[Any], statements: Statements, pages: Sequence[CheckedPage]) -> Newest:
        newest = newest_of([page.shown for page in pages])
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
    ) -> list[Counts]:
        rejected = [row for page in pages for row in _quarantine_rows(target, page)]
        async with conn.pipeline():
            found = await conn.execute(statements.apply, statements.parameters)
            await conn.execute(statements.cured, {**statements.parameters, "resolution": resolution})
            if rejected:
                await conn.cursor().executemany(SQL.quarantine_put, rejected)
        outcomes = {page.page_id: Counter(newest.outdone.get(page.page_id)) for page in pages}
        for page_id, outcome, number in await found.fetchall():
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

    async def expire_held(self, connection: str, *, ttl_s: float) -> int:
        """Turn records whose parent did not come within `ttl_s` seconds into dead letters; returns how many."""
        async with self._db.transaction() as conn:
            found = await conn.execute(_sql(SQL.expire_held).format(), {"connection": connection, "ttl": ttl_s})
            return found.rowcount

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


async def copy_to_stage(conn: AsyncConnection[Any], statements: Statements, pages: Sequence[Shown]) -> None:
    """COPY records into the stage table, in which each vendor id may stand once."""
    async with conn.cursor().copy(statements.copy) as copy:
        await copy.write(b"".join([copy_lines(page_id, records) for page_id, records in pages]))


def copy_lines(page_id: int, records: Sequence[Canonical]) -> bytes:
    """A line of the stage table for each record."""
    lines: list[bytes] = []
    for vendor_id, modified_at, content_hash, row, parent in records:
        names = f"{NULL if parent is None else copy_fields((parent,))}\t{copy_fields((vendor_id,))}"
        lines += (f"{page_id}\t{modified_at}\t\\\\x{content_hash.hex()}\t{names}\t".encode(), row, b"\n")
    return b"".join(lines)


def _sql(text: str) -> sql.SQL:
    """A statement of this room, or a column type of a contract: text of ours, never of a vendor."""
    return sql.SQL(text)


def _counts(page: CheckedPage, outcomes: Mapping[str, int]) -> Counts:
    return Counts(
        received=page.received,
        applied=outcomes.get("applied", 0),
        unchanged=outcomes.get("unchanged", 0),
        superseded=outcomes.get("superseded", 0),
        held=outcomes.get("held", 0),
        quarantined=len(page.rejected),
    )


@dataclass(frozen=True, slots=True)
class Statements:
    """The ledger's statements for one canonical table, composed from the contract's columns."""

    parameters: dict[str, Any]
    create: sql.SQL
    clear: sql.SQL
    copy: sql.SQL
    apply: sql.SQL
    cured: sql.SQL
    release: sql.SQL
    compare: sql.SQL
    distrust: sql.SQL
    unseen: sql.SQL

    @classmethod
    def of(cls, target: Target) -> Statements:
        contract = target.contract
        texts = _composed(contract.table, tuple((column.name, column.type) for column in contract.columns))
        parameters = {
            "connection": target.feed.connection,
            "feed": target.feed.feed,
            "parent_feed": contract.parent_feed,
            "contract_version": contract.version,
            "table": contract.table,
            "handoff": target.handoff,
            "handoff_feeds": list(target.handoff_feeds),
        }
        return cls(parameters, *texts)


@lru_cache(maxsize=64)
def _composed(canonical: str, columns: tuple[tuple[str, str], ...]) -> tuple[sql.SQL, ...]:
    """The statements for a table, in the order of Statements' fields. Composed once: doing it for each page group is slow."""
    schema, _, table = canonical.partition(".")
    names = [sql.Identifier(name) for name, _ in columns]
    places: dict[str, sql.Composable] = {
        "target": sql.Identifier(schema, table),
        "stage": sql.Identifier(f"stage_{schema}_{table}"),
        "columns": sql.SQL(", ").join(names),
        "target_columns": sql.SQL(", ").join([sql.SQL("t.{}").format(name) for name in names]),
        "stage_columns": sql.SQL(", ").join([sql.SQL("s.{}").format(name) for name in names]),
        "assignments": sql.SQL(", ").join([sql.SQL("{0} = excluded.{0}").format(name) for name in names]),
        "definitions": sql.SQL(", ").join(
            [
                sql.SQL("{} {} not null").format(name, _sql(type_))
                for name, (_, type_) in zip(names, columns, strict=True)
            ]
        ),
    }
    templates = (
        SQL.create_stage,
        SQL.clear_stage,
        SQL.copy_stage,
        SQL.apply_stage,
        SQL.quarantine_cured,
        SQL.release_held,
        SQL.compare_stage,
        SQL.distrust,
        SQL.unseen,
    )
    return tuple(_sql(_sql(text).format(**places).as_string()) for text in templates)
