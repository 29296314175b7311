"""One process and its token: kept sealed, replaced once, never guessed at, for a simulated week."""

from __future__ import annotations

import asyncio
import random
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import psycopg
import pytest

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.gateway.credentials import credentials
from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.gateway.http import Http
from sync_pipeline.gateway.static_source import Send, StaticSource, TokenSource
from sync_pipeline.gateway.token_source import GrantSource
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import AuthenticationError, ConfigurationError, Deferred
from sync_pipeline.kernel.feed import AuthSpec, Connection, Request
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret
from sync_pipeline_tests.integration.token_setting import Clock, StandingClock, enrol
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import (
    ENVIRONMENT,
    GRANT,
    KEY,
    THING,
    sealer,
    shop,
    source_of,
    store_of,
)
from sync_pipeline_tests.things import rows

OTHER_KEY = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA="
WEEK_S = 7 * 86400


@pytest.mark.parametrize("revokes_old", [False, True])
async def test_a_week_has_no_answer_401(database: Database, revokes_old: bool) -> None:
    """Two workers, tokens of an hour, calls at random times with gaps beyond the expiry, exchanges turned away now and then."""
    clock, rng = Clock(), random.Random(7)
    grant = replace(GRANT, revokes_old=revokes_old)
    vendor = TokenVendor(lifetime_s=3600, now=clock.seconds, revokes_old=revokes_old)
    async with (
        vendor.serving(),
        source_of(database, vendor.port, grant=grant, clock=clock, seed=1) as one,
        source_of(database, vendor.port, grant=grant, clock=clock, seed=2) as two,
        Http(shop(vendor.port), now=clock.now) as http,
    ):
        await enrol(one, vendor)
        begun = clock.seconds()
        while clock.seconds() < begun + WEEK_S:
            vendor.turn_away = max(vendor.turn_away, int(rng.random() < 0.05))
            source = rng.choice((one, two))
            secret, _ = await source.current()
            await http.send(THING, secret)
            await source.aclose()  # time stands still while an exchange is under way
            clock.skip(rng.expovariate(1 / 600))
        [(generation,)] = await rows(database, "select generation from sync.token")
    print(f"calls {vendor.calls} generations {generation} exchanges {len(vendor.exchanges)} asked {vendor.asked}")
    assert vendor.answers_401 == 0
    assert vendor.breaches == 0
    assert 120 < generation == len(vendor.exchanges) + 1
    assert vendor.asked > len(vendor.exchanges), "some were turned away"
    assert vendor.calls > 800


async def test_the_pair_is_nowhere_in_the_table_and_opens_only_in_its_place(database: Database) -> None:
    async with TokenVendor().serving() as vendor, source_of(database, vendor.port) as source:
        await enrol(source, vendor)
        [(text, sealed)] = await rows(database, "select t::text, sealed from sync.token t")
        for token in vendor.given:
            assert token not in text
            assert token.encode() not in bytes(sealed)
            assert token.encode().hex() not in text
        held = await store_of(database, Clock()).read()
        assert held.pair == Pair(Secret(vendor.given[0]), Secret(vendor.given[1]))
        assert vendor.given[0] not in repr(held)

        both = await store_of(database, Clock(), keys=f"{OTHER_KEY},{KEY}").read()
        assert both.pair == held.pair, "an old key behind a new one still opens"
        with pytest.raises(ConfigurationError, match="SYNC_TOKEN_KEY"):
            await store_of(database, Clock(), keys=OTHER_KEY).read()
        await rows(database, "update sync.token set generation = generation + 1 returning 1")
        with pytest.raises(ConfigurationError, match="cannot be opened"):
            await store_of(database, Clock()).read()


