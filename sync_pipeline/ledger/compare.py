"""What the vendor shows beside what the store holds: differences, column by column, without writing either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from sync_pipeline.ledger.checked import CheckedPage, StoredVersion, Target
from sync_pipeline.ledger.copying import copy_to_stage
from sync_pipeline.ledger.newest import newest_of
from sync_pipeline.ledger.statements import SQL, Statements
from sync_pipeline.store.database import Database

NEWER_IN_QUARANTINE = "newer_in_quarantine"
OLDER_AT_VENDOR = "older_at_vendor"


@dataclass(frozen=True, slots=True)
class Difference:
    """One record that differs. `page` is the id of the checked page that showed it (None: only the store has it).

    causes: missing_in_store, stale_in_store (the vendor's is newer), altered_in_store (same version, other values: someone
    wrote to the table), changed_unstamped (same stamp, but the vendor itself shows other values than before),
    missing_at_vendor, older_at_vendor (other values under an older stamp, which never replace the row: the vendor was restored
    from a backup, or its clock corrected), newer_in_quarantine (the vendor's newer version is invalid: the row is the last
    valid one).
    """

    vendor_id: str
    cause: str
    modified_at: datetime
    page: int | None = None
    stored: StoredVersion | None = field(default=None, compare=False)
    """The row that it was compared with."""

    @property
    def day(self) -> date:
        return self.modified_at.astimezone(UTC).date()


class Comparer:
    """Compares checked pages with a canonical table."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def differences(self, target: Target, pages: Sequence[CheckedPage], *, began: datetime) -> list[Difference]:
        """Valid records of `pages` that the store lacks, or holds in an older or another form. `began`: when the listing did, by
        the database's clock."""
        if not any(page.valid for page in pages):
            return []
        statements = Statements.of(target)
        async with self._db.transaction() as conn:
            await conn.execute(statements.create)
            await copy_to_stage(conn, statements, newest_of([page.shown for page in pages]).standing)
            found = await conn.execute(statements.compare, {**statements.parameters, "began": began})
            return [_difference(*row) for row in await found.fetchall()]

    async def unseen(self, target: Target, *, start: datetime, end: datetime, seen: Sequence[str]) -> list[Difference]:
        """Records the store says were modified in [start, end) that a complete listing did not show."""
        statements = Statements.of(target)
        async with self._db.transaction() as conn:
            found = await conn.execute(
                statements.unseen, {**statements.parameters, "start": start, "end": end, "seen": list(seen)}
            )
            return [Difference(row[0], "missing_at_vendor", row[1]) for row in await found.fetchall()]

    async def record(
        self,
        target: Target,
        deltas: Sequence[tuple[Difference, str, bool]],
        *,
        start: date,
        end: date,
        also: Sequence[date] = (),
        everywhere: Sequence[str] = (),
    ) -> None:
        """Keep deltas (difference, action, verified); earlier open ones of [start, end), of the days `also` and of the causes
        `everywhere` that are gone are settled.

        One that is open already stays the row it is, found when it was: it is seen again, or closed when it is verified.
        """
        names: dict[str, Any] = {"connection": target.feed.connection, "feed": target.feed.feed}
        still = [difference for difference, _, verified in deltas if not verified]
        async with self._db.transaction() as conn:
            for difference, action, verified in deltas:
                await conn.execute(
                    SQL.verified_delta if verified else SQL.open_delta,
                    {
                        **names,
                        "day": difference.day,
                        "vendor_id": difference.vendor_id,
                        "cause": difference.cause,
                        "action": action,
                    },
                )
            # Last: settled first, what is verified now would be a row that is closed already.
            await conn.execute(
                SQL.settle_deltas,
                {
                    **names,
                    "start": start,
                    "end": end,
                    "also": list(also),
                    "everywhere": list(everywhere),
                    "still": [difference.vendor_id for difference in still],
                    "causes": [difference.cause for difference in still],
                },
            )


def _difference(
    vendor_id: str,
    page: int,
    modified_at: datetime,
    cause: str,
    stored_at: datetime | None,
    stored_page: int | None,
    content_hash: bytes | None,
) -> Difference:
    """Of a row of `compare_stage`."""
    stored = None
    if stored_at is not None and stored_page is not None and content_hash is not None:
        stored = StoredVersion(vendor_id, stored_at, stored_page, content_hash)
    return Difference(vendor_id, cause, modified_at, page, stored)
