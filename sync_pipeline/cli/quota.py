"""`sync-pipeline quota` and `breaker`: what each vendor's limit has left, and who is being spared."""

from __future__ import annotations

import re

from sync_pipeline.cli.choices import LONGEST_S
from sync_pipeline.cli.desk import join_desk
from sync_pipeline.cli.operate import console, emit, find_setup, select
from sync_pipeline.cli.places import working_database
from sync_pipeline.cli.tables import show_table
from sync_pipeline.gateway.breaker import is_credential
from sync_pipeline.gateway.breaker_store import by_hand
from sync_pipeline.kernel.clock import SystemClock, in_words
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.runtime import load_setups
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries
from sync_pipeline.telemetry.quota_audit import backfill_cost, feed_cost, quota_audit
from sync_pipeline.telemetry.quota_plan import Cost

SQL = queries(__package__ or "sync_pipeline.cli")


async def quota(*, hours: int, as_json: bool) -> None:
    url = working_database()
    join_desk(url)
    connections = [setup.connection for setup in load_setups().values()]
    async with Database.open(url) as database:
        audit = await quota_audit(database, connections, SystemClock().now(), hours=hours)
    if as_json:
        # A title for people says how far back; a script wants the same key whatever it asked for.
        tables = {"Calls" if rows is audit.use else title: rows for title, rows in audit.tables.items()}
        emit({"hours": audit.hours, **tables, "by_hour": audit.by_hour})
        return
    for title, rows in audit.tables.items():
        if rows or title == "Windows":
            show_table(console, title, rows)
    if not audit.tree:
        console.print("No call has been made yet.")


async def backfill(target: str, *, days: int, as_json: bool) -> None:
    url = working_database()
    join_desk(url)
    setup, feed = find_setup(target)
    if feed is None:
        raise ConfigurationError(f"name one feed of {target}: {', '.join(setup.feeds)}")
    source = setup.source(feed)
    async with Database.open(url) as database:
        cost = await backfill_cost(
            database,
            setup.connection,
            source.name,
            setup.feeds[source.name].contract.table,
            days=days,
            page_size=source.page_size,
            now=SystemClock().now(),
        )
    count = f"the last {days} days" if days > 1 else "the last day"
    note = f"in lane P3 {_span(cost)}; each of {', '.join(source.yields)} is listed by itself"
    _say(f"listing {count} of {target} again", cost, note, as_json=as_json)


def new_feed(connection: str, *, every: float, as_json: bool) -> None:
    setup = _connection(connection)
    cost = feed_cost(setup.connection, interval_s=every)
    _say(f"one more feed of {connection}, asked every {in_words(every)}", cost, "a day, in lane P2", as_json=as_json)


def _say(what: str, cost: Cost, note: str, *, as_json: bool) -> None:
    if as_json:
        takes = None if cost.takes is None else cost.takes.total_seconds()
        emit({"calls": cost.calls, "share_of_a_day": round(cost.share, 4), "seconds": takes})
        return
    calls = f"{cost.calls} calls" if cost.calls != 1 else "1 call"
    console.print(f"{what}: {calls} ({cost.share:.1%} of what the limit gives in a day), {note}")


def _span(cost: Cost) -> str:
    if cost.takes is None:
        return "never: nothing is left of the limit"
    return f"at least {in_words(cost.takes.total_seconds())}"


async def breakers(*, as_json: bool) -> None:
    async with Database.open(working_database()) as database:
        rows = await select(database, SQL.status_breakers)
    if as_json:
        emit({"breakers": rows})
    else:
        show_table(console, "Breakers not closed", rows)


async def move_breaker(connection: str, endpoint: str, *, seconds: float | None) -> None:
    """Open for that long, or close (None). Raises ConfigurationError for an endpoint that nobody asks."""
    setup = _connection(connection)
    async with Database.open(working_database()) as database:
        if seconds is not None and not is_credential(endpoint):
            await _refuse_unasked(database, setup, endpoint)
        changed = await by_hand(database, connection, endpoint, seconds=seconds)
    if seconds is not None:
        console.print(f"{connection} {endpoint}: open for {in_words(seconds)}; then one probe is sent")
    elif changed:
        console.print(f"{connection} {endpoint}: closed")
    else:
        console.print(f"{connection} {endpoint}: was not open; `sync-pipeline breaker list` shows which are")


def _connection(name: str) -> Setup:
    """Raises ConfigurationError, also for a feed: what is asked for here is of a connection as a whole."""
    setup, _ = find_setup(name)
    if name != setup.connection.name:
        raise ConfigurationError(
            f"{name!r} is no connection; write {setup.connection.name}, which stands for all its feeds"
        )
    return setup


async def _refuse_unasked(database: Database, setup: Setup, endpoint: str) -> None:
    """A breaker of an endpoint that nobody asks would spare nothing. Raises ConfigurationError."""
    connection = setup.connection.name
    rows = await select(database, SQL.known_endpoints, {"connection": connection})
    known = {row["endpoint"] for row in rows} | setup.connection.endpoints
    if endpoint not in known:
        raise ConfigurationError(
            f"{connection} has never asked an endpoint {endpoint!r}, so that no call would be spared; known are: "
            f"{', '.join(sorted(known))}, and `credential`"
        )


def duration(text: str) -> float:
    """`90s`, `30m`, `2h`, `1d` in seconds; more than nothing, ten years at most. Raises ConfigurationError."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)([smhd])", text)
    seconds = float(found[1]) * units[found[2]] if found else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise ConfigurationError(f"{text!r} is no length of time; write 90s, 30m, 2h or 1d")
    return seconds
