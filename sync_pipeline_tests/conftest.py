"""One embedded server for the whole test run; a fresh, migrated database for each test that asks."""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg import sql

from sync_pipeline.store.database import Database
from sync_pipeline.store.embedded import Embedded
from sync_pipeline.store.migrate import migrate

TEMPLATE = "sync_template"

# How long an example takes says how busy the machine is. New examples are looked for by people; a run that decides whether
# a change lands takes the same ones each time.
hypothesis.settings.register_profile("here", deadline=None, derandomize=bool(os.environ.get("CI")))
hypothesis.settings.load_profile("here")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """The server shared by all workers of this run. The last one out stops it."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    base = Path(tempfile.gettempdir()) / f"sync-tests-{run[:12]}"
    base.mkdir(mode=0o755, exist_ok=True)
    with _counted(base, +1):
        embedded = Embedded(base / "postgres")
        if not embedded.answers(TEMPLATE):
            migrate(embedded.ensure(TEMPLATE))
    yield embedded
    with _counted(base, -1) as left:
        if left == 0:
            embedded.stop()


class _counted:
    """A count of users in a locked file, changed by `step`; the block runs under the lock."""

    def __init__(self, base: Path, step: int) -> None:
        self._path = base / "users"
        self._step = step

    def __enter__(self) -> int:
        self._file = self._path.open("a+")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.seek(0)
        users = int(self._file.read() or "0") + self._step
        self._file.truncate(0)
        self._file.write(str(users))
        self._file.flush()
        return users

    def __exit__(self, *exc: object) -> None:
        self._file.close()


@contextmanager
def fresh_database(server: Embedded) -> Iterator[str]:
    """The URL of a migrated database of its own, dropped at the end."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
    yield server.url(name)
    with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(server: Embedded) -> Iterator[str]:
    with fresh_database(server) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database.open(database_url) as opened:
        yield opened
