"""What the store knows of a feed after a session: the numbers behind materializations, checks and the sensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg import sql

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import Awaited
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.polling.schedule import FeedState, Left, span_of
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a feed stands now, whether a session runs or not. Instants by the database's clock."""

    watermark: datetime | None
    caught_up_at: datetime | None
    next_due: datetime | None
    why: str | None
    deferred_until: datetime | None
    deferred_for: Awaited
    deferred_reason: str | None
    last_error: str | None
    now: datetime


@dataclass(frozen=True, slots=True)
class FeedFacts(Standing):
    """Where the feed stands, and the counts of one session."""

    pages: int
    received: int
    applied: int
    unchanged: int
    superseded: int
    held: int
    quarantined: int
    first_page: int | None
    requests: int
    answers_429: int
    retries: int
    waited_s: float
    broken_pages: int
    open_quarantine: int
    dead_letters: int
    held_now: int

    @property
    def conserved(self) -> bool:
        outcomes = self.applied + self.unchanged + self.superseded + self.held + self.quarantined
        return self.received == outcomes and self.broken_pages == 0

    def derived(self, pages: int, counts: Counts) -> FeedFacts:
        """The same of a session that asked for no page, and derived rows from so many landed ones again."""
        return replace(
            self,
            pages=pages,
            received=counts.received,
            applied=counts.applied,
            unchanged=counts.unchanged,
            superseded=counts.superseded,
            held=counts.held,
            quarantined=counts.quarantined,
            first_page=None,
        )


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one session was shown of a feed."""

    received: int
    quarantined: int
    first_page: int | None


@dataclass(frozen=True, slots=True)
class Rejections:
    """Different records of a session that wait in quarantine. `codes`: the ten most frequent; `more_codes`: how many others."""

    records: int
    codes: Mapping[str, int]
    more_codes: int


async def feed_facts(database: Database, feed: FeedId, session: str) -> FeedFacts:
    async with database.transaction() as conn:
        cursor = await conn.execute(
            SQL.session_facts, {"connection": feed.connection, "feed": feed.feed, "session": session}
        )
        row = await cursor.fetchone()
        assert row is not None
        return FeedFacts(*row)


async def standings(database: Database, connection: str) -> Mapping[str, Standing]:
    """Where each feed of the connection stands that was asked for at least once."""
    return {row[0]: Standing(*row[1:]) for row in await database.statement(SQL.standings, {"connection": connection})}


async def rejections(database: Database, feed: FeedId, first_page: int | None) -> Rejections:
    """From `first_page` on; None: all that are open."""
    found = await database.statement(
        SQL.rejections, {"connection": feed.connection, "feed": feed.feed, "first_page": first_page}
    )
    codes = {row[0]: row[1] for row in found}
    return Rejections(found[0][2], codes, found[0][3] - len(codes)) if found else Rejections(0, {}, 0)


async def last_cycle(database: Database, feed: FeedId) -> Cycle:
    """The newest that was shown anything."""
    [row] = await database.statement(SQL.last_cycle, {"connection": feed.connection, "feed": feed.feed})
    return Cycle(*row)


async def row_facts(
    database: Database, feed: FeedId, table: str, *, first_page: int | None, since: datetime | None
) -> tuple[int, float | None]:
    """(rows of the feed in its canonical table, p95 of the lag of what this session applied, in seconds).

    Only changes after `since`, the time the feed last stood at its horizon, have a lag: history does not.
    """
    statement = sql.SQL(SQL.row_facts).format(target=sql.Identifier(*table.split(".")))
    async with database.transaction() as conn:
        cursor = await conn.execute(
            statement,
            {"connection": feed.connection, "feed": feed.feed, "first_page": first_page, "since": since},
        )
        row = await cursor.fetchone()
        assert row is not None
        return row[0], row[1]


async def table_columns(database: Database, table: str) -> frozenset[str]:
    schema, _, name = table.partition(".")
    async with database.transaction() as conn:
        cursor = await conn.execute(SQL.table_columns, {"schema": schema, "table": name})
        return frozenset(row[0] for row in await cursor.fetchall())


async def feed_states(database: Database, connection: str, feeds: Sequence[str]) -> list[FeedState]:
    """What the plan needs of each feed; a feed that was never polled has a state too."""
    from sync_pipeline.polling.estimate import recalled

    async with database.transaction() as conn:
        cursor = await conn.execute(SQL.feed_states, {"connection": connection})
        known = {
            row[0]: FeedState(
                row[0],
                last_poll_at=row[1],
                next_due=row[2],
                deferred_until=row[3],
                deferred_for=row[4],
                deferred_reason=row[5],
                window_open=row[6],
                paused=row[7],
                estimate=recalled(row[8]),
                calls_a_poll=row[9],
            )
            for row in await cursor.fetchall()
        }
    return [known.get(feed) or FeedState(feed) for feed in feeds]


async def quota_left(database: Database, scopes: Sequence[str]) -> Left | None:
    """What the window with the smallest part left has; None before the first session."""
    found = await database.statement(SQL.quota_left, {"scopes": list(scopes)})
    return Left(found[0][0], span_of(found[0][1])) if found else None


async def select(database: Database, name: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows of one of this room's statements, by column name."""
    async with database.transaction() as conn:
        cursor = await conn.execute(getattr(SQL, name), parameters)
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
