"""Migrations: numbered SQL files, each applied once, in order, by one process at a time.

All that a version brings are one transaction: when one of them fails, the database is still the older version's, which goes
on working with it.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

import psycopg

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.store.database import unreachable

LOCK = 0x53594E43
"""Advisory lock key of the migrator."""

CREATE = """
create schema if not exists sync_schema;
create table if not exists sync_schema.migration (
  name text primary key, sha256 text not null, applied_at timestamptz not null default clock_timestamp())
"""


def migrate(url: str) -> list[str]:
    """Apply what is not applied yet; returns the names applied.

    Raises ConfigurationError when the database is unreachable, newer than this code, or was made by other files.
    """
    try:
        conn = psycopg.connect(url, autocommit=True, connect_timeout=10)
    except psycopg.Error as error:  # a URL that cannot be read is quoted, password and all, in a ProgrammingError
        raise unreachable(url, error) from None
    with conn:
        conn.execute("select pg_advisory_lock(%s)", (LOCK,))
        try:
            conn.execute(CREATE)
            return _apply(conn)
        finally:
            conn.execute("select pg_advisory_unlock(%s)", (LOCK,))


def _apply(conn: psycopg.Connection[tuple[object, ...]]) -> list[str]:
    done = {str(name): str(digest) for name, digest in conn.execute("select name, sha256 from sync_schema.migration")}
    ours = _files()
    strange = sorted(done.keys() - ours.keys())
    if strange:
        raise ConfigurationError(
            f"the database has migration {strange[-1]}, which this version of sync-pipeline does not know; "
            "install the version that made it, or a newer one"
        )
    digests = {name: hashlib.sha256(ours[name].encode()).hexdigest() for name in sorted(ours)}
    for name, digest in done.items():
        if digests[name] != digest:
            raise ConfigurationError(
                f"migration {name} was changed after this database applied it; restore the file, or start from an "
                "empty database"
            )
    missing = [name for name in digests if name not in done]
    if missing:
        with conn.transaction():
            for name in missing:
                conn.execute(ours[name])
                conn.execute("insert into sync_schema.migration (name, sha256) values (%s, %s)", (name, digests[name]))
    return missing


def _files() -> dict[str, str]:
    folder = files("sync_pipeline.store").joinpath("migrations")
    return {entry.name: entry.read_text(encoding="utf-8") for entry in folder.iterdir() if entry.name.endswith(".sql")}
