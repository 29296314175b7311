"""The commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime
from typing import Annotated

import typer

from sync_pipeline.cli.choices import LAST_PORT, LONGEST_S, Kind, Status
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.simulator.options import PORT as SIMULATOR_PORT

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps your own Postgres copy of vendor data true, inside the vendor's quota.",
)
quarantine_app = typer.Typer(no_args_is_help=True, help="Records that failed their contract, and dead letters.")
app.add_typer(quarantine_app, name="quarantine")
quota_app = typer.Typer(help="What each vendor's limit has left, who used it, and what more work would cost.")
app.add_typer(quota_app, name="quota")
breaker_app = typer.Typer(no_args_is_help=True, help="Endpoints and credentials that are spared because of failures.")
app.add_typer(breaker_app, name="breaker")


def _number(value: float) -> float:
    """A bound lets `nan` pass: it is neither below nor above."""
    if math.isnan(value):
        raise typer.BadParameter("nan is no number")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object (the last line).")]
Feed = Annotated[str | None, typer.Option(help="Only this feed, written connection/feed.")]
Code = Annotated[str | None, typer.Option(help="Only rejections with this error code.")]
Key = Annotated[list[str] | None, typer.Option(help="Only this key (may be repeated).")]
ContractVersion = Annotated[str | None, typer.Option(help="Only rejections by this contract version.")]
MaxSeconds = Annotated[
    float,
    typer.Option(
        min=0, max=LONGEST_S, callback=_number, help="Longest time to poll, in seconds; a page is always asked for."
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen; change nothing.")]


@app.command()
def demo(
    as_json: Json = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated vendors' world.")] = 7,
    orders: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Orders per vendor (default: the simulator's).")
    ] = None,
) -> None:
    """Sync two simulated vendors through Dagster, change them, sync again, reconcile and verify."""
    from sync_pipeline.cli.demo import run_demo

    raise typer.Exit(0 if run_demo(seed=seed, orders=orders, as_json=as_json) else 1)


@app.command()
def dev(
    port: Annotated[int, typer.Option(min=1, max=LAST_PORT, help="Port of the Dagster UI.")] = 3000,
    simulator_port: Annotated[int, typer.Option(min=1, max=LAST_PORT, help="Port of the simulator.")] = SIMULATOR_PORT,
    seed: Annotated[int, typer.Option(help="Seed of the simulated vendors' world.")] = 7,
) -> None:
    """Run the simulator and the Dagster UI, sensors on, on the demo's data."""
    from sync_pipeline.cli.dev import run_dev

    raise typer.Exit(run_dev(port=port, simulator_port=simulator_port, seed=seed))


@app.command()
def simulator(
    port: Annotated[int, typer.Option(min=1, max=LAST_PORT, help="Port on 127.0.0.1.")] = SIMULATOR_PORT,
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 7,
) -> None:
    """Serve the simulated vendors on localhost."""
    from sync_pipeline.simulator.options import SimulatorOptions
    from sync_pipeline.simulator.server import ListenError, serve

    try:
        serve("127.0.0.1", port, SimulatorOptions(seed=seed))
    except ListenError as error:
        raise ConfigurationError(f"{error}; choose another with --port") from None


@app.command()
def sync(
    target: Annotated[str, typer.Argument(help="connection, or connection/feed.")],
    max_seconds: MaxSeconds = 300,
    max_calls: Annotated[int | None, typer.Option(min=1, help="Most vendor calls to make.")] = None,
    keep_polling: Annotated[bool, typer.Option(help="Go on after the horizon is reached.")] = False,
    as_json: Json = False,
) -> None:
    """Poll a connection until its feeds stand at their horizon; exit code 3 where the bounds came first."""
    from sync_pipeline.cli import operate
    from sync_pipeline.kernel.loop import run_worker

    session = operate.sync(
        target, max_seconds=max_seconds, max_calls=max_calls, until_horizon=not keep_polling, as_json=as_json
    )
    raise typer.Exit(run_worker(session))


