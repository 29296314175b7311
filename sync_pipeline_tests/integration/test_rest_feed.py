"""The `rest` vendor through whole sessions: what a list holds is stored, however its vendor pages, changes or is interrupted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.runtime import Runtime, build_setup, open_runtime
from sync_pipeline.sessions.session import FeedReport, SessionOptions
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline.vendors.config import ConnectionConfig

FIELDS = ("id", "event_id", "email", "created_at", "modified_at")
CONTRACT = {
    "fields": {"vendor_id": "id", **{name: name for name in FIELDS[1:]}},
    "status": "status",
    "statuses": {"paid": "COMPLETED"},
}
KEY = "k3y-that-is-secret"


def registration(number: int) -> dict[str, Any]:
    stamp = f"2026-01-01T00:00:{number % 60:02d}Z"
    return {
        "id": number, "event_id": "gala", "email": f"a{number}@example.com", "status": "paid", "created_at": stamp,
        "modified_at": stamp,
    }  # fmt: skip


@dataclass
class Shop:
    """Registrations on real HTTP. `answer` makes (status, headers, body) of (path, query, headers)."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""
    answer: Callable[[web.Request], tuple[int, dict[str, str], Any]] = lambda request: (500, {}, {})

    async def serve(self, request: web.Request) -> web.Response:
        self.asked.append(str(request.rel_url))
        status, headers, body = self.answer(request)
        return web.Response(status=status, headers=headers, body=b"" if status == 304 else orjson.dumps(body))

    @property
    def paths(self) -> list[str]:
        return [asked.replace(KEY, "KEY") for asked in self.asked]


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    made = Shop([registration(number) for number in range(1, 8)])
    app = web.Application()
    app.router.add_get("/{path:.*}", made.serve)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made


def setup_of(shop: Shop, rest: dict[str, Any], **more: Any) -> Setup:
    config = ConnectionConfig.parse(
        {
            "name": "box",
            "vendor": "rest",
            "base_url": shop.url,
            "token_env": "BOX_TOKEN",
            "limits": [{"name": "minute", "limit": 100_000, "seconds": 60}],
            "feeds": [
                {
                    "name": "regs",
                    "contract": "sync_pipeline.contracts.mapped:MappedContract",
                    "contract_options": CONTRACT,
                    "rest": {"path": "/regs", **rest},
                }
            ],
            **more,
        },
        where="the test",
    )
    return build_setup(config, env={})


@asynccontextmanager
async def engine(url: str, tmp_path: Path, crash: CrashPlan | None = None) -> AsyncIterator[Runtime]:
    secrets = EnvironmentSecrets({"BOX_TOKEN": KEY})
    async with open_runtime(url=url, objects=tmp_path / "landing", secrets=secrets, crash=crash) as runtime:
        yield runtime


async def session(runtime: Runtime, setup: Setup, *, calls: int = 40) -> FeedReport:
    report = await runtime.run_session(setup, SessionOptions(max_seconds=30, max_calls=calls, until_horizon=True))
    return report.feeds["regs"]


