"""The promises, checked on the store itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from sync_pipeline.landing.objects import ObjectStore
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


@dataclass(frozen=True, slots=True)
class Finding:
    """`number` of rows break the promise; 0 when it holds."""

    name: str
    promise: str
    number: int
    remedy: str


CHECKS = (
    (
        "conservation",
        "every page's records are all accounted for",
        "stop the sessions and report this: it cannot happen without a defect",
    ),
    (
        "pages_waiting",
        "every landed page is applied",
        "the next session applies them; run `sync-pipeline sync <connection>`",
    ),
    (
        "pages_given_up",
        "what was on each page that was given up has been listed again",
        "the resync that gave them up goes on: run `sync-pipeline sync <connection>`",
    ),
    (
        "rows_without_page",
        "every canonical row comes from a landed page",
        "someone wrote to the table or pruned pages: run `sync-pipeline resync <feed> --from <instant>`",
    ),
    (
        "held_and_applied",
        "no record is held and applied at the same version",
        "run `sync-pipeline resync <feed> --from <instant>`",
    ),
    (
        "newer_in_quarantine",
        "no row is older than a version of it that is in quarantine",
        "the table keeps the last valid version: correct the record at the vendor (or the mapping, then `sync-pipeline "
        "quarantine replay`); `sync-pipeline quarantine list` names them, `quarantine discard` accepts the row as it is",
    ),
)


async def verify_store(database: Database, objects: ObjectStore, *, deep: bool = False) -> list[Finding]:
    """Check every promise that SQL can see; `deep` also reads every landed page and checks its hash."""
    findings: list[Finding] = []
    async with database.transaction() as conn:
        for name, promise, remedy in CHECKS:
            row = await (await conn.execute(getattr(SQL, name))).fetchone()
            assert row is not None
            findings.append(Finding(name, promise, row[0], remedy))
        keys = [row[0] for row in await (await conn.execute(SQL.object_keys)).fetchall()] if deep else []
    if deep:
        bad = 0
        for key in keys:
            try:
                await asyncio.to_thread(objects.get, key)
            except (LookupError, ValueError):
                bad += 1
        findings.append(
            Finding("pages_unreadable", "every landed page is as it was", bad, "restore the object store's backup")
        )
    return findings
