"""A store as it was before one migration."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

import sync_pipeline.store.migrate as migration
from sync_pipeline.store.embedded import Embedded

FOLDER = Path(migration.__file__).parent / "migrations"


@contextmanager
def store_before(server: Embedded, new: str) -> Iterator[str]:
    """The URL of a database with every migration before `new`."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    url = server.ensure(name)
    files = {path.name: path.read_text() for path in FOLDER.glob("*.sql") if path.name < new}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(migration, "_files", lambda: files)
        migration.migrate(url)
    yield url
    with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
