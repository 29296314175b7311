"""The store compared with a simulator's ground truth, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.store.database import Database

STORE_ROWS = """
select vendor_id, payment_status, modified_at, email from registrations.registration
where connection = %(connection)s and feed = %(feed)s
"""
QUARANTINED = """
select vendor_id from sync.quarantine
where connection = %(connection)s and feed = %(feed)s and status = 'open' and vendor_id is not null
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """`mismatches` counts by cause; causes name no record."""

    feed: FeedId
    truth_rows: int
    store_rows: int
    mismatches: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.mismatches.values())


class NoTruth(ConfigurationError):
    """A simulator answers, and has no such feed."""


async def reach(simulator: str) -> None:
    """Raises ConfigurationError when no simulator answers there."""
    status, told = await _ask(simulator, "health")
    if status != 200 or "seed" not in told:
        raise _no_simulator(simulator, f"HTTP {status}")


async def _ask(simulator: str, what: str) -> tuple[int, Mapping[str, Any]]:
    """(status, what was told). Raises ConfigurationError."""
    try:
        async with httpx.AsyncClient(base_url=simulator, timeout=60) as client:
            answer = await client.get(f"/_sim/{what}")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _no_simulator(simulator, type(error).__name__) from None
    try:
        told = answer.json()
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise _no_simulator(simulator, f"HTTP {answer.status_code}")
    return answer.status_code, told


def _no_simulator(simulator: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"no simulator answers at {simulator} ({why}); nothing was compared. `make dev` prints the URL of the one it runs"
    )


async def compare(database: Database, simulator: str, feed: FeedId) -> Comparison:
    """Every well-formed record the simulated vendor shows must be in the store, equal; nothing else may be.

    Raises NoTruth where the simulator has no such feed, ConfigurationError when none answers.
    """
    status, told = await _ask(simulator, f"truth/{feed.connection}/{feed.feed}")
    if status == 404:
        raise NoTruth(f"{feed}: the simulator at {simulator} has no such feed")
    if status != 200:
        raise _no_simulator(simulator, f"HTTP {status}")
    truth: list[dict[str, Any]] = told["rows"]
    names = {"connection": feed.connection, "feed": feed.feed}
    async with database.transaction() as conn:
        store = {row[0]: row[1:] for row in await (await conn.execute(STORE_ROWS, names)).fetchall()}
        quarantined = {row[0] for row in await (await conn.execute(QUARANTINED, names)).fetchall()}
    wanted = {str(row["id"]): row for row in truth if row["visible"] and not row["malformed"] and not row["deleted"]}
    known = {str(row["id"]) for row in truth}
    found: dict[str, int] = {}

    def note(cause: str) -> None:
        found[cause] = found.get(cause, 0) + 1

    for vendor_id, row in wanted.items():
        stored = store.get(vendor_id)
        if stored is None:
            note("quarantined_though_valid" if vendor_id in quarantined else "missing_in_store")
            continue
        status, modified_at, email = stored
        if modified_at != datetime.fromisoformat(row["modified_at"]):
            note("stale_in_store")
        elif status != row["payment_status"]:
            note("payment_status")
        elif row.get("email") and email != row["email"].strip().lower():
            note("email")
    for vendor_id in store:
        if vendor_id not in known:
            note("unknown_to_vendor")
    return Comparison(feed, len(wanted), sum(1 for vendor_id in store if vendor_id in wanted), found)
