"""What operators do: sync, look, mend. Every command works on the working database and says what it did."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from rich.console import Console

from sync_pipeline.cli.desk import SIMULATED, join_desk
from sync_pipeline.cli.outcome import DONE, MAY_PASS, deciding
from sync_pipeline.cli.places import working_database
from sync_pipeline.cli.tables import show_table
from sync_pipeline.cli.truth import NoTruth, compare, reach
from sync_pipeline.gateway.credentials import credentials
from sync_pipeline.gateway.static_source import StaticSource
from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import ConfigurationError, Deferred, SyncError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.runtime import Runtime, load_setups, open_runtime
from sync_pipeline.sessions.reading import start_again
from sync_pipeline.sessions.session import SessionOptions, SessionReport
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.sessions.steps import PollResult
from sync_pipeline.sessions.verify import Finding, verify_store
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__ or "sync_pipeline.cli")
console = Console(highlight=False, soft_wrap=True)
progress_console = Console(stderr=True, highlight=False)


def emit(document: Mapping[str, Any]) -> None:
    print(orjson.dumps(document, default=str).decode(), flush=True)


def find_setup(name: str) -> tuple[Setup, str | None]:
    """The connection (and feed) that `connection` or `connection/feed` names. Raises ConfigurationError."""
    connection, _, feed = name.partition("/")
    setups = load_setups()
    setup = setups.get(connection)
    if setup is None:
        raise ConfigurationError(f"there is no connection {connection!r}; known are: {', '.join(sorted(setups))}")
    if feed and feed not in setup.feeds:
        raise ConfigurationError(f"{connection} has no feed {feed!r}; it has: {', '.join(setup.feeds)}")
    return setup, feed or None


async def refuse_without_secrets(setup: Setup, runtime: Runtime) -> None:
    """Before anything is moved: what a session reads first must be there. Nothing is sent. Raises ConfigurationError."""
    opened = credentials(
        setup.connection, database=runtime.database, secrets=runtime.secrets, clock=runtime.clock, random=random.random
    )
    try:
        async with opened as source:
            if isinstance(source, StaticSource):
                await source.current()
    except ConfigurationError:
        if setup.connection.name in SIMULATED and await select(runtime.database, SQL.demo_made):
            raise ConfigurationError(
                f"{setup.connection.name}: the database has the demo's records, and no simulated vendors run on it; start "
                "`make dev`, where this command finds them. Nothing was moved"
            ) from None
        raise


def show_progress(source: str, result: PollResult) -> None:
    counts = sum(result.counts.values(), Counts())
    progress_console.print(
        f"  {source}: {result.pages} pages, {counts.received} records, {counts.applied} applied, "
        f"{counts.quarantined} quarantined",
        style="dim",
    )


async def sync(target: str, *, max_seconds: float, max_calls: int | None, until_horizon: bool, as_json: bool) -> int:
    """Returns the exit code; raises what kept a feed from its horizon."""
    url = working_database()
    join_desk(url)
    setup, feed = find_setup(target)
    options = SessionOptions(max_seconds=max_seconds, max_calls=max_calls, until_horizon=until_horizon)
    async with open_runtime(url=url) as runtime:
        await refuse_without_secrets(setup, runtime)
        report = await runtime.run_session(setup, options, feeds=[feed] if feed else None, progress=show_progress)
    show_report(report, as_json=as_json)
    raise_for(report)
    return ended(report)


def raise_for(report: SessionReport) -> None:
    """Raise what kept a feed from its horizon, or changes from their receiver, so that the exit code says it."""
    error = deciding(report.errors())
    if error is not None:
        raise error


def left_alone(report: SessionReport) -> list[str]:
    """Feeds that the session left to the worker who held them."""
    return [name for name, feed in report.feeds.items() if feed.left_to_another]


def stopped(report: SessionReport) -> list[str]:
    """Feeds that the session's bounds kept from their horizon: some of their window, or all of it, was not asked for."""
    return [
        name
        for name, feed in report.feeds.items()
        if feed.error is None and not feed.left_to_another and (feed.cursor.is_open or feed.polls == 0)
    ]


def ended(report: SessionReport) -> int:
    """The exit code of a session in which nothing failed."""
    return MAY_PASS if stopped(report) else DONE


