"""A refusal is known to the worker that heard it, whatever becomes of the store, and to all when the store is back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from sync_pipeline.gateway.quota_blocks import Blocks
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import Deferred, TransientError
from sync_pipeline.kernel.feed import QuotaFeedback, QuotaNode, QuotaWindow, Request
from sync_pipeline.store.database import Database
from sync_pipeline.vendors.eventbrite import EventbriteApi
from sync_pipeline.vendors.rest import RestApi
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer, gateway, send
from sync_pipeline_tests.integration.quota_setting import Fickle, quota
from sync_pipeline_tests.things import rows

WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
MINUTE = QuotaWindow("minute", 6000, 60, burst=1000)


@pytest.mark.parametrize("words", [{}, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1"}], ids=["", "told"])
async def test_retry_after_is_kept_to_without_the_store(
    vendor: Vendor, database_url: str, words: dict[str, str]
) -> None:
    """It came after a quarter of a second: the error of the store that could not book the refusal hid the vendor's."""
    vendor.script = [answer(200), answer(429, retry_after="2", **words), answer(200), answer(429, retry_after="300")]
    async with Database.open(database_url) as database:
        opened = await gateway(vendor, database, SystemClock()).__aenter__()
        await send(opened)
        await database.close()
        assert await send(opened) == 200
        assert vendor.at[2] - vendor.at[1] >= 2
        for _ in range(3):
            with pytest.raises(Deferred, match="left alone") as caught:
                await send(opened)
            assert (caught.value.until - datetime.now(UTC)).total_seconds() == pytest.approx(300, abs=2)
        with contextlib.suppress(TransientError):
            await opened.__aexit__(None, None, None)  # its audit has nowhere to go
    assert len(vendor.seen) == 4


@pytest.mark.parametrize("comes_back", ["asks", "closes"])
async def test_a_refusal_while_the_store_was_away_holds_for_everybody_when_it_is_back(
    database: Database, comes_back: str
) -> None:
    store = Fickle(database)
    one, other = quota(store, MINUTE), quota(database, MINUTE)
    await one.open()
    store.away = True
    assert await one.refused(timedelta(seconds=300)) == 300
    store.away = False
    if comes_back == "asks":
        with pytest.raises(Deferred, match="left alone"):
            await one.acquire()
    else:
        await one.close()
    with pytest.raises(Deferred, match="left alone") as caught:
        await other.acquire()
    assert (caught.value.until - datetime.now(UTC)).total_seconds() == pytest.approx(300, abs=2)


async def test_a_refusal_that_was_booked_is_kept_to_when_the_store_goes(database: Database) -> None:
    store = Fickle(database)
    one = quota(store, MINUTE)
    await one.open()
    await one.refused(timedelta(seconds=300))
    store.away = True
    with pytest.raises(Deferred, match="left alone"):
        await one.acquire()


async def test_a_grant_that_a_refusal_overtakes_is_given_back(database: Database, database_url: str) -> None:
    one = quota(database, QuotaWindow("minute", 60, 60, burst=60))
    await one.open()
    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("select from sync.quota for update")
        asked = asyncio.create_task(one.acquire())
        while await rows(database, WAITING) != [(1,)]:  # noqa: ASYNC110  # the event is a row in the database
            await asyncio.sleep(0.01)
        at = time.monotonic()
        refused = asyncio.create_task(one.refused(timedelta(seconds=1)))
        while await rows(database, WAITING) != [(2,)]:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.01)
        await other.rollback()
    await asyncio.gather(asked, refused)
    assert time.monotonic() - at >= 1
    assert await rows(database, "select used from sync.quota_now") == [(1,)]


@pytest.mark.parametrize(
    "words", [{"retry_after": "3600"}, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "3600"}]
)
@pytest.mark.parametrize("at_once", [1, 4])
async def test_nothing_is_sent_once_a_refusal_was_read(
    vendor: Vendor, database: Database, at_once: int, words: dict[str, str]
) -> None:
    """Calls that held a grant and waited for a place in flight went when the refused one left it."""
    vendor.delay = 0.1
    vendor.default = answer(429, **words)
    async with gateway(vendor, database, SystemClock(), max_in_flight=at_once) as opened:
        calls = (send(opened) for _ in range(at_once + 4))
        done = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(each) for each in done] == [Deferred] * (at_once + 4)
    assert len(vendor.at) == at_once


HOURLY = b'{"status_code":429,"error_description":"Hourly rate limit has been reached for this token.","error":"HIT_RATE_LIMIT"}'


@pytest.mark.parametrize("status", [429, 400])
@pytest.mark.parametrize("words", [{}, {"retry_after": "2.5"}], ids=["", "told"])
async def test_a_spent_window_whose_turn_nobody_knows_is_not_waited_for_to_its_end(
    vendor: Vendor, database: Database, words: dict[str, str], status: int
) -> None:
    """Eventbrite's hour: each refusal stopped the account for all of it, whatever Retry-After said."""
    api = EventbriteApi()
    vendor.script = [answer(200), answer(status, HOURLY, **words), answer(200)]
    async with gateway(vendor, database, SystemClock(), api=api, windows=api.windows) as opened:
        await send(opened)
        assert await send(opened) == 200
        assert opened.stats.answers_429 == 1
    waited = vendor.at[2] - vendor.at[1]
    assert waited >= (2.5 if words else 1.5)