@app.command()
def status(as_json: Json = False) -> None:
    """Feeds, cursors, lag, quota left, breaker and quarantine depth."""
    from sync_pipeline.cli import operate

    asyncio.run(operate.status(as_json=as_json))


@app.command()
def resync(
    feed: Annotated[str, typer.Argument(help="connection/feed.")],
    start: Annotated[str, typer.Option("--from", help="Instant to start again from (ISO 8601), or `beginning`.")],
    max_seconds: MaxSeconds = 900,
    no_sync: Annotated[bool, typer.Option("--no-sync", help="Only move the cursor; the sensor does the rest.")] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Also move forward, and do without what was not listed yet.")
    ] = False,
) -> None:
    """Move a feed's cursor back, poll from there, and print what differed."""
    from sync_pipeline.cli import operate

    moved = operate.resync(feed, since=_instant(start), skip=skip, max_seconds=max_seconds, poll=not no_sync)
    raise typer.Exit(asyncio.run(moved))


@app.command()
def enrol(
    connection: Annotated[str, typer.Argument(help="Connection whose auth is a `grant`.")],
    lifetime_s: Annotated[float, typer.Option(help="Seconds for which an access token given with it is good.")] = 0,
) -> None:
    """Authorise a connection: store the refresh token that the vendor gave you (asked for, or read from a pipe)."""
    from sync_pipeline.cli import enrolment

    asyncio.run(enrolment.enrol(connection, lifetime_s=lifetime_s))


@app.command()
def verify(
    as_json: Json = False,
    deep: Annotated[bool, typer.Option(help="Also read every landed page and check its hash.")] = False,
    truth: Annotated[str | None, typer.Option(help="URL of a simulator to compare the store with.")] = None,
) -> None:
    """Check conservation, landed pages and canonical rows; with --truth, compare with a simulator."""
    from sync_pipeline.cli import operate

    raise typer.Exit(0 if asyncio.run(operate.verify(as_json=as_json, deep=deep, truth_url=truth)) else 1)


@app.command("database-url")
def print_database_url() -> None:
    """Print the URL that psql accepts (starts the embedded server if needed)."""
    from sync_pipeline.cli.places import working_database

    print(working_database())


@app.command("env")
def print_environment() -> None:
    """Print what `dg` and `dagster` need, for `eval "$(sync-pipeline env)"` (starts the embedded server if needed)."""
    import shlex

    from sync_pipeline.cli.desk import join_desk
    from sync_pipeline.cli.places import dagster_home, working_database

    url = working_database()
    for name, value in {**dagster_home(url), **join_desk(url)}.items():
        print(f"export {name}={shlex.quote(value)}")


@app.command()
def stop() -> None:
    """Stop the embedded Postgres."""
    from sync_pipeline.store.embedded import Embedded, data_dir

    if (data_dir() / "postgres").exists():
        Embedded(data_dir() / "postgres").stop()


@quota_app.callback(invoke_without_command=True)
def quota(
    context: typer.Context,
    hours: Annotated[int, typer.Option(min=1, max=87_600, help="How far back.")] = 24,
    as_json: Json = False,
) -> None:
    """What is left, by window; who used it, by lane and feed; others on the same key; who waits; how long answers take."""
    from sync_pipeline.cli import quota as room

    if context.invoked_subcommand is None:
        asyncio.run(room.quota(hours=hours, as_json=as_json))


@quota_app.command("backfill")
def quota_backfill(
    feed: Annotated[str, typer.Argument(help="connection/feed.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days to list again.")] = 30,
    as_json: Json = False,
) -> None:
    """What listing the last days again would cost."""
    from sync_pipeline.cli import quota as room

    asyncio.run(room.backfill(feed, days=days, as_json=as_json))


@quota_app.command("new-feed")
def quota_new_feed(
    connection: Annotated[str, typer.Argument(help="Connection.")],
    every: Annotated[str, typer.Option(help="How often it is asked: 30s, 5m, 1h.")] = "30s",
    as_json: Json = False,
) -> None:
    """What one more feed of a connection would cost."""
    from sync_pipeline.cli import quota as room

    room.new_feed(connection, every=room.duration(every), as_json=as_json)


