"""A registration that is not taken waits alone; an outage lets all wait and buries none; what always fails becomes visible."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import orjson
import pytest

from sync_pipeline.handoff import deliver
from sync_pipeline.handoff.deliver import MOST_FAILURES, Handoff, revive
from sync_pipeline.kernel.errors import PermanentError, ReceiverAway, TransientError
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import landed_page, rows, target, thing

OUTBOX = "select vendor_id, attempts, failures, status from sync.outbox order by vendor_id, id"
LETTERS = "select vendor_id, codes, status from sync.quarantine"
WAITS = (
    "select vendor_id, round(extract(epoch from next_attempt_at - clock_timestamp()))::integer from sync.outbox"
    " where next_attempt_at > clock_timestamp() order by vendor_id"
)


@dataclass
class Receiver:
    """Fails on those in `poison`, or on all. `asked`: whom it was asked to take; `got`: whom it took, and their size."""

    poison: set[str] = field(default_factory=set)
    down: bool = False
    error: Exception = field(default_factory=lambda: TransientError("HTTP 500"))
    asked: list[str] = field(default_factory=list)
    got: list[tuple[str, int]] = field(default_factory=list)

    async def hand_on(self, key: str, payload: bytes) -> None:
        row = orjson.loads(payload)
        self.asked.append(row["vendor_id"])
        if self.down or row["vendor_id"] in self.poison:
            raise self.error
        self.got.append((row["vendor_id"], row["size"]))


@dataclass
class Shop:
    """Applies changes and hands them on."""

    ledger: Ledger
    database: Database
    receiver: Receiver

    async def applied(self, *names: str, when: float = 0, size: int = 1) -> None:
        page = await landed_page(self.database, [thing(name, when=when, size=size) for name in names])
        await self.ledger.apply(target(handoff=True), [page])

    async def due(self) -> None:
        async with self.database.transaction() as conn:
            await conn.execute("update sync.outbox set next_attempt_at = clock_timestamp()")

    async def turn(self, handoff: Handoff | None = None) -> deliver.HandoffReport:
        await self.due()
        return await (handoff or self.handoff()).deliver("shop")

    def handoff(self) -> Handoff:
        return Handoff(self.database, self.receiver)


@pytest.fixture
def shop(ledger: Ledger, database: Database) -> Shop:
    return Shop(ledger, database, Receiver())


@pytest.mark.parametrize("error", [TransientError("HTTP 500"), TransientError("HTTP 409"), TimeoutError()], ids=repr)
async def test_one_that_always_fails_holds_up_no_other(shop: Shop, error: Exception) -> None:
    shop.receiver.poison, shop.receiver.error = {"a"}, error
    await shop.applied("a", "b", "c")
    report = await shop.turn()
    assert (report.handed, report.dead, report.postponed) == (2, 0, True)
    assert shop.receiver.got == [("b", 1), ("c", 1)]
    shop.receiver.poison = set()
    assert (await shop.turn()).handed == 1
    assert await rows(shop.database, OUTBOX) == []


@pytest.mark.parametrize("same", [True, False], ids=["one worker", "each turn another worker"])
async def test_not_even_many_that_always_fail_hold_up_another(shop: Shop, same: bool) -> None:
    poison = {f"a{number}" for number in range(7)}
    shop.receiver.poison = set(poison)
    await shop.applied(*sorted(poison), "b", "c")
    handoff = shop.handoff()
    for _ in range(6):
        await shop.turn(handoff if same else None)
    assert {name for name, _ in shop.receiver.got} == {"b", "c"}
    await shop.applied("d")
    assert (await shop.turn(handoff if same else None)).handed == 1, "it is asked before those that fail"


async def test_its_pause_grows_and_is_its_own(shop: Shop) -> None:
    shop.receiver.poison = {"a"}
    await shop.applied("a")
    pauses = []
    for number in range(5):
        await shop.applied(f"b{number}")
        assert (await shop.turn()).handed == 1
        [(name, seconds)] = await rows(shop.database, WAITS)
        pauses.append((name, seconds))
    assert pauses == [("a", 2), ("a", 4), ("a", 8), ("a", 16), ("a", 32)]


async def test_a_later_version_waits_with_the_one_before_and_takes_its_place(shop: Shop) -> None:
    shop.receiver.poison = {"a"}
    await shop.applied("a", "b")
    await shop.turn()
    await shop.applied("a", when=1, size=2)
    shop.receiver.poison = set()
    assert (await shop.handoff().deliver("shop")).handed == 0, "not before its time"
    assert (await shop.turn()).handed == 1
    assert shop.receiver.got == [("b", 1), ("a", 2)]
    assert await rows(shop.database, OUTBOX) == []


async def test_several_that_fail_in_a_row_are_an_outage(shop: Shop) -> None:
    shop.receiver.down = True
    await shop.applied(*"abcdef")
    handoff = shop.handoff()
    assert (await handoff.deliver("shop")).postponed
    assert shop.receiver.asked == ["a", "b", "c"]
    assert len(await rows(shop.database, WAITS)) == 6
    await shop.turn(handoff)
    assert len(shop.receiver.asked) == 4, "one is enough to know that it lasts"
    shop.receiver.down = False
    assert (await shop.turn(handoff)).handed == 6


@pytest.mark.parametrize("waiting", [1, 2, 6])
async def test_however_long_an_outage_lasts_it_buries_none(shop: Shop, waiting: int) -> None:
    """Nor do the failures of that time count, when one fails by itself afterwards."""
    names = "abcdef"[:waiting]
    shop.receiver.down = True
    await shop.applied(*names)
    for _ in range(3 * MOST_FAILURES):
        await shop.turn()
    assert await rows(shop.database, LETTERS) == []
    shop.receiver.down, shop.receiver.poison = False, {"a"}
    for number in range(3):
        await shop.applied(f"z{number}")
        assert (await shop.turn()).dead == 0
    [(name, _, failures, status)] = await rows(shop.database, OUTBOX)
    assert (name, status) == ("a", "waiting")
    assert failures <= 3


async def test_what_the_receiver_says_of_itself_lets_all_wait_at_once(shop: Shop) -> None:
    shop.receiver.down = True
    shop.receiver.error = ReceiverAway("HTTP 503", retry_after=timedelta(seconds=90))
    await shop.applied(*"abc")
    assert (await shop.turn()).postponed
    assert shop.receiver.asked == ["a"]
    assert await rows(shop.database, WAITS) == [("a", 90), ("b", 90), ("c", 90)]
    for _ in range(2 * MOST_FAILURES):
        await shop.turn()
    assert await rows(shop.database, LETTERS) == []


async def test_no_receiver_stops_us_for_good(shop: Shop) -> None:
    shop.receiver.down = True
    shop.receiver.error = ReceiverAway("HTTP 503", retry_after=timedelta(days=400))
    await shop.applied("a")
    await shop.turn()
    assert await rows(shop.database, WAITS) == [("a", 3600)]


async def test_what_fails_on_and_on_while_others_are_taken_becomes_a_dead_letter(shop: Shop) -> None:
    shop.receiver.poison = {"a"}
    await shop.applied("a")
    for number in range(MOST_FAILURES):
        assert (await shop.turn()).dead == 0
        await shop.applied(f"b{number}")
        assert (await shop.handoff().deliver("shop")).handed == 1
    assert (await shop.turn()).dead == 1
    assert await rows(shop.database, LETTERS) == [("a", ["HANDOFF_REFUSED"], "open")]
    shop.receiver.poison = set()
    assert await revive(shop.database, code="HANDOFF_REFUSED") == 1
    assert await rows(shop.database, OUTBOX) == [("a", 0, 0, "waiting")]
    assert (await shop.turn()).handed == 1


async def test_a_refusal_shows_that_there_is_no_outage(shop: Shop) -> None:
    class Picky(Receiver):
        async def hand_on(self, key: str, payload: bytes) -> None:
            if orjson.loads(payload)["vendor_id"] == "c":
                raise PermanentError("HTTP 400")
            await super().hand_on(key, payload)

    shop.receiver = Picky(poison={"a", "b", "d", "e"})
    await shop.applied(*"abcdef")
    report = await shop.turn()
    assert (report.handed, report.dead) == (1, 1)
