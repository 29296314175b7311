"""The demo: two simulated vendors synced through Dagster, changed, synced again, reconciled and verified."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.table import Table

from sync_pipeline.cli.desk import at_desk
from sync_pipeline.cli.places import dagster_home, enter, simulated_vendors, working_database
from sync_pipeline.cli.truth import Comparison, compare
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.simulator.options import PORT, SimulatorOptions
from sync_pipeline.simulator.server import ListenError, Running, running
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__ or "sync_pipeline.cli")
FEEDS = tuple(
    FeedId(connection, feed)
    for connection, feed in (
        ("eventbrite", "orders"),
        ("eventbrite", "attendees"),
        ("pretix", "orders"),
        ("pretix", "positions"),
    )
)
SUMMARIES = (["registrations", "registrations"], ["operations", "quota"])
"""Assets that otherwise stay empty until the sensors run, the quota's until the next full hour."""

BURST = 200
"""Vendor-side changes between the two rounds."""

ROUNDS = 6
"""Sessions after the burst: changes become visible late, as at the real vendors."""


@dataclass(frozen=True, slots=True)
class FeedResult:
    requests: int
    answers_429: int
    limit_breaches: int
    pages: int
    received: int
    applied: int
    unchanged: int
    superseded: int
    held: int
    quarantined: int
    truth_rows: int
    store_rows: int
    mismatches: int
    lag_p95_s: float | None


class Steps:
    """Says what is being done, on stderr, with the time it took."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        self._console.print(f"· {what} …")
        yield
        self._console.print(f"  done in {time.monotonic() - started:.1f} s", style="dim")

    def say(self, text: str) -> None:
        self._console.print(f"  {text}")


def run_demo(*, seed: int, orders: int | None, as_json: bool) -> bool:
    """Run the whole demo; True when everything was verified."""
    started = time.monotonic()
    # The progress is what a person watches; the runs' own logs are in the UI. Must stand before the definitions load.
    os.environ.setdefault("SYNC_LOG_LEVEL", "ERROR")
    steps = Steps()
    with steps.step("starting Postgres"):
        url = working_database()
        made_at = asyncio.run(claim_database(url, seed, orders))
    options = simulated_world(seed=seed, start=made_at, orders=orders)
    with _simulator(options) as simulator:
        enter({**simulated_vendors(simulator.url), **dagster_home(url)})
        with at_desk(simulator.url, url):
            results, problems, runs = drive(steps, simulator.url, url)
    ok = not problems
    seconds = round(time.monotonic() - started, 1)
    if as_json:
        document = {
            "ok": ok,
            "feeds": {str(feed): asdict(result) for feed, result in results.items()},
            "seconds": seconds,
            "problems": problems,
            "dagster_runs": runs,
        }
        print(orjson.dumps(document).decode(), flush=True)
    else:
        render(results, problems, seconds)
    return ok


@contextmanager
def _simulator(options: SimulatorOptions) -> Iterator[Running]:
    """At the place where `dev` has it, so that feeds go on there where the demo leaves them: a watermark stands for one
    base_url. Anywhere if that is taken."""
    with ExitStack() as stack:
        try:
            simulator = stack.enter_context(running(options, port=PORT))
        except ListenError:
            simulator = stack.enter_context(running(options))
        yield simulator


def simulated_world(
    *, seed: int, start: datetime, orders: int | None, changes_per_minute: float = 0.0
) -> SimulatorOptions:
    """The simulator's options for a world of so many orders at each vendor; None: its own default."""
    options = SimulatorOptions(seed=seed, start=start, changes_per_minute=changes_per_minute)
    return options if orders is None else replace(options, eventbrite_orders=orders, pretix_orders=orders)


def change_vendors(control: httpx.Client) -> None:
    """The burst: always the same changes in the same world, so that `dev` can make them again."""
    for vendor in ("eventbrite", "pretix"):
        control.post("/_sim/mutate", json={"vendor": vendor, "changes": BURST}).raise_for_status()


async def claim_database(url: str, seed: int, orders: int | None) -> datetime:
    """Empty what an earlier demo made; refuse a database that holds anything else. Returns when the world began."""
    async with Database.open(url) as database, database.transaction() as conn:
        made = await (await conn.execute(SQL.demo_made)).fetchone()
        pages = await (await conn.execute(SQL.any_page)).fetchone()
        if made is None and pages is not None:
            raise ConfigurationError(
                "the working database holds records that no demo made; run the demo beside it with SYNC_DATA_DIR=<an "
                "empty directory> (and without DATABASE_URL)"
            )
        await conn.execute(SQL.empty_everything)
        detail = orjson.dumps({"seed": seed, "orders": orders}).decode()
        row = await (await conn.execute(SQL.mark_demo, {"detail": detail})).fetchone()
        assert row is not None
        began: datetime = row[0]
        return began


