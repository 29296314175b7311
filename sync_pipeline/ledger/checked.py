"""Pages after their contract, and where their records go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sync_pipeline.kernel.canonical import Canonical, Contract, Rejection
from sync_pipeline.kernel.feed import FeedId, RawRecord
from sync_pipeline.ledger.newest import Shown


@dataclass(frozen=True, slots=True)
class CheckedPage:
    """A landed page after its contract: each record is in exactly one of the two lists."""

    page_id: int
    valid: Sequence[Canonical]
    rejected: Sequence[Rejection]
    mended: frozenset[str] = frozenset()
    """Ids of rejected records that the page shows again further on, valid."""

    @property
    def received(self) -> int:
        return len(self.valid) + len(self.rejected)

    @property
    def shown(self) -> Shown:
        return self.page_id, self.valid


@dataclass(frozen=True, slots=True)
class Target:
    """Where a feed's records go. `handoff`: applied changes also go to the outbox."""

    feed: FeedId
    contract: Contract
    handoff: bool = False
    handoff_feeds: tuple[str, ...] = ()
    """Feeds of the connection that hand off, for children this feed's rows release."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A row of a canonical table as it was looked at: exactly this one, and none that replaces it."""

    vendor_id: str
    modified_at: datetime
    page_id: int
    content_hash: bytes


def check_page(page_id: int, records: Sequence[RawRecord], contract: Contract) -> CheckedPage:
    """Run the contract over a page's records."""
    outcomes = contract.check(records)
    valid = [outcome for outcome in outcomes if type(outcome) is Canonical]
    if len(valid) == len(outcomes):
        return CheckedPage(page_id, valid, ())
    rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    # The two lists do not say in which order the page showed a record of both.
    last = {outcome.vendor_id: outcome for outcome in outcomes}
    names = {one.vendor_id for one in rejected if one.vendor_id is not None}
    return CheckedPage(page_id, valid, rejected, frozenset(name for name in names if isinstance(last[name], Canonical)))
