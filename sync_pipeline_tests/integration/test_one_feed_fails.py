"""What fails in one feed (the store refuses a row, pages cannot be kept, a defect of ours) ends that feed and no other."""

from __future__ import annotations

import logging
import random
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.kernel.errors import ConfigurationError, StoreRefused, TransientError
from sync_pipeline.kernel.feed import Lane, Reply, Request
from sync_pipeline.landing.objects import LocalObjects
from sync_pipeline.landing.pages import Landing, Lease
from sync_pipeline.runtime import Runtime, build_setup, open_runtime
from sync_pipeline.sessions.session import SessionOptions, SessionReport
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.things import rows

PERSON = "someone@private.example"


@pytest.fixture
async def runtime(database_url: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(url=database_url, objects=tmp_path / "objects", rng=random.Random(1)) as opened:
        yield opened


@dataclass
class Vendor:
    """Records by feed. A feed whose entry is an exception is a defect of ours."""

    feeds: dict[str, list[dict[str, Any]] | Exception]

    def left(self) -> None:
        return None

    def bears(self) -> None:
        return None

    async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply:
        shown, now = self.feeds[feed], datetime.now(UTC)
        if isinstance(shown, Exception):
            raise shown
        return Reply(200, {"date": format_datetime(now)}, orjson.dumps({"data": shown}), now, now)


def ticket(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "event": "e", "at": "2026-01-01T00:00:00Z", "state": "paid", "email": "one@example.com", **more}


def setup() -> Setup:
    fields = {"vendor_id": "id", "event_id": "event", "created_at": "at", "modified_at": "at", "email": "email"}
    feeds = [
        {
            "name": name,
            "contract": "sync_pipeline.contracts.mapped:MappedContract",
            "contract_options": {"fields": fields, "status": "state", "statuses": {"paid": "COMPLETED"}},
            "rest": {"path": f"/{name}", "modified": {"field": "at"}, "paging": {"kind": "none"}},
        }
        for name in ("one", "two")
    ]
    document = {"name": "box", "vendor": "rest", "base_url": "http://127.0.0.1:1", "auth": {"kind": "none"},
                "limits": [{"limit": 10_000, "seconds": 60}], "feeds": feeds}  # fmt: skip
    return build_setup(ConnectionConfig.parse(document, where="test"), env={})


async def session(runtime: Runtime, vendor: Vendor, *, until_horizon: bool = True) -> SessionReport:
    options = SessionOptions(max_seconds=60, until_horizon=until_horizon)
    return await runtime.session(setup(), cast(Gateway, vendor), options).run()


STORED = "select feed, vendor_id from registrations.registration order by 1, 2"
HELD = "select count(*) from sync.feed_state where lease_owner is not null"
LAST_ERROR = "select feed, split_part(last_error, ':', 1) from sync.feed_state order by 1"


@pytest.mark.parametrize("before", [[], [ticket("a", state="unknown"), ticket("b")]], ids=["copied", "staged"])
async def test_a_row_that_the_store_refuses_ends_its_feed_and_is_quoted_nowhere(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, before: list[dict[str, Any]]
) -> None:
    caplog.set_level(logging.DEBUG)
    if before:
        await session(runtime, Vendor({"one": before, "two": []}))
    async with runtime.database.transaction() as conn:
        await conn.execute(f"alter table registrations.registration add constraint refused check (email <> '{PERSON}')")
    vendor = Vendor({"one": [*before, ticket("x", email=PERSON)], "two": [ticket("z")]})
    report = await session(runtime, vendor)
    error = report.feeds["one"].error
    assert isinstance(error, StoreRefused)
    assert error.sqlstate == "23514"
    assert "(CheckViolation, SQLSTATE 23514)" in str(error)
    assert report.feeds["two"].error is None
    assert ("two", "z") in await rows(runtime.database, STORED)
    assert await rows(runtime.database, LAST_ERROR) == [("one", "StoreRefused"), ("two", None)]
    assert await rows(runtime.database, HELD) == [(0,)]
    [(kept,)] = await rows(runtime.database, "select last_error from sync.feed_state where feed = 'one'")
    for told in (kept, caplog.text, "".join(traceback.format_exception(error))):
        assert PERSON not in told
    async with runtime.database.transaction() as conn:
        await conn.execute("alter table registrations.registration drop constraint refused")
    assert (await session(runtime, vendor)).feeds["one"].error is None
    assert ("one", "x") in await rows(runtime.database, STORED)


class Flaky(LocalObjects):
    """Its disk fails the first time."""

    def __init__(self, root: Path, failure: OSError) -> None:
        super().__init__(root)
        self._failure: OSError | None = failure

    def _write(self, path: Path, content: bytes) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        super()._write(path, content)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [(OSError(28, "no room"), TransientError), (PermissionError(13, "refused"), ConfigurationError)],
    ids=["full", "not allowed"],
)
async def test_pages_that_cannot_be_kept_end_one_feed_until_they_can(
    runtime: Runtime, tmp_path: Path, failure: OSError, kind: type[Exception]
) -> None:
    broken = replace(runtime, objects=Flaky(tmp_path / "flaky", failure))
    vendor = Vendor({"one": [ticket("x")], "two": [ticket("x")]})
    report = await session(broken, vendor)
    assert sorted(type(one.error) is kind for one in report.feeds.values()) == [False, True]
    assert len(await rows(runtime.database, STORED)) == 1
    assert await rows(runtime.database, HELD) == [(0,)]
    await session(broken, vendor)
    assert await rows(runtime.database, STORED) == [("one", "x"), ("two", "x")]


async def test_a_defect_in_one_feed_leaves_no_lease_behind(runtime: Runtime) -> None:
    """The other feed has an hour to poll: it is cut off, and gives its lease back too."""
    vendor = Vendor({"one": ZeroDivisionError("a defect"), "two": [ticket("z")]})
    with pytest.raises(ZeroDivisionError, match="a defect"):
        await session(runtime, vendor, until_horizon=False)
    assert await rows(runtime.database, "select count(*) from sync.feed_state") == [(2,)]
    assert await rows(runtime.database, HELD) == [(0,)]


class Away(Landing):
    async def release(self, lease: Lease) -> None:
        raise TransientError("the store is away")


async def test_a_lease_that_cannot_be_given_back_is_no_error_and_hides_none(runtime: Runtime) -> None:
    away = replace(runtime, landing=Away(runtime.database))
    report = await session(away, Vendor({"one": [], "two": []}))
    assert [(one.polls, one.error) for one in report.feeds.values()] == [(1, None), (1, None)]
    await rows(runtime.database, "update sync.feed_state set lease_owner = null, lease_expires = null returning 1")
    with pytest.raises(ZeroDivisionError, match="a defect"):
        await session(away, Vendor({"one": ZeroDivisionError("a defect"), "two": []}))