def drive(steps: Steps, simulator: str, url: str) -> tuple[dict[FeedId, FeedResult], list[str], int]:
    """The rounds, each a recorded Dagster run. Returns results per feed, problems, and the number of runs."""
    import dagster as dg

    from sync_pipeline.definitions import defs

    problems: list[str] = []
    runs = 0
    with steps.step("loading the Dagster definitions"):
        definitions = defs() if callable(defs) else defs
        instance = dg.DagsterInstance.get()

    def run(
        job: str,
        config: Mapping[str, Any] | None = None,
        partition: str | None = None,
        assets: Sequence[dg.AssetKey] | None = None,
    ) -> None:
        nonlocal runs
        runs += 1
        outcome = definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            run_config={**(config or {}), **QUIET},
            partition_key=partition,
            asset_selection=assets,
            raise_on_error=False,
        )
        if not outcome.success:
            problems.append(f"Dagster run of {job} failed; see it in the UI")

    def session(connection: str) -> None:
        run(f"poll_{connection}", {"ops": {f"{connection}_session": {"config": {"until_horizon": True}}}})

    with instance, httpx.Client(base_url=simulator, timeout=120) as control:
        control.post("/_sim/faults", json=FAULTS).raise_for_status()
        for connection in ("eventbrite", "pretix"):
            with steps.step(f"{connection}: all history, through job poll_{connection}"):
                session(connection)
        asyncio.run(mark_burst(url))
        with steps.step(f"changing {BURST} records at each vendor"):
            change_vendors(control)
        with steps.step("syncing the changes"):
            for _ in range(ROUNDS):
                for connection in ("eventbrite", "pretix"):
                    session(connection)
                pending = control.get("/_sim/stats").json().get("pending_visibility", 0)
                if not pending and asyncio.run(settled(url, simulator)):
                    break
        with steps.step("reconciling today with the vendors"):
            for connection in ("eventbrite", "pretix"):
                run(f"reconcile_{connection}", partition=time.strftime("%Y-%m-%d", time.gmtime()))
        with steps.step("summing up registrations and quota"):
            run("__ASSET_JOB", assets=[dg.AssetKey(path) for path in SUMMARIES])
        with steps.step("verifying against the vendors' ground truth"):
            stats = control.get("/_sim/stats").json()
            results, wrong = asyncio.run(measure(url, simulator, stats))
            problems += wrong
    return results, problems, runs


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""The runs are recorded; their log on the terminal would drown the progress."""

FAULTS = {"rates": {"malformed": 0.01, "http_503": 0.02, "reset": 0.01, "truncated": 0.01, "html": 0.01}}
"""What real vendors do on a bad day, so that the demo shows quarantine and retries at work."""


async def mark_burst(url: str) -> None:
    async with Database.open(url) as database, database.transaction() as conn:
        await conn.execute(SQL.mark_burst)


async def settled(url: str, simulator: str) -> bool:
    """True when the store equals what the vendors show."""
    async with Database.open(url) as database:
        comparisons = [await compare(database, simulator, feed) for feed in FEEDS]
    return not any(comparison.total for comparison in comparisons)


async def measure(url: str, simulator: str, stats: Mapping[str, Any]) -> tuple[dict[FeedId, FeedResult], list[str]]:
    problems: list[str] = []
    results: dict[FeedId, FeedResult] = {}
    async with Database.open(url) as database:
        for feed in FEEDS:
            comparison = await compare(database, simulator, feed)
            numbers = await feed_numbers(database, feed)
            breaches = int(stats["vendors"][feed.connection]["limit_breaches"])
            results[feed] = FeedResult(
                **numbers,
                limit_breaches=breaches,
                truth_rows=comparison.truth_rows,
                store_rows=comparison.store_rows,
                mismatches=comparison.total,
            )
            problems += describe(feed, comparison, breaches, numbers)
    return results, problems


def describe(feed: FeedId, comparison: Comparison, breaches: int, numbers: Mapping[str, Any]) -> list[str]:
    """Sentences for all that is not as promised."""
    problems = [f"{feed}: {number} records differ: {cause}" for cause, number in comparison.mismatches.items()]
    if breaches:
        problems.append(f"{feed}: {breaches} requests were over the vendor's limit")
    outcomes = ("applied", "unchanged", "superseded", "held", "quarantined")
    if numbers["received"] != sum(numbers[outcome] for outcome in outcomes):
        problems.append(f"{feed}: conservation does not hold")
    return problems


async def feed_numbers(database: Database, feed: FeedId) -> dict[str, Any]:
    async with database.transaction() as conn:
        cursor = await conn.execute(SQL.feed_numbers, {"connection": feed.connection, "feed": feed.feed})
        row = await cursor.fetchone()
        assert row is not None
        assert cursor.description is not None
        return {column.name: value for column, value in zip(cursor.description, row, strict=True)}


def render(results: Mapping[FeedId, FeedResult], problems: list[str], seconds: float) -> None:
    console = Console(highlight=False)
    title = f"Synced and verified in {seconds} s" if not problems else f"NOT verified ({seconds} s)"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for feed in results:
        table.add_column(f"{feed.connection}\n{feed.feed}", justify="right")
    for field, label in LABELS.items():
        table.add_row(label, *(_shown(getattr(result, field)) for result in results.values()))
    console.print(table)
    for problem in problems:
        console.print(f"✗ {problem}", style="red")
    bin_dir = os.path.relpath(os.path.dirname(sys.executable))
    print(NEXT_STEPS.replace("BIN", bin_dir))


def _shown(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} s" if isinstance(value, float) else f"{value:,}"


LABELS = {
    "requests": "requests",
    "answers_429": "429s seen",
    "limit_breaches": "over the limit (vendor)",
    "pages": "pages",
    "received": "records received",
    "applied": "applied",
    "unchanged": "unchanged",
    "superseded": "superseded",
    "held": "held",
    "quarantined": "quarantined",
    "truth_rows": "rows at the vendor",
    "store_rows": "rows in the store",
    "mismatches": "mismatches",
    "lag_p95_s": "lag p95",
}

NEXT_STEPS = """
Go on:
  make dev                                  the Dagster UI on http://127.0.0.1:3000, on the same data
  psql "$(BIN/sync-pipeline database-url)" -c "select tier, payment_status, count(*)
      from registrations.registration where kind = 'attendee' group by 1, 2 order by 1, 2"
  BIN/sync-pipeline status
  BIN/sync-pipeline quarantine list
  BIN/sync-pipeline quarantine replay --dry-run"""