@breaker_app.command("list")
def breaker_list(as_json: Json = False) -> None:
    """Breakers that are not closed, and when each is tried next."""
    from sync_pipeline.cli import quota as room

    asyncio.run(room.breakers(as_json=as_json))


Endpoint = Annotated[str, typer.Argument(help="Endpoint template, as `breaker list` shows it, or `credential`.")]


@breaker_app.command("open")
def breaker_open(
    connection: Annotated[str, typer.Argument(help="Connection.")],
    endpoint: Endpoint,
    length: Annotated[str, typer.Option("--for", help="How long: 30m, 2h.")] = "1h",
) -> None:
    """Spare an endpoint: no call is made until the time is over; then one probe decides."""
    from sync_pipeline.cli import quota as room

    asyncio.run(room.move_breaker(connection, endpoint, seconds=room.duration(length)))


@breaker_app.command("close")
def breaker_close(connection: Annotated[str, typer.Argument(help="Connection.")], endpoint: Endpoint) -> None:
    """Ask again at once."""
    from sync_pipeline.cli import quota as room

    asyncio.run(room.move_breaker(connection, endpoint, seconds=None))


@quarantine_app.command("list")
def quarantine_list(
    feed: Feed = None,
    code: Code = None,
    contract_version: ContractVersion = None,
    status: Annotated[Status, typer.Option(help="Only rejections that are that, or `all`.")] = Status.OPEN,
    kind: Annotated[Kind | None, typer.Option(help="Only rejected records, or only dead letters.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="Most rows.")] = 100,
    as_json: Json = False,
) -> None:
    """List rejections: keys, vendor ids, codes and paths; never other values."""
    from sync_pipeline.cli import quarantine as room

    chosen = room.chosen(feed, code, contract_version, status=status, kind=kind, limit=limit)
    asyncio.run(room.show_list(chosen, as_json=as_json))


@quarantine_app.command("show")
def quarantine_show(
    key: Annotated[str, typer.Argument(help="Key, as listed.")],
    payload: Annotated[bool, typer.Option(help="Also print the raw record (personal data!).")] = False,
) -> None:
    """Show one rejection; with --payload also the record as the vendor sent it."""
    from sync_pipeline.cli import quarantine as room

    asyncio.run(room.show_one(key, payload=payload))


@quarantine_app.command("replay")
def quarantine_replay(
    feed: Feed = None,
    code: Code = None,
    contract_version: ContractVersion = None,
    key: Key = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Put rejections through today's contract, without asking the vendor."""
    from sync_pipeline.cli import quarantine as room

    chosen = room.chosen(feed, code, contract_version, keys=key)
    asyncio.run(room.replay(chosen, dry_run=dry_run, as_json=as_json))


@quarantine_app.command("discard")
def quarantine_discard(
    feed: Feed = None,
    code: Code = None,
    contract_version: ContractVersion = None,
    key: Key = None,
    dry_run: DryRun = False,
) -> None:
    """Close rejections that nobody will want; they reopen if the vendor changes the record."""
    from sync_pipeline.cli import quarantine as room

    if not (feed or code or contract_version or key):
        raise ConfigurationError("quarantine discard needs a filter (--feed, --code, --contract-version or --key)")
    chosen = room.chosen(feed, code, contract_version, keys=key)
    asyncio.run(room.discard(chosen, dry_run=dry_run))


def _instant(text: str) -> datetime | None:
    from sync_pipeline.contracts.fields import EARLIEST

    if text == "beginning":
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--from {text!r} is not an instant; write it like 2026-01-31T00:00:00Z, or `beginning`"
        ) from None
    instant = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    if instant < EARLIEST:
        raise ConfigurationError(
            f"--from {text!r} is before {EARLIEST.year}, and no vendor has changes from then; write a later instant, or "
            "`beginning`"
        )
    if instant > datetime.now(UTC):
        raise ConfigurationError(
            f"--from {text!r} is not over yet: the feed would see no change before then; write an instant of the past, or "
            "`beginning`"
        )
    return instant.astimezone(UTC)
