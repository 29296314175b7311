"""The simulated vendors that a demo or `dev` runs, found by commands in other terminals.

What the checks tell a developer to type has to ask the same vendors as the sensors do. So whoever runs a simulator says where
in a file beside the data, for as long as it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import orjson
import psycopg

from sync_pipeline.cli.places import enter, simulated_vendors
from sync_pipeline.landing.owners import is_gone, this_process
from sync_pipeline.store.embedded import data_dir
from sync_pipeline.store.sql import queries

SQL = queries(__package__ or "sync_pipeline.cli")
FILE = "desk.json"
PATIENCE_S = 3.0
SIMULATED = ("eventbrite", "pretix")


@dataclass(frozen=True, slots=True)
class Desk:
    """`world`: when the demo's world in the working database began, which another database has not. `owner`: who runs it."""

    url: str
    world: str
    owner: str


@contextlib.contextmanager
def at_desk(simulator: str, database_url: str) -> Iterator[None]:
    """While the block runs, commands on this data folder and database ask this simulator."""
    desk = Desk(simulator, world_of(database_url) or "", this_process(uuid.uuid4().hex))
    file = data_dir() / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(orjson.dumps(asdict(desk)))
    unfinished.replace(file)
    try:
        yield
    finally:
        if _read(file) == desk:  # not that of one which was started since
            file.unlink(missing_ok=True)


def join_desk(database_url: str, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Point this process at the simulator of the desk that runs here, if one does, and say so on stderr; returns what was
    set. A connection whose SYNC_<CONNECTION>_BASE_URL is set is left as it is."""
    desk = _read(data_dir(env) / FILE)
    if desk is None or is_gone(desk.owner) or desk.world != world_of(database_url) or not _answers(desk.url):
        return {}
    elsewhere = [name.upper() for name in SIMULATED if env.get(f"SYNC_{name.upper()}_BASE_URL", "").strip()]
    settings = {
        name: value
        for name, value in simulated_vendors(desk.url).items()
        if not any(connection in name for connection in elsewhere)
    }
    if settings:
        enter(settings)
        print(f"Asking the simulated vendors that run on this data: {desk.url}", file=sys.stderr)
    return settings


def world_of(database_url: str) -> str | None:
    """When the demo's world in the database began; None where there is none."""
    with psycopg.connect(database_url) as conn:
        row = conn.execute(SQL.demo_world).fetchone()
    return None if row is None else str(row[2].timestamp())


def _read(file: Path) -> Desk | None:
    try:
        return Desk(**orjson.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _answers(simulator: str) -> bool:
    try:
        return httpx.get(f"{simulator}/_sim/health", timeout=PATIENCE_S).status_code == 200
    except httpx.HTTPError:
        return False
