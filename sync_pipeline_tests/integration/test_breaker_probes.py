"""One probe at a time, for as long as it lives; and what it finds is its own to say."""

from __future__ import annotations

import asyncio
import time

import pytest

from sync_pipeline.gateway.breaker import CREDENTIAL_COOL_DOWN_S, FIRST_COOL_DOWN_S, THRESHOLD, Outcome, Timing
from sync_pipeline.gateway.breaker_store import Breakers
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import rows

CREDENTIAL = "credential a"


def worker(name: str, database: Database, timing: Timing | None = None) -> Breakers:
    return Breakers(
        "shop",
        name,
        database=database,
        clock=SystemClock(),
        monotonic=time.monotonic,
        timing=timing or Timing(),
    )


async def opened(database: Database, scope: str = "/x", cool_down_s: float = 5) -> None:
    """Its cool-down is over."""
    await rows(
        database,
        "insert into sync.breaker (connection, scope, state, failures, opened_at, retry_at, cool_down_s, reason) values"
        f" ('shop', '{scope}', 'open', 8, now(), now(), {cool_down_s}, 'x') returning 1",
    )


async def test_a_probe_that_outlasts_its_lease_stays_the_only_one(database: Database) -> None:
    timing = Timing.scaled(0.01)
    await opened(database)
    inside = most = 0

    async def probe(breakers: Breakers) -> None:
        nonlocal inside, most
        async with breakers.admitted("/x", CREDENTIAL):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(2.5 * timing.probe_s)
            inside -= 1

    await asyncio.gather(*(probe(worker(str(number), database, timing)) for number in range(3)))
    assert most == 1


async def test_a_probe_whose_worker_is_gone_is_replaced(database: Database) -> None:
    timing = Timing.scaled(0.01)
    await opened(database)
    entered = asyncio.Event()
    gone = worker("gone", database, timing)

    async def hang() -> None:
        async with gone.admitted("/x", CREDENTIAL):
            gone._db = None  # type: ignore[assignment]  # it says nothing any more, not even that it has ended
            entered.set()
            await asyncio.Event().wait()

    probing = asyncio.create_task(hang())
    await entered.wait()
    begun = time.monotonic()
    async with worker("other", database, timing).admitted("/x", CREDENTIAL):
        assert time.monotonic() - begun > timing.probe_s * 0.8
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)


@pytest.mark.parametrize("state", ["open", "half_open"])
@pytest.mark.parametrize(("outcome", "scope"), [("transient", "/x"), ("auth", CREDENTIAL)])
async def test_the_failure_of_a_call_that_was_on_its_way_ends_nobodys_probe(
    database: Database, outcome: Outcome, scope: str, state: str
) -> None:
    late = worker("late", database)
    async with late.admitted("/x", CREDENTIAL):  # while it is closed
        for _ in range(THRESHOLD - 1):
            await late.report("/x", CREDENTIAL, "transient", "x")
        await rows(database, "delete from sync.breaker returning 1")
        await opened(database, scope, 300)
        if state == "half_open":
            taken = "state = 'half_open', probe_owner = 'other 1', probe_expires = now() + interval '60 s'"
            await rows(database, f"update sync.breaker set {taken} returning 1")
        await late.report("/x", CREDENTIAL, outcome, "x")
    owner = "other 1" if state == "half_open" else None
    kept = await rows(database, f"select state, cool_down_s, probe_owner from sync.breaker where scope = '{scope}'")
    assert kept == [(state, 300, owner)]


@pytest.mark.parametrize(("stored", "cool_down_s"), [(0, 5), (5, 10), (40, 80), (160, 300), (300, 300), (3600, 300)])
async def test_a_probe_that_fails_doubles_the_cool_down_that_is_stored(
    database: Database, stored: float, cool_down_s: float
) -> None:
    for outcome, scope in (("transient", "/x"), ("auth", CREDENTIAL)):
        await opened(database, scope, stored)
        probing = worker("me", database)
        async with probing.admitted("/x", CREDENTIAL):
            probing._known = {}  # whatever it knows of it
            await probing.report("/x", CREDENTIAL, outcome, "x")  # type: ignore[arg-type]
        [(state, waits, left)] = await rows(
            database,
            "select state, cool_down_s, extract(epoch from retry_at - clock_timestamp())::float8 from sync.breaker"
            f" where scope = '{scope}'",
        )
        least = FIRST_COOL_DOWN_S if outcome == "transient" else CREDENTIAL_COOL_DOWN_S
        assert (state, waits) == ("open", max(least, cool_down_s))
        assert waits - 5 < left <= waits
        await rows(database, "delete from sync.breaker returning 1")


@pytest.mark.parametrize("outcome", ["good", "transient", "permanent"])
async def test_what_a_probe_says(database: Database, outcome: Outcome) -> None:
    await opened(database)
    probing = worker("me", database)
    async with probing.admitted("/x", CREDENTIAL):
        await probing.report("/x", CREDENTIAL, outcome, "x")
    [(state, over)] = await rows(database, "select state, retry_at <= clock_timestamp() from sync.breaker")
    assert (state, over) == {"good": ("closed", None), "transient": ("open", False), "permanent": ("open", True)}[
        outcome
    ]
