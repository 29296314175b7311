"""Handing on: in order, at least once, with a key; outages wait, refusals are dead letters that can be replayed."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.resources import files

import orjson
import pytest

from sync_pipeline.handoff import deliver
from sync_pipeline.handoff.deliver import Handoff, HandoffReport, find_lost, revive
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import Target, check_page
from sync_pipeline.sessions.replay import Quarantine, QuarantineFilter
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import ThingContract, landed_page, rows, target, thing


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


async def test_numbers_are_handed_on_as_they_stand(ledger: Ledger, database: Database) -> None:
    """No float holds them, and no 64 bits."""
    payloads: list[bytes] = []

    class Noting(Receiver):
        async def hand_on(self, key: str, payload: bytes) -> None:
            payloads.append(payload)

    async with database.transaction() as conn:
        await conn.execute(
            "alter table canon.thing add amount numeric(30, 2) not null default '1234567890123456789.10',"
            """ add metadata jsonb not null default '{"reference": 1e20, "name": "Zoë"}'"""
        )
    await apply(ledger, database, thing("a"))
    assert (await Handoff(database, Noting()).deliver("shop")).handed == 1
    [payload] = payloads
    assert b'"amount": 1234567890123456789.10' in payload
    assert json.loads(payload, parse_float=Decimal) == {
        "connection": "shop", "feed": "things", "vendor_id": "a", "name": "n", "size": 1,
        "modified_at": "2026-01-01T00:00:00+00:00", "contract_version": "1",
        "amount": Decimal("1234567890123456789.10"), "metadata": {"reference": 10**20, "name": "Zoë"},
    }  # fmt: skip


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


LOSE = "delete from sync.handoff where vendor_id = any(%s) returning 1"
DEAD = "select vendor_id, status from sync.outbox order by id"


@pytest.mark.parametrize("then", ["applied", "handed on", "being handed on"])
async def test_what_happens_after_it_was_found_lost_saves_it(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    receiver = Slow()
    handoff = Handoff(database, receiver)
    receiver.go_on.set()
    await apply(ledger, database, thing("a"), thing("b"))
    await handoff.deliver("shop")
    await rows(database, LOSE, ["a", "b"])
    look = deliver._bury_lost
    under_way: list[asyncio.Task[HandoffReport]] = []

    async def saved(database: Database, target: Target, vendor_id: str) -> bool:
        if vendor_id == "b":
            return await look(database, target, vendor_id)
        await apply(ledger, database, thing("a", when=3, size=3))
        if then == "handed on":
            await handoff.deliver("shop")
        if then == "being handed on":
            receiver.sent.clear()
            receiver.go_on.clear()
            under_way.append(asyncio.create_task(handoff.deliver("shop")))
            await receiver.sent.wait()
        return await look(database, target, vendor_id)

    monkeypatch.setattr(deliver, "_bury_lost", saved)
    assert await find_lost(database, target(handoff=True)) == 1
    assert await rows(database, "select vendor_id, codes from sync.quarantine") == [("b", ["NO_EFFECT"])]
    receiver.go_on.set()
    await asyncio.gather(*under_way)
    await apply(ledger, database, thing("a", when=6, size=6))
    await handoff.deliver("shop")
    assert receiver.got[-1][1:] == ("a", 6), "nothing stands before it"
    assert await rows(database, DEAD) == [("b", "dead")]


async def test_only_the_version_that_is_lost_becomes_a_dead_letter(ledger: Ledger, database: Database) -> None:
    """A poll that is just writing another version of it is waited for."""
    await apply(ledger, database, thing("a"))
    await Handoff(database, Receiver()).deliver("shop")
    await rows(database, LOSE, ["a"])
    async with database.transaction() as conn:  # as a poll does it: row and outbox in one transaction
        await conn.execute("update canon.thing set size = 7, content_hash = 'x' returning 1")
        await conn.execute(
            "insert into sync.outbox (connection, feed, vendor_id, modified_at, content_hash, page_id, table_name)"
            " select connection, feed, vendor_id, modified_at, content_hash, page_id, 'canon.thing' from canon.thing"
        )
        looking = asyncio.create_task(find_lost(database, target(handoff=True)))
        await asyncio.sleep(0.3)
    assert await looking == 0
    assert await rows(database, DEAD) == [("a", "waiting")]


async def test_what_another_worker_is_at_is_left_to_the_next_look(ledger: Ledger, database: Database) -> None:
    await apply(ledger, database, thing("a"))
    await Handoff(database, Receiver()).deliver("shop")
    await rows(database, LOSE, ["a"])
    async with database.transaction() as conn:
        await conn.execute("select pg_advisory_xact_lock(hashtextextended('handoff:shop/things/a', 0))")
        assert await find_lost(database, target(handoff=True)) == 0
    assert await find_lost(database, target(handoff=True)) == 1


async def test_of_a_row_without_a_hash_nothing_is_said(ledger: Ledger, database: Database) -> None:
    """Stores have such rows from when a repair took the hash away first, and could not be finished."""
    await apply(ledger, database, thing("a"))
    await Handoff(database, Receiver()).deliver("shop")
    await rows(database, "update canon.thing set content_hash = '' returning 1")
    assert await find_lost(database, target(handoff=True)) == 0


GIVEN_UP = "select vendor_id, given_up, extract(epoch from modified_at - '2026-01-01')::integer from sync.handoff"


@pytest.mark.parametrize("waiting", [0, 2])
async def test_a_discarded_refusal_gives_up_that_version_only(ledger: Ledger, database: Database, waiting: int) -> None:
    """`waiting`: changes that stood in line behind the refused one."""
    receiver = Receiver(refuse="a")
    handoff, quarantine = Handoff(database, receiver), Quarantine(database, ledger)
    await apply(ledger, database, thing("a"))
    assert (await handoff.deliver("shop")).dead == 1
    for when in range(1, waiting + 1):
        await apply(ledger, database, thing("a", when=when, size=when))
    assert await quarantine.discard(QuarantineFilter(code="HANDOFF_REFUSED"), dry_run=True) == 1
    assert await rows(database, GIVEN_UP) == []
    assert await quarantine.discard(QuarantineFilter(code="HANDOFF_REFUSED")) == 1
    assert await rows(database, GIVEN_UP) == [("a", True, 0)]
    assert await find_lost(database, target(handoff=True)) == 0
    receiver.refuse = ""
    assert (await handoff.deliver("shop")).handed == (1 if waiting else 0)
    await apply(ledger, database, thing("a", when=9, size=9))
    assert (await handoff.deliver("shop")).handed == 1
    assert receiver.got[-1][1:] == ("a", 9)
    assert await rows(database, GIVEN_UP) == [("a", False, 9)]
    assert await find_lost(database, target(handoff=True)) == 0


async def test_a_discarded_registration_that_is_refused_again_is_a_dead_letter_again(
    ledger: Ledger, database: Database
) -> None:
    handoff, quarantine = Handoff(database, Receiver(refuse="a")), Quarantine(database, ledger)
    await apply(ledger, database, thing("a"))
    await handoff.deliver("shop")
    await quarantine.discard(QuarantineFilter(code="HANDOFF_REFUSED"))
    await apply(ledger, database, thing("a", when=5))
    assert (await handoff.deliver("shop")).dead == 1
    assert [row.times_seen for row in await quarantine.find(QuarantineFilter())] == [2]


async def test_only_the_chosen_dead_letters_are_revived(ledger: Ledger, database: Database) -> None:
    handoff = Handoff(database, Receiver(refuse="a"))
    await apply(ledger, database, thing("a"), thing("b"))
    await handoff.deliver("shop")
    await rows(database, "delete from sync.handoff returning 1")
    assert await find_lost(database, target(handoff=True)) == 1
    assert await revive(database, contract_version="pretix-1") == 0
    assert await revive(database, code="HANDOFF_REFUSED") == 1
    status = "select vendor_id, status from sync.quarantine order by 1"
    assert await rows(database, status) == [("a", "replayed"), ("b", "open")]
    assert await rows(database, "select vendor_id, status from sync.outbox order by 1") == [
        ("a", "waiting"),
        ("b", "dead"),
    ]


async def test_what_was_discarded_before_given_up_was_known_holds_up_nothing_more(
    ledger: Ledger, database: Database
) -> None:
    receiver = Receiver(refuse="a")
    handoff = Handoff(database, receiver)
    await apply(ledger, database, thing("a"))
    await handoff.deliver("shop")
    await apply(ledger, database, thing("a", when=5, size=7))
    await rows(database, "update sync.quarantine set status = 'discarded' returning 1")
    migration = files("sync_pipeline.store").joinpath("migrations", "0018_given_up.sql").read_text(encoding="utf-8")
    async with database.transaction() as conn:
        await conn.execute("alter table sync.handoff drop column given_up")
        await conn.execute(migration)
    receiver.refuse = ""
    assert (await handoff.deliver("shop")).handed == 1
    assert receiver.got == [(receiver.got[0][0], "a", 7)]


@dataclass
class Slow(Receiver):
    """Its first request is under way until it may `go_on`."""

    sent: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def hand_on(self, key: str, payload: bytes) -> None:
        if not self.sent.is_set():
            self.sent.set()
            await self.go_on.wait()
        await super().hand_on(key, payload)


async def test_an_older_version_never_arrives_after_a_newer_one(ledger: Ledger, database: Database) -> None:
    receiver = Slow()
    await apply(ledger, database, thing("a", size=1))
    first = asyncio.create_task(Handoff(database, receiver).deliver("shop"))
    await receiver.sent.wait()
    await apply(ledger, database, thing("a", when=1, size=2), thing("b"))
    beside = await Handoff(database, receiver).deliver("shop")
    assert beside.handed == 1, "the other one is left to who is at it"
    receiver.go_on.set()
    assert (await first).handed == 2
    assert [(name, size) for _, name, size in receiver.got] == [("b", 1), ("a", 1), ("a", 2)]
    assert await rows(database, "select count(*) from sync.outbox") == [(0,)]


async def test_what_came_before_it_was_sent_is_not_sent_again(ledger: Ledger, database: Database) -> None:
    """`a` is claimed together with `b`; while that is under way, `a` changes, or is handed on by another worker."""
    for handed_beside in (False, True):
        receiver = Slow()
        await apply(ledger, database, thing("b", when=handed_beside), thing("a", when=handed_beside))
        first = asyncio.create_task(Handoff(database, receiver).deliver("shop"))
        await receiver.sent.wait()
        await apply(ledger, database, thing("a", when=7 + handed_beside, size=7))
        if handed_beside:
            assert (await Handoff(database, receiver).deliver("shop")).handed == 1
        receiver.go_on.set()
        await first
        assert sorted((name, size) for _, name, size in receiver.got) == [("a", 7), ("b", 1)]
        assert await rows(database, "select count(*) from sync.outbox") == [(0,)]


async def test_a_receiver_that_never_answers_is_tried_again(
    ledger: Ledger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sync_pipeline.handoff.deliver.LONGEST_ANSWER_S", 0.01)
    await apply(ledger, database, thing("a"))
    report = await Handoff(database, Slow()).deliver("shop")
    assert (report.handed, report.dead, report.postponed) == (0, 0, True)
    assert await rows(database, "select status, attempts from sync.outbox") == [("waiting", 1)]


async def test_what_comes_back_under_one_stamp_has_a_key_of_its_own(ledger: Ledger, database: Database) -> None:
    """A, then B, then A again: a receiver that knew the third by the first's key would stay at B."""
    receiver = Receiver()
    handoff = Handoff(database, receiver)
    for size in (1, 2, 1):
        await apply(ledger, database, thing("a", size=size))
        assert (await handoff.deliver("shop")).handed == 1
    assert [size for _, _, size in receiver.got] == [1, 2, 1]
    assert len({key for key, _, _ in receiver.got}) == 3


