"""The engine against the simulated pretix: a world, a database and sessions of one connection."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sync_pipeline.cli.truth import compare
from sync_pipeline.gateway.client import Gateway
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import SyncError
from sync_pipeline.kernel.feed import FeedId, Lane, Reply, Request
from sync_pipeline.runtime import Runtime, build_setup, open_runtime
from sync_pipeline.sessions.session import SessionOptions, SessionReport
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.simulator.options import PRETIX_TOKEN
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.integration.simulator_setting import Setting

Between = Callable[[Request, Reply], Awaitable[None]]


@dataclass
class AheadClock(SystemClock):
    """The system's clock, some days ahead."""

    days: int = 0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(days=self.days)


@dataclass
class Watched:
    """A gateway that lets something happen after each answer, before anyone reads it."""

    gateway: Gateway
    between: Between

    def left(self) -> tuple[int, float] | None:
        return self.gateway.left()

    def bears(self) -> float | None:
        return self.gateway.bears()

    async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply:
        reply = await self.gateway.send(request, feed=feed, correlation_id=correlation_id, lane=lane)
        await self.between(request, reply)
        return reply


@dataclass
class Pretix:
    """One connection to the simulated organizer."""

    world: Setting
    runtime: Runtime
    env: dict[str, str]

    def setup(self, **settings: Any) -> Setup:
        return build_setup(
            ConnectionConfig.parse(
                {
                    "name": "pretix",
                    "vendor": "pretix",
                    "base_url": self.world.server.pretix_url,
                    "token_env": "PRETIX_TOKEN",
                    "organizer": "simorg",
                    "limits": [{"limit": 100_000, "seconds": 60, "burst": 10_000}],
                    "feeds": [{"name": "orders"}, {"name": "positions"}],
                    **settings,
                },
                where="test",
            ),
            env={},
        )

    async def sync(self, between: Between | None = None, **settings: Any) -> SessionReport:
        """One session until the horizon."""
        setup = self.setup(**settings)
        options = SessionOptions(max_seconds=30, until_horizon=True)
        if between is None:
            return await self.runtime.run_session(setup, options)
        async with self.runtime.gateway(setup) as gateway:
            watched: Any = Watched(gateway, between)
            return await self.runtime.session(setup, watched, options).run()

    async def synced(self, between: Between | None = None, **settings: Any) -> SessionReport:
        report = await self.sync(between, **settings)
        assert report.feeds["orders"].error is None
        return report

    async def refused(self, **settings: Any) -> SyncError:
        error = (await self.sync(**settings)).feeds["orders"].error
        assert error is not None
        return error

    async def mismatches(self) -> dict[str, Mapping[str, int]]:
        found = {
            feed: (await compare(self.runtime.database, self.world.server.url, FeedId("pretix", feed))).mismatches
            for feed in ("orders", "positions")
        }
        return {feed: causes for feed, causes in found.items() if causes}

    async def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        async with self.runtime.database.transaction() as conn:
            return await (await conn.execute(query, parameters)).fetchall()


@asynccontextmanager
async def opened(world: Setting, url: str, folder: Path) -> AsyncIterator[Pretix]:
    env = {"PRETIX_TOKEN": PRETIX_TOKEN}
    async with open_runtime(
        url=url, objects=folder, secrets=EnvironmentSecrets(env, folder=folder), rng=random.Random(1)
    ) as runtime:
        yield Pretix(world, runtime, env)