@pytest.mark.parametrize(
    ("window", "reset_s", "blocked_s"),
    [
        (QuotaWindow("w", 100, 3600), None, None),
        (QuotaWindow("w", 100, 3600, kind="fixed"), None, None),
        (QuotaWindow("w", 100, 3600), 500, 500),
        (QuotaWindow("w", 100, 86_400, kind="daily"), None, 43_200),
    ],
    ids=["sliding", "fixed", "with a reset", "a day"],
)
async def test_a_refusal_that_says_none_left_blocks_until_a_turn_that_is_known(
    database: Database, window: QuotaWindow, reset_s: float | None, blocked_s: float | None
) -> None:
    one = quota(database, window)
    await one.open()
    noon = datetime(2026, 11, 22, 12, tzinfo=UTC)
    reset_at = None if reset_s is None else noon + timedelta(seconds=reset_s)
    word = one.heed(QuotaFeedback("w", remaining=0, reset_at=reset_at), noon, refused=True)
    assert (word and word.reset_s) == (blocked_s and pytest.approx(blocked_s, abs=15))
    assert one.may_go(time.monotonic(), lane="P0") is (blocked_s is None)


async def test_a_word_that_names_a_window_of_the_endpoint_lowers_that_one(vendor: Vendor, database: Database) -> None:
    """It was looked for among the account's windows only."""
    windows = (QuotaWindow("exports", 10, 60),)
    nodes = (QuotaNode("shop /other", windows, "/other"), QuotaNode("shop /things/{id}", windows, "/things/{id}"))
    vendor.script = [answer(200, ratelimit_policy='"exports";q=10;w=60', ratelimit='"exports";r=0;t=300')]
    async with gateway(vendor, database, nodes=nodes, api=RestApi((MINUTE,))) as opened:
        await send(opened)
        with pytest.raises(Deferred, match="left alone"):
            await send(opened)
        assert await send(opened, Request("/other", "/other")) == 200
    assert await rows(database, "select scope, remaining_said from sync.quota where remaining_said is not null") == [
        ("shop /things/{id}", 0)
    ]


@pytest.mark.parametrize("at_once", [1, 4, 10])
async def test_refusals_of_calls_that_were_on_their_way_count_as_one(
    vendor: Vendor, database: Database, at_once: int
) -> None:
    """Each of them doubled the time for which a vendor that names none is left alone: ten were seven minutes."""
    vendor.delay = 0.3
    vendor.default = answer(429)
    async with gateway(vendor, database, SystemClock(), max_in_flight=at_once) as opened:
        calls = [asyncio.create_task(send(opened)) for _ in range(at_once)]
        while await rows(database, LEFT_ALONE) == [(None,)]:  # noqa: ASYNC110  # the event is a row in the database
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        [(seconds,)] = await rows(database, LEFT_ALONE)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    assert len(vendor.at) == at_once
    assert 0 < seconds < 2.6


LEFT_ALONE = "select extract(epoch from max(blocked_until) - clock_timestamp())::float8 from sync.quota"


def test_the_next_wave_of_refusals_doubles_the_time_and_one_answer_counts_once() -> None:
    seconds = [0.0]
    blocks = Blocks(monotonic=lambda: seconds[0], random=lambda: 0.5)
    seconds[0] = 10
    assert blocks.refusal(None, asked=9.0) == 2
    assert blocks.refusal(None, asked=9.5) == 2, "on its way when the first was read"
    assert blocks.refusal(60.0, asked=9.0) == 60
    seconds[0] = 20
    assert blocks.refusal(60.0, asked=13.0) == 60
    assert blocks.refusal(None, asked=13.0) == 4, "a second word of the same answer"
    seconds[0] = 30
    assert blocks.refusal(None, asked=25.0) == 8
    blocks.accepted()
    assert blocks.refusal(None, asked=24.0) == 2
    seconds[0] = 40
    assert blocks.refusal(None, asked=35.0) == 2


async def test_what_is_said_of_the_hosts_window_holds_for_the_account_it_was_said_to(database: Database) -> None:
    """It blocked all accounts at the host, though a vendor speaks of the one that asks."""
    host = QuotaNode("vendor shop.example", (QuotaWindow("host", 100, 60, burst=100),), shared=True)
    own, other = (
        Quota(name, [QuotaNode(name, (MINUTE,)), host], database=database, clock=SystemClock(), monotonic=time.monotonic,
              random=random.random)
        for name in ("own", "other")
    )  # fmt: skip
    for one in (own, other):
        await one.open()
    now = datetime.now(UTC)
    await own.told(QuotaFeedback("host", remaining=0, reset_at=now + timedelta(seconds=300)), now)
    await own.publish()
    with pytest.raises(Deferred, match="left alone"):
        await own.acquire()
    await other.acquire()
    assert await rows(database, "select scope from sync.quota where blocked_until is not null") == [("own",)]
    assert await rows(database, "select min(share) from sync.quota") == [(1,)], "nobody refused"