def show_report(report: SessionReport, *, as_json: bool) -> None:
    left = left_alone(report)
    feeds = {
        f"{report.connection}/{feed}": asdict(counts)
        for source in report.feeds.values()
        for feed, counts in source.counts.items()
    }
    if as_json:
        emit(
            {
                "session": report.session,
                "feeds": feeds,
                "errors": {
                    name: described(source.error) for name, source in report.feeds.items() if source.error is not None
                },
                "handoff_error": described(report.handoff_error) if report.handoff_error is not None else None,
                "held_by_another_worker": [f"{report.connection}/{name}" for name in left],
                "stopped_before_horizon": [f"{report.connection}/{name}" for name in stopped(report)],
                "seconds": round((report.ended_at - report.started_at).total_seconds(), 3),
            }
        )
        return
    if feeds or not left:
        show_table(console, "Session", [{"feed": name, **counts} for name, counts in feeds.items()])
    for name in left:
        console.print(
            f"{report.connection}/{name}: another worker holds it and polls it; this session left it alone",
            style="yellow",
        )
    for name in stopped(report):
        console.print(
            f"{report.connection}/{name}: stopped before its horizon; it goes on with the next session", style="yellow"
        )
    for name, source in report.feeds.items():
        if isinstance(source.error, Deferred):
            console.print(f"{report.connection}/{name}: {source.error}", style="yellow")
        elif source.error is not None:
            console.print(f"{report.connection}/{name}: {type(source.error).__name__}: {source.error}", style="red")
    if report.handoff_error is not None:
        what = f"{type(report.handoff_error).__name__}: {report.handoff_error}"
        console.print(f"{report.connection}, handing on: {what}", style="red")


def described(error: SyncError) -> Mapping[str, str]:
    return {"class": type(error).__name__, "message": str(error)}


async def select(database: Database, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    async with database.transaction() as conn:
        cursor = await conn.execute(sql, parameters)
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]


async def status(*, as_json: bool) -> None:
    async with Database.open(working_database()) as database:
        feeds = await select(database, SQL.status_feeds)
        quota = await select(database, SQL.status_quota)
        breakers = await select(database, SQL.status_breakers)
    if as_json:
        emit({"feeds": feeds, "quota": quota, "breakers": breakers})
        return
    show_table(console, "Feeds", feeds)
    show_table(console, "Quota", quota)
    if breakers:
        show_table(console, "Breakers not closed", breakers)
    if not feeds:
        console.print("No feed has been polled yet: run `make demo`, `make dev` or `sync-pipeline sync <connection>`.")


async def resync(feed: str, *, since: datetime | None, skip: bool, max_seconds: float, poll: bool) -> int:
    """Returns the exit code; raises what kept the feed from its horizon."""
    url = working_database()
    join_desk(url)
    setup, name = find_setup(feed)
    if name is None:
        raise ConfigurationError(f"resync needs one feed; {feed} has: {', '.join(setup.feeds)}")
    source = setup.source_of(name)
    async with open_runtime(url=url) as runtime:
        if poll:
            await refuse_without_secrets(setup, runtime)
        given_up = await start_again(setup, runtime.landing, runtime.objects, source, since=since, skip=skip)
        start = "the beginning" if since is None else f"{since:%Y-%m-%dT%H:%M:%SZ}"
        console.print(f"{setup.connection.name}/{source}: the cursor stands at {start}")
        if given_up:
            console.print(
                f"{given_up} landed pages cannot be read any more: given up, what was on them is listed again"
            )
        if not poll:
            return DONE
        report = await runtime.run_session(
            setup,
            SessionOptions(max_seconds=max_seconds, until_horizon=True),
            feeds=[source],
            progress=show_progress,
        )
    show_report(report, as_json=False)
    if not left_alone(report):
        listed = sum((counts for one in report.feeds.values() for counts in one.counts.values()), Counts())
        console.print(f"{listed.applied} of {listed.received} records that were listed differed and were applied")
    raise_for(report)
    return ended(report)


async def verify(*, as_json: bool, deep: bool, truth_url: str | None) -> bool:
    mismatches: dict[str, Mapping[str, int] | None] = {}
    if truth_url:
        await reach(truth_url)
    async with open_runtime(url=working_database()) as runtime:
        findings = await verify_store(runtime.database, runtime.objects, deep=deep)
        if truth_url:
            mismatches = await _against(runtime, truth_url)
    ok = not any(finding.number for finding in findings) and not any(mismatches.values())
    if as_json:
        emit(
            {
                "ok": ok,
                "checks": {finding.name: finding.number for finding in findings},
                "mismatches": {feed: causes for feed, causes in mismatches.items() if causes is not None},
                "not_compared": [feed for feed, causes in mismatches.items() if causes is None],
            }
        )
        return ok
    for finding in findings:
        _print_finding(finding)
    for feed, causes in mismatches.items():
        if causes is None:
            console.print(f"– {feed} against the simulator: not compared, it has no such feed")
        else:
            console.print(f"{'✗' if causes else '✓'} {feed} against the simulator: {dict(causes) or 'equal'}")
    return ok


def _print_finding(finding: Finding) -> None:
    if finding.number:
        console.print(f"✗ {finding.promise}: {finding.number} do not; {finding.remedy}", style="red")
    else:
        console.print(f"✓ {finding.promise}")


async def _against(runtime: Runtime, truth_url: str) -> dict[str, Mapping[str, int] | None]:
    """What differs from the simulator, by feed; None for a feed that it does not have."""
    found: dict[str, Mapping[str, int] | None] = {}
    for row in await select(runtime.database, SQL.known_feeds):
        feed = FeedId(row["connection"], row["feed"])
        try:
            found[str(feed)] = (await compare(runtime.database, truth_url, feed)).mismatches
        except NoTruth:
            found[str(feed)] = None
    return found
