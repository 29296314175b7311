"""Handing on: in order, at least once, with a key; outages wait, refusals are dead letters that can be replayed."""

from __future__ import annotations

from dataclasses import dataclass, field

import orjson
import pytest

from sync_pipeline.handoff.deliver import Handoff, find_lost, revive
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import create_things, landed_page, rows, target, thing


@dataclass
class Receiver:
    """Notes what it is handed; refuses or fails on request."""

    got: list[tuple[str, str, int]] = field(default_factory=list)
    refuse: str = ""
    down: bool = False

    async def hand_on(self, key: str, payload: bytes) -> None:
        row = orjson.loads(payload)
        if self.down:
            raise TransientError("receiver is down")
        if row["vendor_id"] == self.refuse:
            raise PermanentError("refused")
        self.got.append((key, row["vendor_id"], row["size"]))


@pytest.fixture
async def ledger(database: Database) -> Ledger:
    await create_things(database)
    return Ledger(database)


async def apply(ledger: Ledger, database: Database, *records: object) -> None:
    page = await landed_page(database, records)  # type: ignore[arg-type]
    await ledger.apply(target(handoff=True), [page])


async def test_changes_are_handed_on_once_in_order(ledger: Ledger, database: Database) -> None:
    receiver = Receiver()
    handoff = Handoff(database, receiver)
    await apply(ledger, database, thing("a"), thing("b"))
    assert (await handoff.deliver("shop")).handed == 2
    await apply(ledger, database, thing("a"), thing("b", when=1, size=2))
    await apply(ledger, database, thing("b", when=2, size=3))
    assert (await handoff.deliver("shop")).handed == 1
    assert [(name, size) for _, name, size in receiver.got] == [("a", 1), ("b", 1), ("b", 3)]
    assert len({key for key, _, _ in receiver.got}) == 3
    assert await rows(database, "select count(*) from sync.outbox") == [(0,)]


async def test_an_outage_keeps_rows_waiting(ledger: Ledger, database: Database) -> None:
    receiver = Receiver(down=True)
    handoff = Handoff(database, receiver)
    await apply(ledger, database, thing("a"), thing("b"))
    report = await handoff.deliver("shop")
    assert (report.handed, report.dead, report.postponed) == (0, 0, True)
    assert await rows(database, "select count(*) from sync.quarantine") == [(0,)]
    receiver.down = False
    assert (await handoff.deliver("shop")).handed == 0, "not before its time"
    await rows(database, "update sync.outbox set next_attempt_at = now() returning 1")
    assert (await handoff.deliver("shop")).handed == 2


async def test_a_refusal_is_a_dead_letter_that_can_be_replayed(ledger: Ledger, database: Database) -> None:
    receiver = Receiver(refuse="a")
    handoff = Handoff(database, receiver)
    await apply(ledger, database, thing("a"), thing("b"))
    report = await handoff.deliver("shop")
    assert (report.handed, report.dead) == (1, 1)
    assert await rows(database, "select kind, codes from sync.quarantine") == [("dead_letter", ["HANDOFF_REFUSED"])]
    await apply(ledger, database, thing("a", when=5, size=7))
    assert (await handoff.deliver("shop")).handed == 0, "an entity keeps its order behind its dead change"
    receiver.refuse = ""
    assert await revive(database, connection="shop") == 1
    assert (await handoff.deliver("shop")).handed == 1
    assert receiver.got[-1][1:] == ("a", 7)


async def test_an_applied_record_without_effect_is_found(ledger: Ledger, database: Database) -> None:
    receiver = Receiver()
    handoff = Handoff(database, receiver)
    await apply(ledger, database, thing("a"), thing("b"))
    await handoff.deliver("shop")
    assert await find_lost(database, target(handoff=True)) == 0
    await rows(database, "delete from sync.handoff where vendor_id = 'b' returning 1")
    assert await find_lost(database, target(handoff=True)) == 1
    assert await rows(database, "select vendor_id, codes from sync.quarantine") == [("b", ["NO_EFFECT"])]
    assert await find_lost(database, target(handoff=True)) == 0
    assert await revive(database, feed="things") == 1
    assert (await handoff.deliver("shop")).handed == 1
    assert await find_lost(database, target(handoff=True)) == 0