def stored(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        return {row[0] for row in conn.execute("select vendor_id from registrations.registration")}


def names(*numbers: int) -> set[str]:
    return {str(number) for number in numbers}


def linked(shop: Shop, link: Callable[[int], str]) -> Callable[[web.Request], tuple[int, dict[str, str], Any]]:
    def answer(request: web.Request) -> tuple[int, dict[str, str], Any]:
        number = int(request.query.get("page", "1"))
        more = number * 3 < len(shop.rows)
        return 200, {}, {"data": shop.rows[number * 3 - 3 : number * 3], "next": link(number + 1) if more else None}

    return answer


QUERY_AUTH = {"auth": {"kind": "query", "name": "api_key"}}


async def test_a_credential_in_the_query_leaves_the_links_own_query_alone(
    shop: Shop, database_url: str, tmp_path: Path
) -> None:
    # The vendor repeats what it was asked with.
    shop.answer = linked(shop, lambda page: f"{shop.url}/regs?page={page}&api_key={KEY}&sort=a,b%2Cc")
    setup = setup_of(shop, {"paging": {"kind": "next_link", "token": "next"}}, **QUERY_AUTH)
    async with engine(database_url, tmp_path) as runtime:
        report = await session(runtime, setup)
    assert report.error is None
    assert shop.paths == [
        "/regs?api_key=KEY",
        "/regs?page=2&sort=a,b%2Cc&api_key=KEY",
        "/regs?page=3&sort=a,b%2Cc&api_key=KEY",
    ]
    assert stored(database_url) == names(*range(1, 8))
    with psycopg.connect(database_url) as conn:
        kept = conn.execute("select string_agg(cursor::text, ' ') from sync.page").fetchone()
    assert kept is not None
    assert "page=2" in kept[0]
    assert KEY not in kept[0]


@pytest.mark.parametrize("link", ["/v2/regs?page={}", "regs?page={}", "?page={}"])
async def test_links_may_be_relative_to_the_page(shop: Shop, database_url: str, tmp_path: Path, link: str) -> None:
    shop.answer = linked(shop, link.format)
    setup = setup_of(shop, {"paging": {"kind": "next_link", "token": "next"}}, base_url=f"{shop.url}/v2")
    async with engine(database_url, tmp_path) as runtime:
        await session(runtime, setup)
    assert shop.paths == ["/v2/regs", "/v2/regs?page=2", "/v2/regs?page=3"]
    assert stored(database_url) == names(*range(1, 8))


async def test_a_query_in_the_path_is_kept(shop: Shop, database_url: str, tmp_path: Path) -> None:
    shop.answer = lambda request: (200, {}, {"data": shop.rows if request.query.get("type") == "ticket" else []})
    setup = setup_of(shop, {"path": "/regs?type=ticket", "page_size_param": "n", "paging": {"kind": "none"}})
    async with engine(database_url, tmp_path) as runtime:
        await session(runtime, setup)
    assert shop.paths == ["/regs?type=ticket&n=100"]
    assert stored(database_url) == names(*range(1, 8))


def tagged(shop: Shop, size: int) -> Callable[[web.Request], tuple[int, dict[str, str], Any]]:
    """Pages by offset, each with an ETag of its own."""

    def answer(request: web.Request) -> tuple[int, dict[str, str], Any]:
        start = int(request.query.get("p", "0"))
        rows = shop.rows[start : start + size]
        tag = f'"{hash(orjson.dumps(rows))}"'
        same = request.headers.get("If-None-Match") == tag
        return (304, {"ETag": tag}, None) if same else (200, {"ETag": tag}, {"data": rows})

    return answer


CONDITIONAL = {"conditional": True, "paging": {"kind": "offset", "param": "p"}}


async def test_an_unchanged_first_page_says_nothing_of_the_next(shop: Shop, database_url: str, tmp_path: Path) -> None:
    shop.answer = tagged(shop, 4)
    setup = setup_of(shop, CONDITIONAL)
    async with engine(database_url, tmp_path) as runtime:
        await session(runtime, setup)
        shop.rows += [registration(8), registration(9)]
        report = await session(runtime, setup)
    assert report.error is None
    assert stored(database_url) == names(*range(1, 10))


async def test_an_unchanged_list_costs_no_body_until_it_changes(shop: Shop, database_url: str, tmp_path: Path) -> None:
    shop.answer = tagged(shop, 100)
    setup = setup_of(shop, {"conditional": True, "paging": {"kind": "none"}})
    async with engine(database_url, tmp_path) as runtime:
        first, second = await session(runtime, setup), await session(runtime, setup)
        assert (first.pages, second.pages) == (1, 0)
        assert second.windows_closed == 1
        shop.rows.append(registration(8))
        third = await session(runtime, setup)
        assert third.counts["regs"].received == 8
        # Asked for everything again, the vendor must not be asked whether it has changed.
        await runtime.landing.reset(setup.connection.feed_id("regs"), since=None)
        again = await session(runtime, setup)
    assert again.counts["regs"].unchanged == 8
    assert stored(database_url) == names(*range(1, 9))


class Lost(Exception):
    """A worker ends here."""


class Breaks(CrashPlan):
    def __init__(self, point: CrashPoint) -> None:
        super().__init__()
        self._at = point

    def reach(self, point: CrashPoint) -> None:
        if point is self._at:
            raise Lost


@pytest.mark.parametrize(
    "point", [CrashPoint.REPLY_RECEIVED, CrashPoint.OBJECT_WRITTEN, CrashPoint.LANDING_BEFORE_COMMIT]
)
async def test_what_was_not_landed_is_not_taken_for_unchanged(
    shop: Shop, database_url: str, tmp_path: Path, point: CrashPoint
) -> None:
    shop.answer = tagged(shop, 100)
    setup = setup_of(shop, {"conditional": True, "paging": {"kind": "none"}})
    async with engine(database_url, tmp_path, Breaks(point)) as runtime:
        with pytest.raises(Lost):
            await session(runtime, setup)
    with psycopg.connect(database_url) as conn:
        conn.execute("update sync.feed_state set lease_expires = now()")
    async with engine(database_url, tmp_path) as runtime:
        await session(runtime, setup)
    assert stored(database_url) == names(*range(1, 8))


async def test_other_paging_walks_the_open_window_again(shop: Shop, database_url: str, tmp_path: Path) -> None:
    shop.rows = [registration(number) for number in range(1, 21)]

    def answer(request: web.Request) -> tuple[int, dict[str, str], Any]:
        number, size = int(request.query["page"]), int(request.query["n"])
        return 200, {}, {"data": shop.rows[(number - 1) * size : number * size]}

    shop.answer = answer
    rest = {"page_size_param": "n", "paging": {"kind": "page_number", "param": "page"}}
    async with engine(database_url, tmp_path) as runtime:
        await session(runtime, setup_of(shop, {**rest, "page_size": 3}), calls=2)
        report = await session(runtime, setup_of(shop, {**rest, "page_size": 5}))
    assert report.error is None
    assert shop.asked[2] == "/regs?n=5&page=1"
    assert stored(database_url) == names(*range(1, 21))


async def test_events_in_another_order_are_all_read(shop: Shop, database_url: str, tmp_path: Path) -> None:
    """Eventbrite's feed, whose window goes from event to event."""

    def answer(request: web.Request) -> tuple[int, dict[str, str], Any]:
        return 200, {}, {"pagination": {"has_more_items": False}, "orders": []}

    def setup(*events: str) -> Setup:
        config = ConnectionConfig.parse(
            {
                "name": "box",
                "vendor": "eventbrite",
                "base_url": shop.url,
                "token_env": "BOX_TOKEN",
                "events": events,
                "feeds": [{"name": "orders"}],
            },
            where="the test",
        )
        return build_setup(config, env={})

    shop.answer = answer
    options = SessionOptions(max_seconds=30, until_horizon=True)
    async with engine(database_url, tmp_path) as runtime:
        await runtime.run_session(setup("1", "2", "3"), SessionOptions(max_seconds=30, max_calls=1, until_horizon=True))
        await runtime.run_session(setup("3", "1", "2"), options)
    asked = [path.partition("?")[0].split("/")[2] for path in shop.asked]
    assert asked == ["1", "3", "1", "2"]
    assert "changed_since" not in shop.asked[1]


async def test_a_session_ends_in_time_inside_a_long_window(shop: Shop, database_url: str, tmp_path: Path) -> None:
    shop.rows = [registration(number) for number in range(1, 8)]
    shop.answer = lambda request: (
        200,
        {},
        {"data": [registration(int(request.query.get("c", "1")))], "next": int(request.query.get("c", "1")) + 1},
    )
    setup = setup_of(shop, {"paging": {"kind": "cursor", "param": "c", "token": "next"}})
    async with engine(database_url, tmp_path) as runtime:
        report = await runtime.run_session(setup, SessionOptions(max_seconds=0.0, until_horizon=True))
        assert report.feeds["regs"].pages == 1
        assert report.feeds["regs"].cursor.is_open
        report = await runtime.run_session(setup, SessionOptions(max_seconds=0.0, until_horizon=True))
    assert shop.asked == ["/regs", "/regs?c=2"]
    assert stored(database_url) == names(1, 2)


async def test_a_page_is_read_again_without_its_headers(shop: Shop, database_url: str, tmp_path: Path) -> None:
    """The next page stood in a Link header, which is not kept: after a kill it is not needed either."""

    def answer(request: web.Request) -> tuple[int, dict[str, str], Any]:
        number = int(request.query.get("page", "1"))
        more = number * 3 < len(shop.rows)
        headers = {"Link": f'<{shop.url}/regs?page={number + 1}>; rel="next"'} if more else {}
        return 200, headers, {"data": shop.rows[number * 3 - 3 : number * 3], "more": more}

    shop.answer = answer
    setup = setup_of(shop, {"paging": {"kind": "next_link", "has_more": "more"}})
    async with engine(database_url, tmp_path, Breaks(CrashPoint.LEDGER_STAGED)) as runtime:
        with pytest.raises(Lost):
            await session(runtime, setup)
    with psycopg.connect(database_url) as conn:
        conn.execute("update sync.feed_state set lease_expires = now()")
    async with engine(database_url, tmp_path) as runtime:
        report = await session(runtime, setup)
    assert report.error is None
    assert report.recovered
    assert stored(database_url) == names(*range(1, 8))
