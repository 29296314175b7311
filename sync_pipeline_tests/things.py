"""A tiny domain for tests of the engine: things with a name, some of them children of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from sync_pipeline.kernel.canonical import Canonical, Column, Problem, Rejection, instant_text
from sync_pipeline.kernel.feed import FeedId, RawRecord
from sync_pipeline.ledger.checked import CheckedPage, Target, check_page
from sync_pipeline.store.database import Database

START = datetime(2026, 1, 1, tzinfo=UTC)

THINGS = """
create schema if not exists canon;
create table canon.thing (
  connection text not null, feed text not null, vendor_id text not null, name text not null, size integer not null,
  modified_at timestamptz not null, content_hash bytea not null, page_id bigint not null,
  contract_version text not null, applied_at timestamptz not null default clock_timestamp(),
  primary key (connection, feed, vendor_id));
"""


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@dataclass
class ThingContract:
    """{"id", "name", "size", "at", "parent"?} with size an integer; anything else is rejected."""

    version: str = "1"
    parent_feed: str | None = None
    smallest: int = 0
    table: str = "canon.thing"
    columns: Sequence[Column] = (Column("name", "text", "", personal=True), Column("size", "integer", ""))
    unknown: set[str] = field(default_factory=set)

    def check(self, records: Sequence[RawRecord]) -> list[Canonical | Rejection]:
        return [self._check(record) for record in records]

    def _check(self, record: RawRecord) -> Canonical | Rejection:
        value: Any = record.value
        raw = record.raw if record.raw is not None else orjson.dumps(value)
        if record.fault:
            return Rejection(None, (Problem(record.fault, ""),), raw)
        name = value.get("id")
        if not isinstance(value.get("size"), int) or value["size"] < self.smallest:
            return Rejection(name, (Problem("BAD_SIZE", "size"),), raw)
        self.unknown |= value.keys() - {"id", "name", "size", "at", "parent"}
        row = (value["name"], str(value["size"]))
        return Canonical.of(name, instant_text(at(value["at"])), row, value.get("parent"))

    def drift(self) -> frozenset[str]:
        return frozenset(self.unknown)


def thing(name: str, *, when: float = 0, size: Any = 1, title: str = "n", **more: Any) -> RawRecord:
    return RawRecord({"id": name, "name": title, "size": size, "at": when, **more})


def target(contract: ThingContract | None = None, feed: str = "things", **more: Any) -> Target:
    return Target(FeedId("shop", feed), contract or ThingContract(), **more)


async def create_things(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(THINGS)


async def landed_page(
    database: Database,
    records: Sequence[RawRecord],
    contract: ThingContract | None = None,
    feed: str = "things",
    *,
    fetched: float | None = None,
) -> CheckedPage:
    """Register a page (as landing would) and check its records. `fetched`: when, in seconds since START (default: now)."""
    async with database.transaction() as conn:
        found = await conn.execute(
            "insert into sync.page (connection, feed, source_feed, session, sha256, object_key, bytes, fetched_at, shown_at,"
            " cursor) values ('shop', %s, %s, 's', '', '', 0, now(), coalesce(%s, clock_timestamp()), '{}') returning id",
            (feed, feed, None if fetched is None else at(fetched)),
        )
        row = await found.fetchone()
    assert row is not None
    return check_page(row[0], records, contract or ThingContract())


async def rows(database: Database, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    async with database.transaction() as conn:
        return await (await conn.execute(query, parameters)).fetchall()
