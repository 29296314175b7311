"""Records that only the store has: a list that ends with its days does not show what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sync_pipeline.kernel.feed import Connection, PageRead, Unstamped
from sync_pipeline.ledger.checked import CheckedPage, Target, check_page
from sync_pipeline.ledger.compare import Difference
from sync_pipeline.reconcile.relist import ask, relist
from sync_pipeline.reconcile.unstamped import SQL, select
from sync_pipeline.sessions.effects import Sender
from sync_pipeline.store.database import Database

ASKED_AT_ONCE = 100
"""Records asked for one by one. For more the list is walked on, fifty records a request."""


def ids_of(page: CheckedPage) -> set[str]:
    """What a page shows, valid or not."""
    rejected = {one.vendor_id for one in page.rejected if one.vendor_id is not None}
    return rejected.union(record.vendor_id for record in page.valid)


async def standing_before(
    database: Database, target: Target, absent: Sequence[Difference], began: datetime
) -> list[Difference]:
    """Those of `absent` whose rows stood before the listing `began`, by the database's clock.

    What a poll beside it has applied since then, the vendor may have made after the page that should have shown it.
    """
    if not absent:
        return []
    ids = [one.vendor_id for one in absent]
    parameters = {"connection": target.feed.connection, "feed": target.feed.feed, "ids": ids, "began": began}
    stood = {
        vendor_id for (vendor_id,) in await select(database, target.contract.table, SQL.applied_before, parameters)
    }
    return [one for one in absent if one.vendor_id in stood]


async def still_absent(
    database: Database,
    connection: Connection,
    source: str,
    target: Target,
    gateway: Sender,
    absent: Sequence[Difference],
    *,
    end: datetime,
    now: datetime,
    correlation_id: str,
) -> list[Difference]:
    """Those of `absent` that the vendor does not show anywhere, whatever their stamp. `end`: how far the list was walked.

    Each is asked for by its order; what the settings leave out by now (an event) is none of them. Where the order is shown
    without it, it may stand in another one by now: then, and when they are many, the list is walked on to its end.
    """
    feed = connection.feeds[source]
    if not absent or not isinstance(feed, Unstamped):
        return list(absent)

    def shown(read: PageRead) -> set[str]:
        return ids_of(check_page(0, read.records.get(target.feed.feed, ()), target.contract))

    ids = [one.vendor_id for one in absent]
    parameters = {"connection": target.feed.connection, "feed": target.feed.feed, "ids": ids}
    orders: dict[str, set[str]] = {}
    for vendor_id, order in await select(database, target.contract.table, SQL.orders_of, parameters):
        orders.setdefault(order, set()).add(vendor_id)
    questions = [(feed.again(order), wanted) for order, wanted in orders.items()]
    asked = [(question, wanted) for question, wanted in questions if question is not None]
    missing = set[str]().union(*(wanted for _, wanted in asked))
    walk_on = len(asked) > ASKED_AT_ONCE
    for (cursor, request), wanted in () if walk_on else asked:
        _, read = await ask(feed, gateway, request, cursor, correlation_id)
        found = shown(read)
        missing -= found
        walk_on = walk_on or bool(read.records.get(source) and wanted - found)
    if walk_on and missing:
        async for _, _, read in relist(feed, gateway, since=end, now=now, correlation_id=correlation_id):
            missing -= shown(read)
    return [one for one in absent if one.vendor_id in missing]
