"""Rejections closed while a poll brings later versions of the same records: those were neither tried nor looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from sync_pipeline.handoff.deliver import Handoff, revive
from sync_pipeline.kernel.errors import PermanentError
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.sessions.replay import Quarantine, QuarantineFilter, QuarantineRow
from sync_pipeline.sessions.setup import FeedSetup, Setup
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import ThingContract, landed_page, rows, target, thing

Meanwhile = Callable[[], Awaitable[None]]


class Interrupted(Ledger):
    """`meanwhile` happens before anything is applied."""

    def __init__(self, database: Database, meanwhile: Meanwhile) -> None:
        super().__init__(database)
        self._meanwhile = meanwhile

    async def apply(self, *args: Any, **more: Any) -> Any:
        await self._meanwhile()
        return await super().apply(*args, **more)


class Looked(Quarantine):
    """`meanwhile` happens after the operator's choice is looked up."""

    def __init__(self, database: Database, ledger: Ledger, meanwhile: Meanwhile) -> None:
        super().__init__(database, ledger)
        self._meanwhile = meanwhile

    async def find(self, chosen: QuarantineFilter) -> list[QuarantineRow]:
        found = await super().find(chosen)
        await self._meanwhile()
        return found


class OneFeed:
    """As much of a Setup as a replay asks for."""

    def __init__(self, contract: ThingContract) -> None:
        self.feeds = {"things": FeedSetup(contract, cast(Any, None))}
        self.connection = type("Named", (), {"name": "shop"})()
        self._contract = contract

    def target(self, feed: str) -> Any:
        return target(self._contract, feed)


async def rejected(ledger: Ledger, database: Database, size: Any, *, when: float) -> None:
    contract = ThingContract(smallest=10)
    await ledger.apply(target(contract), [await landed_page(database, [thing("x", when=when, size=size)], contract)])


OPEN = """select status, codes, attempts, position('"at":2' in convert_from(raw, 'UTF8')) > 0 from sync.quarantine"""


@pytest.mark.parametrize(("smallest", "stored"), [(0, [("x", 5)]), (7, [])])
async def test_a_replay_closes_no_rejection_that_it_has_not_tried(
    ledger: Ledger, database: Database, smallest: int, stored: list[tuple[str, int]]
) -> None:
    """The version that is tried passes today's contract, or fails it."""
    await rejected(ledger, database, 5, when=1)

    async def poll() -> None:
        await rejected(ledger, database, "bad", when=2)

    quarantine = Quarantine(database, Interrupted(database, poll))
    await quarantine.replay(cast(Setup, OneFeed(ThingContract(version="2", smallest=smallest))), QuarantineFilter())
    assert await rows(database, "select vendor_id, size from canon.thing") == stored
    assert await rows(database, OPEN) == [("open", ["BAD_SIZE"], 0, True)]
    assert await rows(database, "select contract_version from sync.quarantine") == [("1",)]


async def test_what_was_rejected_after_the_operator_had_looked_is_not_discarded(
    ledger: Ledger, database: Database
) -> None:
    await rejected(ledger, database, 5, when=1)

    async def poll() -> None:
        await rejected(ledger, database, "bad", when=2)

    assert await Looked(database, ledger, poll).discard(QuarantineFilter()) == 0
    assert await rows(database, OPEN) == [("open", ["BAD_SIZE"], 0, True)]
    assert await Quarantine(database, ledger).discard(QuarantineFilter()) == 1


class Refusing:
    async def hand_on(self, key: str, payload: bytes) -> None:
        raise PermanentError("refused")


async def test_a_version_that_the_receiver_refused_later_is_not_given_up(ledger: Ledger, database: Database) -> None:
    handoff = Handoff(database, Refusing())

    async def refused(when: float) -> None:
        await ledger.apply(target(handoff=True), [await landed_page(database, [thing("a", when=when)])])
        await handoff.deliver("shop")

    async def meanwhile() -> None:
        await revive(database, connection="shop")
        await refused(2)

    await refused(1)
    assert await Looked(database, ledger, meanwhile).discard(QuarantineFilter()) == 0
    assert await rows(database, "select status from sync.quarantine") == [("open",)]
    assert await rows(database, "select count(*) from sync.handoff") == [(0,)]
