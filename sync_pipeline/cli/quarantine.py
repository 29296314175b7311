"""`sync-pipeline quarantine`: rejected records listed, shown, put through today's contract again, or discarded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, replace

from sync_pipeline.cli.choices import Kind, Status
from sync_pipeline.cli.operate import console, emit, select
from sync_pipeline.cli.places import working_database
from sync_pipeline.cli.tables import show_table
from sync_pipeline.handoff.deliver import HANDOFF_CODES, revive
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.runtime import Runtime, load_setups, open_runtime
from sync_pipeline.sessions.replay import QuarantineFilter
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.sql import queries
from sync_pipeline.telemetry.known import refuse_unknown_feed

SQL = queries(__package__ or "sync_pipeline.cli")
EVERYTHING = 1_000_000


def chosen(
    feed: str | None,
    code: str | None,
    contract_version: str | None,
    *,
    keys: Sequence[str] | None = None,
    status: Status = Status.OPEN,
    kind: Kind | None = None,
    limit: int = EVERYTHING,
) -> QuarantineFilter:
    """The filter that the options make. Raises ConfigurationError for a feed that is not written like one."""
    connection, slash, name = (feed or "").partition("/")
    if feed is not None and (not connection or "/" in name or (slash and not name)):
        raise ConfigurationError(
            f"--feed {feed!r} is no feed; write connection/feed, or a connection for all of its feeds"
        )
    return QuarantineFilter(
        connection=connection or None,
        feed=name or None,
        code=code,
        contract_version=contract_version,
        keys=tuple(keys) if keys else None,
        status=None if status is Status.ALL else status.value,
        kind=kind.value if kind else None,
        limit=limit,
    )


async def show_list(chosen: QuarantineFilter, *, as_json: bool) -> None:
    async with open_runtime(url=working_database()) as runtime:
        await _refuse_unknown(runtime, chosen)
        found = await runtime.quarantine.find(chosen)
        total = max(len(found), sum((await _counted(runtime, chosen)).values()))
    rows = [
        {
            "key": row.key,
            "feed": str(row.feed),
            "vendor_id": row.vendor_id,
            "older_in_table": row.older_in_table,
            "kind": row.kind,
            "codes": list(row.codes),
            "paths": sorted({problem.path for problem in row.problems}),
            "status": row.status,
            "times_seen": row.times_seen,
            "attempts": row.attempts,
            "contract_version": row.contract_version,
            "first_seen": row.first_seen,
        }
        for row in found
    ]
    if as_json:
        emit({"quarantine": rows, "total": total})
        return
    show_table(console, "Quarantine", rows)
    if len(rows) < total:
        console.print(f"{len(rows)} of {total} shown; --limit for more")


async def show_one(key: str, *, payload: bool) -> None:
    async with open_runtime(url=working_database()) as runtime:
        found = await runtime.quarantine.find(QuarantineFilter(keys=(key,), status=None))
        if not found:
            raise ConfigurationError(_no_row(key))
        raw = await runtime.quarantine.raw(key)
    row = found[0]
    console.print(
        f"{row.feed}  {row.kind}  {row.status}\n"
        f"vendor id      {row.vendor_id or '(unreadable)'}\n"
        f"in the table   {'an older version' if row.older_in_table else 'no older version'}\n"
        f"page           {row.page_id}\n"
        f"contract       {row.contract_version}\n"
        f"seen           {row.times_seen} times, {row.first_seen:%Y-%m-%d %H:%M:%SZ} to "
        f"{row.last_seen:%Y-%m-%d %H:%M:%SZ}\n"
        f"size           {len(raw or b'')} bytes"
    )
    for problem in row.problems:
        console.print(f"  {problem.code:24} {problem.path or '(the record)'}")
    if payload and raw is not None:
        print(raw.decode("utf-8", "replace"))


async def replay(chosen: QuarantineFilter, *, dry_run: bool, as_json: bool) -> None:
    tried = passing = 0
    failing: dict[str, int] = {}
    setups = load_setups()
    async with open_runtime(url=working_database()) as runtime:
        await _refuse_unknown(runtime, chosen)
        counted = await _counted(runtime, replace(chosen, kind=Kind.QUARANTINE.value))
        gone = {feed: number for feed, number in counted.items() if not _described(setups, feed)}
        for setup in setups.values():
            one = await _without(runtime, chosen, {feed for feed in gone if feed.connection == setup.connection.name})
            report = await runtime.quarantine.replay(setup, one, dry_run=dry_run)
            tried += report.tried
            passing += report.passing
            for code, number in report.failing.items():
                failing[code] = failing.get(code, 0) + number
        if chosen.code in (None, *HANDOFF_CODES):
            revived = await _revived(runtime, chosen, dry_run=dry_run)
            tried, passing = tried + revived, passing + revived
    left = {str(feed): number for feed, number in gone.items()}
    if as_json:
        emit({"tried": tried, "passing": passing, "failing": failing, "dry_run": dry_run, "not_in_yaml": left})
        return
    verb = "would pass" if dry_run else "passed and were applied"
    console.print(f"{passing} of {tried} records {verb}")
    for feed, number in left.items():
        console.print(
            f"{feed}: {number} were not tried: the feed is no longer in the YAML, so no contract can judge them"
        )
    show_table(
        console, "Still failing", [{"code": code, "records": number} for code, number in sorted(failing.items())]
    )


async def discard(chosen: QuarantineFilter, *, dry_run: bool) -> None:
    async with open_runtime(url=working_database()) as runtime:
        await _refuse_unknown(runtime, chosen)
        number = await runtime.quarantine.discard(chosen, dry_run=dry_run)
    console.print(f"{number} rejections {'would be' if dry_run else 'were'} discarded")


async def _refuse_unknown(runtime: Runtime, chosen: QuarantineFilter) -> None:
    """Refuse a feed that neither the YAML nor the store knows, and a key that the store does not have. Raises
    ConfigurationError."""
    described = [FeedId(name, feed) for name, setup in load_setups().items() for feed in setup.feeds]
    await refuse_unknown_feed(runtime.database, described, connection=chosen.connection, feed=chosen.feed)
    if chosen.keys:
        rows = await select(runtime.database, SQL.quarantine_keys, {"keys": list(chosen.keys)})
        missing = set(chosen.keys) - {row["key"] for row in rows}
        if missing:
            raise ConfigurationError(_no_row(sorted(missing)[0]))


async def _revived(runtime: Runtime, chosen: QuarantineFilter, *, dry_run: bool) -> int:
    """How many dead letters of the handoff wait to be handed on again, or would."""
    return await revive(
        runtime.database,
        connection=chosen.connection,
        feed=chosen.feed,
        code=chosen.code,
        contract_version=chosen.contract_version,
        keys=chosen.keys,
        dry_run=dry_run,
    )


def _no_row(key: str) -> str:
    return f"there is no quarantine row {key}; `quarantine list --status all` shows all keys"


async def _counted(runtime: Runtime, chosen: QuarantineFilter) -> dict[FeedId, int]:
    """How many rows are chosen, by feed and whatever the limit."""
    parameters = {**asdict(chosen), "keys": list(chosen.keys) if chosen.keys else None}
    rows = await select(runtime.database, SQL.quarantine_count, parameters)
    return {FeedId(row["connection"], row["feed"]): row["number"] for row in rows}


def _described(setups: Mapping[str, Setup], feed: FeedId) -> bool:
    return feed.connection in setups and feed.feed in setups[feed.connection].feeds


async def _without(runtime: Runtime, chosen: QuarantineFilter, gone: Set[FeedId]) -> QuarantineFilter:
    """What is chosen, less the rows of some feeds: by key, since a filter has no other way to leave out."""
    if not gone:
        return chosen
    return replace(chosen, keys=tuple(row.key for row in await runtime.quarantine.find(chosen) if row.feed not in gone))