async def test_nobody_sends_an_old_token_where_a_refresh_ends_it(database: Database) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        arrived.set()
        await go.wait()

    clock = StandingClock()
    grant = replace(GRANT, revokes_old=True)
    vendor = TokenVendor(now=clock.seconds, revokes_old=True, before_answer=hold)
    async with (
        vendor.serving(),
        source_of(database, vendor.port, grant=grant, clock=clock, seed=1) as one,
        source_of(database, vendor.port, grant=grant, clock=clock, seed=2) as two,
    ):
        await enrol(one, vendor)
        clock.skip(3100)
        assert {(await one.current())[1], (await two.current())[1]} == {1}, "held by both, and due for neither"
        clock.skip(100)  # by the jitter it drew it is due for one of them, in the middle of its tenth
        first = asyncio.create_task(two.current())
        await arrived.wait()
        others = [asyncio.create_task(source.current()) for source in (one, two) for _ in range(4)]
        await asyncio.wait(others, timeout=0.3)
        assert not any(task.done() for task in others), "they wait for the answer"
        go.set()
        assert {generation for _, generation in await asyncio.gather(first, *others)} == {2}
    assert len(vendor.exchanges) == 1


@pytest.mark.parametrize("keys", ["", "short", "MDEyMw==", f"{KEY},", "no base64 at all, really"])
def test_a_key_that_is_none_is_refused_without_showing_it(keys: str) -> None:
    with pytest.raises(ConfigurationError, match="SYNC_TOKEN_KEY must hold 32 random bytes") as caught:
        sealer(keys)
    assert not keys or keys not in str(caught.value)


async def test_a_vendor_that_refuses_every_token_is_not_asked_for_more_each_time(database: Database) -> None:
    clock = Clock()
    async with (
        TokenVendor(now=clock.seconds).serving() as vendor,
        source_of(database, vendor.port, clock=clock) as source,
    ):
        await enrol(source, vendor)
        deferred = 0
        for _ in range(100):
            try:
                _, generation = await source.current()
                assert not await source.rejected(generation), "a young token: it is the credential that is refused"
            except Deferred:
                deferred += 1
            clock.skip(1)
        assert deferred > 50
        assert len(vendor.exchanges) <= 3


async def lost_answer(database: Database, grace_s: float) -> tuple[TokenVendor, list[str]]:
    """The first exchange's answer comes too late; then the token is wanted again and again."""
    reasons: list[str] = []

    async def alert(reason: str) -> None:
        reasons.append(reason)

    clock = Clock()
    grant = replace(GRANT, grace_s=grace_s, timeout_s=0.4)
    vendor = TokenVendor(now=clock.seconds, grace_s=grace_s)
    slow = [1.0]
    vendor.before_answer = lambda: asyncio.sleep(slow.pop() if slow else 0)
    async with vendor.serving(), source_of(database, vendor.port, grant=grant, clock=clock, alert=alert) as source:
        await enrol(source, vendor)
        clock.skip(3400)
        secret, generation = await source.current()
        assert generation == 1, "the old token is good while the new one is fetched"
        await source.aclose()
        assert await source.current() == (secret, 1), "and after its answer was lost"
        for _ in range(20):
            clock.skip(30)
            try:
                _, generation = await source.current()
            except AuthenticationError:
                continue
            await source.aclose()
        [(stored,)] = await rows(database, "select generation from sync.token")
        assert generation == stored
        assert stored == (2 if grace_s else 1)
    return vendor, reasons


async def test_a_lost_answer_is_never_retried_blindly(database: Database) -> None:
    vendor, reasons = await lost_answer(database, 0)
    assert vendor.asked == 1
    assert set(reasons) == {"a refresh was not answered and its refresh token may be spent"}


async def test_a_lost_answer_is_retried_within_the_vendors_grace(database: Database) -> None:
    vendor, reasons = await lost_answer(database, 60)
    assert vendor.asked == 2
    assert vendor.breaches == 0
    assert not reasons


