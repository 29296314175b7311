"""What the engine says while it works: places, counts, codes and keys."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from sync_pipeline.kernel.feed import Cursor
from sync_pipeline.ledger.apply import Ledger, quarantine_key
from sync_pipeline.sessions.walk import _place
from sync_pipeline.store.database import Database
from sync_pipeline_tests.log_setting import Kept, keeping
from sync_pipeline_tests.things import START, create_things, landed_page, target, thing


@pytest.fixture
def kept() -> Iterator[Kept]:
    with keeping("sync_pipeline.ledger.apply", logging.DEBUG) as handler:
        yield handler


async def test_rejections_are_told_by_code_and_key(database: Database, kept: Kept) -> None:
    await create_things(database)
    page = await landed_page(database, [thing("a"), thing("planted-1", size="x"), thing("planted-2", size="x")])
    await Ledger(database).apply(target(), [page])
    summary, *each = kept.events
    assert summary["event"] == "records quarantined"
    assert summary["rejection_reason"] == {"BAD_SIZE": 2}
    assert summary["quarantined"] == 2
    assert [event["idempotency_key"] for event in each] == [
        quarantine_key(target().feed, rejection) for rejection in page.rejected
    ]
    assert all(event["rejection_reason"] == ["BAD_SIZE"] for event in each)
    assert "planted" not in "".join(kept.texts)


async def test_an_applied_page_without_rejections_says_nothing(database: Database, kept: Kept) -> None:
    await create_things(database)
    await Ledger(database).apply(target(), [await landed_page(database, [thing("a")])])
    assert kept.events == []


def test_a_place_never_holds_the_vendors_token() -> None:
    cursor = Cursor(watermark=START, opened_at=START, part=2, position=40, token="planted", last_key="planted", pages=3)
    assert _place(cursor) == f"watermark {START.isoformat()}, part 2, position 40, page 3"
    assert _place(Cursor()) == "watermark none, window closed"
