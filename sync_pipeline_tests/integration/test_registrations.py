"""What the contracts call valid, Postgres takes: awkward text, negative money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sync_pipeline.contracts import load_contract
from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.feed import FeedId, RawRecord
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import Target
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import landed_page, rows

ORDER: dict[str, Any] = {
    "event": "conf", "status": "p", "email": "a@example.com", "datetime": "2026-01-01T00:00:00Z",
    "last_modified": "2026-01-01T00:00:00Z",
}  # fmt: skip


async def test_free_text_and_negative_money_are_stored_as_they_are(database: Database) -> None:
    contract = load_contract(
        "sync_pipeline.contracts.pretix:OrderContract", options={}, connection="p", vendor="pretix"
    )
    awkward = [chr(code) for code in range(1, 0xA0)] + ["\\u0000", "C:\\u0041\\u00dir", "\\\\", "\ufffe", "\U0010ffff"]
    records = [
        RawRecord({**ORDER, "code": f"C{n}", "comment": text, "total": f"-{n}.50"}) for n, text in enumerate(awkward)
    ]
    feed = FeedId("shop", "orders")
    page = await landed_page(database, records, contract, "orders")  # type: ignore[arg-type]
    done = await Ledger(database).apply(Target(feed, contract), [page])
    assert done.counts[0] == Counts(len(awkward), applied=len(awkward))
    found = await rows(database, "select order_id, amount, metadata ->> 'comment' from registrations.registration")
    assert {row[0]: row[1:] for row in found} == {
        f"conf/C{n}": (Decimal(f"-{n}.5"), text) for n, text in enumerate(awkward)
    }
