"""Today listed again while a session polls: what comes in between is no difference."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import orjson

from sync_pipeline.kernel.feed import Lane, Reply, Request
from sync_pipeline.reconcile.window import WindowReport, reconcile_days
from sync_pipeline.runtime import Runtime, build_setup, open_runtime
from sync_pipeline.sessions.session import SessionOptions
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.things import rows


async def nothing() -> None: ...


@dataclass
class Box:
    """A vendor that shows all it has on one page. `meanwhile` happens after each answer, before anyone reads it."""

    records: dict[str, datetime] = field(default_factory=dict)
    event: str = "e"
    meanwhile: Callable[[], Awaitable[None]] = nothing

    def left(self) -> tuple[int, float] | None:
        return None

    def bears(self) -> float | None:
        return None

    async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply:
        shown = [{"id": name, "event": self.event, "at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "state": "paid"}
                 for name, at in self.records.items()]  # fmt: skip
        now = datetime.now(UTC)
        reply = Reply(200, {"date": format_datetime(now)}, orjson.dumps({"data": shown}), now, now)
        await self.meanwhile()
        return reply


def setup() -> Setup:
    document: dict[str, Any] = {
        "name": "box", "vendor": "rest", "base_url": "http://127.0.0.1:1", "auth": {"kind": "none"},
        "limits": [{"limit": 10_000, "seconds": 60}],
        "feeds": [{
            "name": "tickets",
            "contract": "sync_pipeline.contracts.mapped:MappedContract",
            "contract_options": {
                "fields": {"vendor_id": "id", "event_id": "event", "created_at": "at", "modified_at": "at"},
                "status": "state", "statuses": {"paid": "COMPLETED"},
            },
            "rest": {"path": "/tickets", "modified": {"field": "at"}, "paging": {"kind": "none"}},
        }],
    }  # fmt: skip
    return build_setup(ConnectionConfig.parse(document, where="test"), env={})


async def polled(runtime: Runtime, box: Box) -> None:
    report = await runtime.session(setup(), box, SessionOptions(max_seconds=5, until_horizon=True)).run()
    assert report.feeds["tickets"].error is None


async def reconciled(runtime: Runtime, box: Box, day: date) -> WindowReport:
    return await reconcile_days(
        runtime, setup(), "tickets", box, start=day, end=day + timedelta(days=1), session="reconcile"
    )


async def test_what_a_poll_brings_after_the_listing_began_is_not_missing(database_url: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    async with open_runtime(url=database_url, objects=tmp_path, rng=random.Random(1)) as runtime:
        box = Box({"old": now, "gone": now})
        await polled(runtime, box)
        del box.records["gone"]

        async def sold() -> None:
            box.meanwhile = nothing
            box.records["new"] = now
            await polled(runtime, box)

        box.meanwhile = sold
        for _ in range(2):  # the second time it is listed
            report = await reconciled(runtime, box, now.date())
            assert [(one.vendor_id, one.cause) for one, _, _ in report.deltas] == [("gone", "missing_at_vendor")]


NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
KEPT = "select cause, action, verified from sync.delta"
STORED = "select modified_at from registrations.registration"


async def test_other_values_under_an_older_stamp_wait_for_review(database_url: str, tmp_path: Path) -> None:
    async with open_runtime(url=database_url, objects=tmp_path, rng=random.Random(1)) as runtime:
        box = Box({"one": NOON})
        await polled(runtime, box)
        box.records["one"] = NOON - timedelta(hours=6)
        for _ in range(2):  # the second time it is listed, it is the same one
            report = await reconciled(runtime, box, NOON.date())
            assert report.by_cause == {("older_at_vendor", "review"): 1}
            assert report.open == 1
            assert await rows(runtime.database, KEPT) == [("older_at_vendor", "review", False)]
            assert await rows(runtime.database, STORED) == [(NOON,)]
        box.records["one"] = NOON + timedelta(hours=1)
        await polled(runtime, box)
        assert (await reconciled(runtime, box, NOON.date())).open == 0
        assert await rows(runtime.database, KEPT) == [("older_at_vendor", "review", True)]


async def test_what_a_poll_brings_after_the_listing_began_is_not_older_at_the_vendor(
    database_url: str, tmp_path: Path
) -> None:
    async with open_runtime(url=database_url, objects=tmp_path, rng=random.Random(1)) as runtime:
        box = Box({"one": NOON})
        await polled(runtime, box)

        async def changed() -> None:
            box.meanwhile = nothing
            box.records["one"] = NOON + timedelta(hours=1)
            await polled(runtime, box)

        box.meanwhile = changed
        assert (await reconciled(runtime, box, NOON.date())).deltas == []
        assert await rows(runtime.database, STORED) == [(NOON + timedelta(hours=1),)]


async def test_what_was_asked_for_before_a_listing_does_not_replace_what_that_showed(
    database_url: str, tmp_path: Path
) -> None:
    """Changed twice without a stamp: the poll has the first change, the repair the second one, and is through before it."""
    async with open_runtime(url=database_url, objects=tmp_path, rng=random.Random(1)) as runtime:
        box = Box({"one": NOON}, event="0")
        await polled(runtime, box)
        box.event = "1"

        async def changed_again() -> None:
            box.meanwhile = nothing
            box.event = "2"
            assert (await reconciled(runtime, box, NOON.date())).by_cause == {("changed_unstamped", "repaired"): 1}

        box.meanwhile = changed_again
        await polled(runtime, box)
        assert await rows(runtime.database, "select event_id from registrations.registration") == [("2",)]
        counted = "select applied, unchanged, superseded from sync.page order by id"
        assert await rows(runtime.database, counted) == [(1, 0, 0), (1, 0, 0), (0, 0, 1)]
        assert (await reconciled(runtime, box, NOON.date())).deltas == []
