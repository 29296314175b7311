"""Personal values reach the landing area, the canonical tables and quarantine, and nothing else."""

from __future__ import annotations

import psycopg
from psycopg import sql

from sync_pipeline_tests.acceptance.conftest import Workplace

ALLOWED = {"registrations.registration", "sync.quarantine", "sync.held"}
SECRETS = ("sim-eventbrite-token", "sim-pretix-token")
CANARY = "zyxcanary"


def test_canaries_and_secrets_stay_where_they_belong(workplace: Workplace) -> None:
    workplace.control("faults", {"rates": {"malformed": 0.2, "http_503": 0.05, "reset": 0.05, "html": 0.05}})
    said = ""
    for connection in ("eventbrite", "pretix"):
        done = workplace.run("sync", connection, SYNC_LOG_LEVEL="DEBUG")
        said += done.stdout + done.stderr
    for arguments in (["status"], ["quarantine", "list"], ["quarantine", "replay", "--dry-run"], ["verify"]):
        done = workplace.run(*arguments)
        said += done.stdout + done.stderr
    assert CANARY not in said.lower()
    assert not any(secret in said for secret in SECRETS)
    found = tables_with(workplace, CANARY)
    assert "registrations.registration" in found, "the canary must be seeded for this test to prove anything"
    assert found <= ALLOWED
    for secret in SECRETS:
        assert tables_with(workplace, secret) == set()


def tables_with(workplace: Workplace, text: str) -> set[str]:
    found = set()
    with psycopg.connect(workplace.url) as conn:
        tables = conn.execute(
            "select table_schema, table_name from information_schema.tables "
            "where table_schema not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        for schema, name in tables:
            query = sql.SQL(
                "select 1 from {} t where strpos(lower(t::text), %(text)s) > 0 or strpos(t::text, %(hex)s) > 0 limit 1"
            )
            row = conn.execute(
                query.format(sql.Identifier(schema, name)), {"text": text.lower(), "hex": text.encode().hex()}
            ).fetchone()
            if row is not None:
                found.add(f"{schema}.{name}")
    return found
