"""Fixtures of more than one file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.store.database import Database
from sync_pipeline.store.embedded import Embedded
from sync_pipeline_tests.conftest import fresh_database
from sync_pipeline_tests.integration.cli_setting import Terminal
from sync_pipeline_tests.integration.dagster_setting import Desk, at_desk
from sync_pipeline_tests.integration.gateway_setting import Vendor
from sync_pipeline_tests.integration.pretix_setting import Pretix, opened
from sync_pipeline_tests.integration.quota_setting import Tree
from sync_pipeline_tests.integration.simulator_setting import Setting
from sync_pipeline_tests.things import create_things


@pytest.fixture(scope="module")
def tree(server: Embedded) -> Iterator[Tree]:
    with fresh_database(server) as url, psycopg.connect(url, autocommit=True) as conn:
        yield Tree(conn)


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    async with Vendor().serving() as serving:
        yield serving


@pytest.fixture
def small_pretix(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of an installation whose pretix allows little; its database's URL."""
    for name, value in {
        "DATABASE_URL": database_url,
        "SYNC_DATA_DIR": str(tmp_path),
        "SYNC_PRETIX_LIMITS": "100/60,5000/86400",
    }.items():
        monkeypatch.setenv(name, value)
    return database_url


@pytest.fixture
def terminal(small_pretix: str) -> Terminal:
    return Terminal(small_pretix)


@pytest.fixture
def desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with at_desk(database_url, tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
async def pretix(world: Setting, database_url: str, tmp_path: Path) -> AsyncIterator[Pretix]:
    """The engine on the file's own `world`."""
    async with opened(world, database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    """On the tables of `things`."""
    await create_things(database)
    return Ledger(database)