async def test_the_wait_for_a_grant_spends_nothing(database: Database) -> None:
    """It may be longer than an exchange may take. Once it was taken for a lost answer, and the connection for dead."""
    grant = replace(GRANT, timeout_s=0.3)
    async with TokenVendor().serving() as vendor:
        async with source_of(database, vendor.port) as source:
            await enrol(source, vendor)
        hour_old = "issued_at - interval '59 min', expires_at = expires_at - interval '59 min'"
        await rows(database, f"update sync.token set issued_at = {hour_old} returning 1")
        opened = Gateway(
            replace(shop(vendor.port), auth=AuthSpec("bearer", grant=grant)),
            database=database,
            secrets=EnvironmentSecrets(ENVIRONMENT | {"SYNC_TOKEN_KEY": KEY}),
            clock=SystemClock(),
            rng=random.Random(1),
        )
        async with opened:
            await rows(
                database, "update sync.quota set blocked_until = clock_timestamp() + interval '1.5 s' returning 1"
            )
            assert opened._tokens is not None
            assert (await opened._tokens.current())[1] == 1, "the old token is good meanwhile"
            await asyncio.sleep(3 * grant.timeout_s)
            waiting = await rows(database, "select sent_at, uncertain_since, retry_at, failures from sync.token")
            assert waiting == [(None, None, None, 0)], "who were killed now would leave nothing in doubt"
            assert vendor.asked == 0
        assert len(vendor.exchanges) == vendor.asked == 1
    assert await rows(database, "select generation, uncertain_since from sync.token") == [(2, None)]


@pytest.mark.parametrize("waited_s", [5, 31])
async def test_a_grace_that_ends_in_the_wait_for_a_grant_is_over(database: Database, waited_s: float) -> None:
    clock = Clock()
    grant = replace(GRANT, grace_s=30)
    vendor = TokenVendor(now=clock.seconds, grace_s=30)
    async with vendor.serving(), source_of(database, vendor.port, grant=grant, clock=clock) as source:
        await enrol(source, vendor)
        clock.skip(4000)
        vendor.spent[vendor.refresh] = clock.seconds()  # an exchange whose answer was lost
        await rows(database, "update sync.token set uncertain_since = %s returning 1", clock.now())
        exchange = source._exchange

        async def granted_late(request: Request) -> Send:
            clock.skip(waited_s)
            return await exchange(request)

        source._exchange = granted_late
        if waited_s < grant.grace_s:
            assert (await source.current())[1] == 2
        else:
            with pytest.raises(AuthenticationError, match="may be spent"):
                await source.current()
    assert vendor.breaches == 0
    assert vendor.asked == int(waited_s < grant.grace_s)


async def test_a_cancelled_caller_does_not_cut_off_the_exchange(database: Database) -> None:
    arrived, go = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        arrived.set()
        await go.wait()

    clock = Clock()
    vendor = TokenVendor(now=clock.seconds, before_answer=hold)
    async with vendor.serving(), source_of(database, vendor.port, clock=clock) as source:
        await enrol(source, vendor)
        clock.skip(4000)
        caller = asyncio.create_task(source.current())
        await arrived.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        go.set()
        secret, generation = await source.current()
    assert generation == 2
    assert secret == Secret(vendor.given[-2])
    assert len(vendor.exchanges) == 1


async def test_the_new_pair_is_kept_although_the_lock_and_its_connection_are_lost(database: Database) -> None:
    async def cut() -> None:
        async with await psycopg.AsyncConnection.connect(database.url, autocommit=True) as conn:
            found = await conn.execute(
                "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
                " and database = (select oid from pg_database where datname = current_database())"
            )
            assert await found.fetchall() == [(True,)]

    clock = Clock()
    vendor = TokenVendor(now=clock.seconds, before_answer=cut)
    async with vendor.serving(), source_of(database, vendor.port, clock=clock) as source:
        await enrol(source, vendor)
        clock.skip(4000)
        with pytest.raises(Exception, match="connection was lost"):
            await source.current()
        secret, generation = await source.current()
        assert (secret, generation) == (Secret(vendor.given[-2]), 2)
        held = await store_of(database, clock).read()
        assert held.pair == Pair(secret, Secret(vendor.given[-1]))
    assert len(vendor.exchanges) == 1


