"""The desk of a developer or an evaluator: simulator and Dagster UI together, on the demo's data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from rich.console import Console

from sync_pipeline.cli.demo import change_vendors, claim_database, simulated_world
from sync_pipeline.cli.desk import at_desk
from sync_pipeline.cli.places import PROJECT, dagster_home, enter, simulated_vendors, working_database
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.simulator.server import ListenError, Running, running
from sync_pipeline.simulator.tape import TapeError
from sync_pipeline.store.database import Database
from sync_pipeline.store.embedded import data_dir
from sync_pipeline.store.sql import queries

SQL = queries(__package__ or "sync_pipeline.cli")
CHANGES_PER_MINUTE = 30
GRACE_S = 15.0
JOURNAL = "simulator.jsonl"
"""Beside the data: what happened in the world that the data came from, so that it does not roll back between two starts."""


@dataclass(frozen=True, slots=True)
class World:
    """The simulated world that the working database was filled from."""

    seed: int
    orders: int | None
    start: datetime
    burst_at: datetime | None


def run_dev(*, port: int, simulator_port: int, seed: int) -> int:
    """Run until interrupted; returns the exit code of the UI."""
    console = Console(stderr=True, highlight=False)
    url = working_database()
    world = asyncio.run(known_world(url))
    if world is None:
        world = World(seed, None, asyncio.run(claim_database(url, seed, None)), None)
    with simulated(world, simulator_port, journal=data_dir() / JOURNAL) as simulator:
        enter({**simulated_vendors(simulator.url), **dagster_home(url)})
        console.print(f"Simulated vendors: {simulator.url} (they change {CHANGES_PER_MINUTE} records a minute)")
        console.print(f"Dagster UI:        http://127.0.0.1:{port}  (Ctrl-C stops both)")
        command = [_dg(), "dev", "--host", "127.0.0.1", "--port", str(port)]
        with at_desk(simulator.url, url):
            return run_until_told(command)


def run_until_told(command: list[str]) -> int:
    """Run the UI in a group of its own and end the whole group on Ctrl-C or SIGTERM: its daemons and code servers do not
    end with their parent."""

    def told(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, told)
    process = subprocess.Popen(command, cwd=PROJECT, env=dict(os.environ), start_new_session=True)
    try:
        return process.wait()
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)
        try:
            return process.wait(timeout=GRACE_S)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            return -signal.SIGKILL
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


async def known_world(url: str) -> World | None:
    """The demo's world, or None when no demo has run here."""
    async with Database.open(url) as database, database.transaction() as conn:
        row = await (await conn.execute(SQL.demo_world)).fetchone()
    return None if row is None else World(*row)


@contextlib.contextmanager
def simulated(world: World, port: int, *, journal: Path) -> Iterator[Running]:
    """The demo's world as it was left, at the present. Raises ConfigurationError where its journal does not fit, or its port
    cannot be had."""
    options = simulated_world(
        seed=world.seed, start=world.start, orders=world.orders, changes_per_minute=CHANGES_PER_MINUTE
    )
    with contextlib.ExitStack() as stack:
        try:
            simulator = stack.enter_context(running(replace(options, journal=journal), port=port))
        except TapeError as error:
            raise ConfigurationError(f"the simulated world cannot start again: {error}") from None
        except ListenError as error:
            raise ConfigurationError(f"{error}; choose another with --simulator-port") from None
        catch_up(simulator.url, world)
        yield simulator


def catch_up(simulator: str, world: World) -> None:
    """Bring a world that starts to the present: its burst where the demo made it, unless its journal has it, its clock to
    ours."""
    with httpx.Client(base_url=simulator, timeout=60) as control:
        if world.burst_at is not None and not control.get("/_sim/log").json()["changes"]:
            _go_on_to(control, world.burst_at + timedelta(seconds=1))
            change_vendors(control)
        _go_on_to(control, datetime.now(UTC))


def _go_on_to(control: httpx.Client, moment: datetime) -> None:
    now = datetime.fromisoformat(control.get("/_sim/health").json()["now"])
    ahead = (moment - now).total_seconds()
    if ahead > 0:
        control.post("/_sim/advance", json={"seconds": ahead}).raise_for_status()


def _dg() -> str:
    beside = Path(sys.executable).parent / "dg"
    found = str(beside) if beside.exists() else shutil.which("dg")
    if found is None:
        raise ConfigurationError("the `dg` command is not installed beside this Python; run `make dev` once")
    return found
