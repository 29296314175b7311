"""Failures in a row, whichever workers met them: a good answer of any worker ends the row, and only an outage opens a breaker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sync_pipeline.gateway.breaker import THRESHOLD, Outcome, Timing
from sync_pipeline.gateway.breaker_store import Breakers
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import rows

ENDPOINT = "/things"
CREDENTIAL = "credential 1"


def worker(
    database: Database, monotonic: Callable[[], float] = time.monotonic, timing: Timing | None = None
) -> Breakers:
    return Breakers(
        "shop",
        random.randbytes(4).hex(),
        database=database,
        clock=SystemClock(),
        monotonic=monotonic,
        timing=timing or Timing(),
    )


async def look(breakers: Breakers) -> None:
    async with breakers.admitted(ENDPOINT, CREDENTIAL):
        pass


async def tell(breakers: Breakers, outcome: Outcome, times: int = 1) -> None:
    for _ in range(times):
        await breakers.report(ENDPOINT, CREDENTIAL, outcome, "x")


async def found(database: Database) -> tuple[str, int]:
    [(state, failures)] = await rows(database, "select state, failures from sync.breaker")
    return state, failures


async def test_single_failures_between_the_good_answers_of_another_are_no_row(database: Database) -> None:
    """All within the second for which each worker's look at the breakers holds: nobody knows of the others."""
    seconds = [0.0]
    *failing, well = [worker(database, lambda: seconds[0]) for _ in range(4 * THRESHOLD + 1)]
    for each in (*failing, well):
        await look(each)
    for each in failing:
        seconds[0] += 0.02
        await tell(each, "transient")
        await tell(well, "good", 20)
    assert (await found(database))[0] == "closed"


async def test_failures_of_others_go_with_them_when_their_worker_is_answered(database: Database) -> None:
    one, other = worker(database), worker(database)
    for each in (one, other):
        await look(each)
    await tell(one, "transient", THRESHOLD - 2)
    await tell(other, "transient")
    await tell(one, "good", 50)
    assert await found(database) == ("closed", 0)
    await tell(other, "transient")
    assert await found(database) == ("closed", 1)


async def test_a_good_answer_counts_however_old_its_workers_look_is(database: Database) -> None:
    seconds = [0.0]
    slow, other = worker(database, lambda: seconds[0]), worker(database)
    await look(slow)
    await tell(slow, "good")
    await look(slow)
    await tell(other, "transient", THRESHOLD - 1)
    seconds[0] += 5  # its call took that long: the last look saw no failure
    await tell(slow, "good")
    assert await found(database) == ("closed", 0)


async def test_where_all_is_well_a_good_answer_costs_nothing(database: Database) -> None:
    class Counting:
        def __init__(self) -> None:
            self.transaction = database.transaction
            self.statements = 0

        async def statement(self, query: str, parameters: dict[str, object], **more: float) -> list[tuple[Any, ...]]:
            self.statements += 1
            return await database.statement(query, parameters, **more)

    await tell(worker(database), "good")  # the endpoint's first of all is written down
    store, seconds = Counting(), [0.0]
    one = worker(store, lambda: seconds[0])  # type: ignore[arg-type]
    for _ in range(100):
        seconds[0] += 0.1
        await look(one)
        await tell(one, "good")
    assert store.statements <= 11, "a look a second"


async def test_an_outage_opens_it_as_soon_as_no_good_answer_can_have_gone_unnoted(database: Database) -> None:
    timing = Timing.scaled(0.5)
    workers = [worker(database, timing=timing) for _ in range(3)]
    await tell(workers[0], "good")
    begun = time.monotonic()
    for each in workers * THRESHOLD:
        await tell(each, "transient")
    if time.monotonic() - begun < timing.unnoted_s / 2:  # (on a machine that is not held up)
        assert await found(database) == ("closed", 3 * THRESHOLD)
    await asyncio.sleep(timing.unnoted_s)
    await tell(workers[1], "transient")
    assert await found(database) == ("open", 3 * THRESHOLD + 1)


async def test_at_a_tenth_of_calls_failing_at_random_no_fleet_opens_it(database: Database, database_url: str) -> None:
    """Forty workers opened it within seconds."""
    rng = random.Random(7)
    timing = Timing.scaled(0.5)
    sent, lasts_s = 0, 8.0
    begun = time.monotonic()

    async def work(breakers: Breakers) -> None:
        nonlocal sent
        while time.monotonic() - begun < lasts_s:
            failed = rng.random() < 0.1
            async with breakers.admitted(ENDPOINT, CREDENTIAL):
                await asyncio.sleep(rng.uniform(0.1, 0.3))
                await tell(breakers, "transient" if failed else "good")
            sent += 1
            if failed:
                await asyncio.sleep(rng.uniform(0.1, 0.5))

    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(Database.open(database_url)) for _ in range(4)]
        await asyncio.gather(*(work(worker(stores[number % 4], timing=timing)) for number in range(40)))
    opened = await rows(database, "select opened_at from sync.breaker where opened_at is not null")
    assert (opened, sent > 500) == ([], True)


@pytest.mark.parametrize("outcome", ["good", "transient", "auth"])
async def test_a_store_that_is_away_takes_no_answer_from_the_caller(database: Database, outcome: Outcome) -> None:
    class Away:
        async def statement(self, *_: object, **more: float) -> list[tuple[Any, ...]]:
            raise TransientError("away")

    one = worker(database)
    await tell(one, "auth")
    await tell(one, "transient", THRESHOLD)
    await one._current(ENDPOINT)
    one._db = Away()  # type: ignore[assignment]
    await tell(one, outcome, 2 * THRESHOLD)