async def test_a_dead_refresh_token_asks_for_an_operator_who_can_heal_it(database: Database) -> None:
    reasons: list[str] = []

    async def alert(reason: str) -> None:
        reasons.append(reason)

    clock = Clock()
    vendor = TokenVendor(now=clock.seconds)
    async with vendor.serving(), source_of(database, vendor.port, clock=clock, alert=alert) as source:
        await enrol(source, vendor)
        vendor.refresh = "another family"
        clock.skip(4000)
        for _ in range(3):
            with pytest.raises(AuthenticationError, match=r"renew the token \(invalid_grant\)") as caught:
                await source.current()
            assert "refresh-" not in str(caught.value)
            clock.skip(86400)
        assert vendor.asked == 1
        assert len(reasons) == 3
        await enrol(source, vendor)
        assert (await source.current())[0] == Secret(vendor.given[-2])


async def test_a_wrong_client_secret_is_tried_again_once_it_was_corrected(database: Database) -> None:
    clock, environment = Clock(), ENVIRONMENT | {"SHOP_SECRET": "wrong"}
    vendor = TokenVendor(now=clock.seconds)
    async with vendor.serving(), source_of(database, vendor.port, clock=clock, environment=environment) as source:
        await enrol(source, vendor)
        clock.skip(4000)
        for _ in range(5):
            with pytest.raises(AuthenticationError, match="invalid_client"):
                await source.current()
            clock.skip(5)
        assert vendor.asked == 1
        environment["SHOP_SECRET"] = ENVIRONMENT["SHOP_SECRET"]
        clock.skip(60)
        assert (await source.current())[1] == 2


async def test_an_endpoint_that_cannot_be_reached_spends_nothing(database: Database) -> None:
    clock = Clock()
    vendor = TokenVendor(now=clock.seconds)
    async with vendor.serving(), source_of(database, vendor.port, clock=clock) as source:
        await enrol(source, vendor)
        for base_url in ("http://127.0.0.1:9", f"http://{'a' * 70}.example"):
            elsewhere = replace(GRANT, base_url=base_url)
            clock.skip(3700)
            async with source_of(database, vendor.port, grant=elsewhere, clock=clock) as lost:
                with pytest.raises(Deferred, match="the last exchange failed") as caught:
                    await lost.current()
                assert caught.value.awaits == "token"
        clock.skip(3700)
        assert (await source.current())[1] == 2


async def test_a_store_that_is_away_costs_nothing_while_the_token_is_good(database_url: str) -> None:
    clock = Clock()
    vendor = TokenVendor(now=clock.seconds)
    async with (
        vendor.serving(),
        Database.open(database_url) as database,
        source_of(database, vendor.port, clock=clock) as source,
    ):
        await enrol(source, vendor)
        held = await source.current()
        await database.close()
        clock.skip(600)
        assert await source.current() == held


async def test_a_static_key_is_read_anew_and_counted() -> None:
    environment = {"SHOP_TOKEN": "first-key"}
    source = StaticSource("SHOP_TOKEN", EnvironmentSecrets(environment))
    assert await source.current() == (Secret("first-key"), 1)
    assert await source.current() == (Secret("first-key"), 1)
    assert not await source.rejected(1)
    environment["SHOP_TOKEN"] = "second-key"
    assert await source.rejected(1)
    assert await source.current() == (Secret("second-key"), 2)


async def test_a_connection_opens_its_own_source(database: Database) -> None:
    clock = Clock()
    secrets = EnvironmentSecrets(ENVIRONMENT | {"SYNC_TOKEN_KEY": KEY, "SHOP_TOKEN": "a-key"})

    def opened(connection: Connection) -> AbstractAsyncContextManager[TokenSource | None]:
        return credentials(connection, database=database, secrets=secrets, clock=clock, random=random.Random(1).random)

    async with TokenVendor(now=clock.seconds).serving() as vendor:
        plain = shop(vendor.port)
        async with opened(replace(plain, auth=AuthSpec("none"))) as source:
            assert source is None
        async with opened(plain) as source:
            assert source is not None
            assert await source.current() == (Secret("a-key"), 1)
        async with opened(replace(plain, auth=AuthSpec("bearer", grant=GRANT))) as source:
            assert isinstance(source, GrantSource)
            await enrol(source, vendor)
            clock.skip(4000)
            assert await source.current() == (Secret(vendor.given[-2]), 2)