async def test_what_comes_back_on_one_page_has_a_key_of_its_own(ledger: Ledger, database: Database) -> None:
    """A landed page derived again with another mapping, and with the first one again."""
    receiver = Receiver()
    handoff = Handoff(database, receiver)
    page = await landed_page(database, [thing("a")])
    for size in (1, 2, 1):
        again = check_page(page.page_id, [thing("a", size=size)], ThingContract())
        await ledger.apply(target(handoff=True), [again], count=False)
        assert (await handoff.deliver("shop")).handed == 1
    assert len({key for key, _, _ in receiver.got}) == 3


async def test_a_version_that_is_sent_again_keeps_its_key(ledger: Ledger, database: Database) -> None:
    """Sent, and not noted; once more after the same version was shown on another page."""
    keys: list[str] = []

    class Forgetful(Receiver):
        async def hand_on(self, key: str, payload: bytes) -> None:
            keys.append(key)
            if len(keys) < 3:
                raise TransientError("the answer broke off")

    handoff = Handoff(database, Forgetful())
    await apply(ledger, database, thing("a"))
    for _ in range(3):
        await handoff.deliver("shop")
        await apply(ledger, database, thing("a"))
        await rows(database, DUE)
    assert len(keys) == 3
    assert len(set(keys)) == 1


DUE = "with due as (update sync.outbox set next_attempt_at = now() where status = 'waiting') select 1"


@pytest.mark.parametrize("connections", [1, 3])
async def test_workers_share_what_waits(ledger: Ledger, database: Database, connections: int) -> None:
    receiver = Receiver()
    await apply(ledger, database, *(thing(f"t{number}") for number in range(30)))
    async with Database.open(database.url, max_size=connections) as pool:
        reports = await asyncio.gather(*(Handoff(pool, receiver).deliver("shop") for _ in range(4)))
    assert sum(report.handed for report in reports) == 30
    assert sorted(name for _, name, _ in receiver.got) == sorted(f"t{number}" for number in range(30))
    assert await rows(database, "select count(*) from sync.outbox") == [(0,)]
