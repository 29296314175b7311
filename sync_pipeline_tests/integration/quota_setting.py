"""The store's side of the quota tree under a clock of the test's, and an independent count of what a vendor would see."""

from __future__ import annotations

import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from sync_pipeline.gateway.quota import Pace
from sync_pipeline.gateway.quota_store import SQL, Quota
from sync_pipeline.kernel.clock import Clock, SystemClock
from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.kernel.feed import QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
names = itertools.count()
"""Of nodes; written so that their order is that in which they were made (the store answers in the order of names)."""


@dataclass(frozen=True)
class Grant:
    granted: int
    wait: float
    scope: str | None
    window: str | None
    held: list[int] | None

    @property
    def left(self) -> list[int]:
        assert self.held is not None
        return [held - self.granted for held in self.held]


class Tree:
    """The store's side of the tree. Instants are seconds from START."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn

    def node(self, *windows: QuotaWindow, scope: str | None = None) -> str:
        """A new node, or `scope` with these settings."""
        scope = scope or f"n{next(names):06}"
        for pace in map(Pace.of, windows):
            self.conn.execute(SQL.ensure_window, {"scope": scope, **asdict(pace)})
        return scope

    def ask(self, *scopes: str, lane: int = 0, at: float, least: int = 1, most: int = 1) -> Grant:
        row = self.conn.execute(
            "select granted, wait, scope, window_name, held from sync.quota_grant(%s, %s, %s, %s, %s)",
            (list(scopes), lane, least, most, START + timedelta(seconds=at)),
        ).fetchone()
        assert row is not None
        return Grant(*row)

    def give_back(self, scope: str, tokens: int, at: float) -> None:
        self.conn.execute(
            SQL.give_back, {"scopes": [scope], "tokens": tokens, "used_at": START + timedelta(seconds=at)}
        )


def most_in_any(arrivals: list[float], seconds: float) -> int:
    """An independent count: the most arrivals in any half-open window of `seconds`."""
    arrivals = sorted(arrivals)
    first = most = 0
    for last, at in enumerate(arrivals):
        while arrivals[first] <= at - seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def saturate(tree: Tree, scope: str, lanes: dict[int, float], seconds: float) -> dict[int, list[tuple[float, float]]]:
    """Each lane asks for one token every `lanes[lane]` seconds and waits for it; grants as (asked, granted)."""
    due = dict.fromkeys(lanes, 0.0)
    since = dict.fromkeys(lanes, 0.0)
    found: dict[int, list[tuple[float, float]]] = {lane: [] for lane in lanes}
    now = 0.0
    while now < seconds:
        lane = min(due, key=lambda name: (due[name], -name))
        now = due[lane]
        grant = tree.ask(scope, lane=lane, at=now)
        if grant.granted:
            found[lane].append((since[lane], now))
            since[lane] = due[lane] = max(now, since[lane] + lanes[lane])
        else:
            due[lane] = now + max(0.002, grant.wait)
    return found


class Fickle:
    """A database that is away for as long as `away`."""

    def __init__(self, database: Database) -> None:
        self.away = False
        self._database = database

    def _look(self) -> None:
        if self.away:
            raise TransientError("the database connection was lost")

    async def statement(self, query: str, parameters: dict[str, object], **more: float) -> list[tuple[object, ...]]:
        self._look()
        return await self._database.statement(query, parameters, **more)

    @contextlib.asynccontextmanager
    async def transaction(self, **more: float) -> AsyncIterator[psycopg.AsyncConnection]:
        self._look()
        async with self._database.transaction(**more) as conn:
            yield conn


def quota(database: Any, *windows: QuotaWindow, clock: Clock | None = None) -> Quota:
    """A worker's own, of one node. `database`: a Database, or what stands for one that is away or slow."""
    return Quota(
        "shop",
        [QuotaNode("shop", windows)],
        database=database,
        clock=clock or SystemClock(),
        monotonic=time.monotonic,
        random=random.Random(1).random,
    )
