"""Rows that are not what the vendor shows now, because its newer version is in quarantine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sync_pipeline.ledger.checked import Target
from sync_pipeline.ledger.compare import NEWER_IN_QUARANTINE, Difference
from sync_pipeline.reconcile.unstamped import SQL, select
from sync_pipeline.store.database import Database


async def newer_in_quarantine(
    database: Database, target: Target, *, start: datetime, end: datetime, shown: Sequence[str], everywhere: bool
) -> list[Difference]:
    """Rows whose newer version failed its contract and is open: the table keeps the last valid one.

    Of those modified in [start, end), and of those whose rejected version the listing has `shown`; or of all, `everywhere`.
    """
    found = await select(
        database,
        target.contract.table,
        SQL.newer_in_quarantine,
        {
            "connection": target.feed.connection,
            "feed": target.feed.feed,
            "start": start,
            "end": end,
            "shown": list(shown),
            "everywhere": everywhere,
        },
    )
    return [Difference(vendor_id, NEWER_IN_QUARANTINE, modified_at) for vendor_id, modified_at in found]
