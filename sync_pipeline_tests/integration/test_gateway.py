"""The gateway on a real database and real HTTP: quota, Retry-After, breakers, retries, audit."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway import client
from sync_pipeline.gateway.breaker import FIRST_COOL_DOWN_S, THRESHOLD
from sync_pipeline.gateway.breaker_store import Breakers
from sync_pipeline.gateway.client import ATTEMPTS, Gateway
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import (
    AuthenticationError,
    ConfigurationError,
    Deferred,
    PermanentError,
    SyncError,
    TransientError,
)
from sync_pipeline.kernel.feed import Connection, QuotaWindow, Request
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.gateway_setting import GET, SkippingClock, Vendor, answer, gateway, send
from sync_pipeline_tests.things import rows


async def test_every_attempt_is_audited_without_ids_or_secrets(vendor: Vendor, database: Database) -> None:
    vendor.script = [answer(503), answer(200, b'{"a": 1}')]
    async with gateway(vendor, database) as opened:
        assert await send(opened, replace(GET, params=(("email", "someone@example.com"),))) == 200
    assert vendor.seen[0][1]["authorization"] == "bearer s3cr3t-token"
    audit = await rows(database, "select endpoint, status, error_class, attempt, bytes from sync.audit order by id")
    assert audit == [("/things/{id}", 503, "TransientError", 1, 2), ("/things/{id}", 200, None, 2, 8)]
    [(everything,)] = await rows(database, "select string_agg(a::text, ' ') from sync.audit a")
    assert "s3cr3t" not in everything
    assert "someone" not in everything


async def test_no_budget_is_refused(vendor: Vendor, database: Database) -> None:
    with pytest.raises(ConfigurationError, match="budget is mandatory"):
        gateway(vendor, database, windows=())


async def test_retry_after_in_seconds_holds_every_worker(vendor: Vendor, database: Database) -> None:
    vendor.script = [answer(429, retry_after="1")]
    async with gateway(vendor, database, SystemClock()) as one, gateway(vendor, database, SystemClock()) as two:
        first = asyncio.create_task(send(one))
        await vendor.asked.wait()
        while not await rows(database, "select 1 from sync.quota where blocked_until is not null"):  # noqa: ASYNC110
            await asyncio.sleep(0)  # the event is a row in the database
        assert await asyncio.gather(first, send(two)) == [200, 200]
    assert min(vendor.at[1:]) - vendor.at[0] >= 1.0


async def test_an_http_date_is_read(vendor: Vendor, database: Database) -> None:
    later = datetime.now(UTC) + timedelta(hours=2)
    vendor.script = [answer(429, retry_after=f"{later:%a, %d %b %Y %H:%M:%S} GMT")]
    async with gateway(vendor, database) as opened:
        with pytest.raises(Deferred) as caught:
            await send(opened)
    assert abs((caught.value.until - later).total_seconds()) < 5


async def test_an_http_date_is_kept_by_a_worker_whose_clock_is_fast(vendor: Vendor, database: Database) -> None:
    class FastClock(SkippingClock):
        def now(self) -> datetime:
            return datetime.now(UTC) + timedelta(seconds=5)

    now = datetime.now(UTC)
    later = (now + timedelta(seconds=60)).replace(microsecond=0)
    dates = {name: f"{at:%a, %d %b %Y %H:%M:%S} GMT" for name, at in (("retry_after", later), ("date", now))}
    vendor.script = [answer(429, **dates)]
    async with gateway(vendor, database, FastClock()) as opened:
        with pytest.raises(Deferred) as caught:
            await send(opened)
    # Never earlier; and not a minute later, however slow this machine is at the moment.
    assert timedelta(0) <= caught.value.until - later < timedelta(seconds=30)


@pytest.mark.parametrize("status", [302, 304, 401, 403, 404, 413, 500])
async def test_retry_after_is_kept_to_whatever_the_status(vendor: Vendor, database: Database, status: int) -> None:
    vendor.script = [answer(status, b"", retry_after="3600")]
    async with gateway(vendor, database) as opened:
        with contextlib.suppress(SyncError):
            await send(opened)
        await rows(database, "update sync.breaker set retry_at = clock_timestamp() returning 1")
        with pytest.raises(Deferred, match="left alone"):
            await send(opened)
    assert len(vendor.at) == 1
    assert await rows(database, "select blocked_until > now() + interval '50 minutes' from sync.quota") == [(True,)]


async def test_a_403_that_asks_to_be_left_alone_is_no_refusal_of_the_credential(
    vendor: Vendor, database: Database
) -> None:
    vendor.script = [answer(403, retry_after="0.2"), answer(200)]
    async with gateway(vendor, database, SystemClock()) as opened:
        assert await send(opened) == 200, "it is repeated, as after a 429"
        assert opened.stats.answers_429 == 1
    assert vendor.at[1] - vendor.at[0] >= 0.2
    assert await rows(database, "select error_class from sync.audit where status = 403") == [("TransientError",)]
    assert await rows(database, "select * from sync.breaker where state <> 'closed' or failures > 0") == []


async def test_a_spent_window_defers_instead_of_asking(vendor: Vendor, database: Database) -> None:
    windows = (QuotaWindow("hour", 5, 3600, burst=4),)
    async with gateway(vendor, database, windows=windows) as opened:
        for _ in range(4):
            await send(opened)
        with pytest.raises(Deferred, match="quota"):
            await send(opened)
    assert len(vendor.seen) == 4


@pytest.mark.parametrize("workers", [1, 4])
async def test_a_strict_second_stays_strict(vendor: Vendor, database: Database, workers: int) -> None:
    """Any window of one second at the vendor holds at most ten, whoever asks."""
    windows = (QuotaWindow("second", 10, 1, burst=4),)
    gateways = [gateway(vendor, database, SystemClock(), windows=windows) for _ in range(workers)]

    async def work(opened: Gateway) -> None:
        async with opened:
            for _ in range(24 // workers):
                await send(opened)

    await asyncio.gather(*(work(opened) for opened in gateways))
    assert len(vendor.at) == 24
    for start in vendor.at:
        assert sum(1 for at in vendor.at if start <= at < start + 1.0) <= 10


async def test_the_vendors_word_only_lowers(vendor: Vendor, database: Database) -> None:
    windows = (QuotaWindow("hour", 5, 3600, burst=4),)
    vendor.default = answer(200, x_ratelimit_remaining="4", x_ratelimit_reset="1")
    async with gateway(vendor, database, windows=windows) as opened:
        for _ in range(4):
            await send(opened)
        with pytest.raises(Deferred):
            await send(opened)


class Trickling(Vendor):
    """Its answers come, but never to an end."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.at.append(asyncio.get_running_loop().time())
            writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 100000\r\n\r\n")
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()


async def test_an_answer_that_only_trickles_in_holds_no_worker_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TOTAL_S", 1.5)
    async with Trickling().serving() as vendor, gateway(vendor, database) as opened, asyncio.timeout(20):
        with pytest.raises(TransientError, match="had not come to its end"):
            await send(opened)
    assert len(vendor.at) == 1, "there was no time for a second one"


async def test_a_call_is_charged_what_it_weighs(vendor: Vendor, database: Database) -> None:
    windows = (QuotaWindow("minute", 100, 60, burst=100),)
    async with gateway(vendor, database, windows=windows) as opened:
        await send(opened, replace(GET, weight=7))
        await send(opened)
        assert opened.left() == (92, 60)


async def test_failures_in_a_row_open_the_breaker_and_one_answer_closes_it(vendor: Vendor, database: Database) -> None:
    vendor.script = [answer(500)] * THRESHOLD
    async with gateway(vendor, database) as opened:
        with pytest.raises(TransientError):
            await send(opened)
        assert await rows(database, "select state, failures from sync.breaker") == [("closed", ATTEMPTS)]
        assert await send(opened) == 200
    assert len(vendor.seen) == THRESHOLD + 1
    assert vendor.at[-1] - vendor.at[-2] >= FIRST_COOL_DOWN_S * 0.99
    assert await rows(database, "select state, failures from sync.breaker") == [("closed", 0)]


async def test_sessions_that_each_see_few_failures_open_the_breaker_together(
    vendor: Vendor, database: Database
) -> None:
    vendor.script = [answer(503)] * THRESHOLD
    async with gateway(vendor, database) as opened:
        with pytest.raises(TransientError):
            await send(opened)
    assert len(vendor.seen) < THRESHOLD
    async with gateway(vendor, database) as opened:
        assert await send(opened) == 200
    assert len(vendor.seen) == THRESHOLD + 1
    assert vendor.at[-1] - vendor.at[-2] >= FIRST_COOL_DOWN_S * 0.99, "it was open"


async def test_an_answer_between_failures_starts_their_count_anew_for_everybody(
    vendor: Vendor, database: Database
) -> None:
    vendor.script = [answer(503)] * ATTEMPTS + [answer(200)] + [answer(503)] * (THRESHOLD - 1)
    for _ in range(3):
        async with gateway(vendor, database) as opened:
            with contextlib.suppress(TransientError):
                await send(opened)
    assert len(vendor.seen) > THRESHOLD
    assert [state for state, _ in await rows(database, "select state, failures from sync.breaker")] == ["closed"]


class PassingClock(SkippingClock):
    """Sleeping takes no time, and `passed` says how much it would have taken."""

    @property
    def passed(self) -> float:
        return sum(self.slept)


async def test_nobody_is_held_for_long_by_a_probe_of_another(database: Database) -> None:
    await opened_breaker(database)
    await rows(
        database,
        "update sync.breaker set state = 'half_open', probe_owner = 'gone',"
        " probe_expires = clock_timestamp() + interval '45 seconds' returning 1",
    )
    clock = PassingClock()
    breakers = Breakers("shop", "me", database=database, clock=clock, monotonic=lambda: clock.passed)
    with pytest.raises(Deferred, match="its breaker is open") as caught:
        async with breakers.admitted(GET.endpoint, "credential 0000"):
            raise AssertionError("admitted")
    assert 25 <= clock.passed <= 30
    left = (caught.value.until - clock.now()).total_seconds()
    assert 30 < left <= 45, "until the probe's lease ends"
    assert caught.value.awaits == "breaker"


async def opened_breaker(database: Database) -> None:
    """Its cool-down is over."""
    await rows(
        database,
        "insert into sync.breaker (connection, scope, state, failures, retry_at, cool_down_s)"
        " values ('shop', '/things/{id}', 'open', 9, clock_timestamp(), 5) returning 1",
    )


async def test_an_open_breaker_lets_one_probe_through(vendor: Vendor, database: Database) -> None:
    await opened_breaker(database)
    vendor.delay = 0.3
    async with gateway(vendor, database) as one, gateway(vendor, database) as two:
        results = await asyncio.gather(*(send(opened) for opened in (one, two, one, two)))
    assert results == [200] * 4
    assert min(vendor.at[1:]) - vendor.at[0] >= vendor.delay
    assert await rows(database, "select state from sync.breaker") == [("closed",)]


@pytest.mark.parametrize("status", [404, 429])
async def test_a_probe_that_moves_no_breaker_lets_the_next_one_go(
    vendor: Vendor, database: Database, status: int
) -> None:
    """Once everybody waited a minute for its lease to end, though the vendor had answered. One at a time they go still."""
    await opened_breaker(database)
    vendor.script = [answer(status, retry_after="0.3")] * 3
    vendor.delay = 0.2
    clock = SystemClock()
    async with gateway(vendor, database, clock) as one, gateway(vendor, database, clock) as two, asyncio.timeout(20):
        turns = [one, two] * 3
        results = await asyncio.gather(*(send(opened) for opened in turns), return_exceptions=True)
    refused = [each for each in results if isinstance(each, PermanentError)]
    assert len(refused) == (3 if status == 404 else 0)
    assert results.count(200) == len(turns) - len(refused)
    probes = vendor.at[:5]
    assert min(later - earlier for earlier, later in itertools.pairwise(probes[:4])) >= vendor.delay
    assert probes[4] - probes[3] >= vendor.delay, "the rest goes when one probe was good"
    assert await rows(database, "select state, probe_owner from sync.breaker") == [("closed", None)]


async def test_a_probe_that_never_goes_is_given_back(vendor: Vendor, database: Database) -> None:
    await opened_breaker(database)
    async with gateway(vendor, database) as one, gateway(vendor, database) as two, asyncio.timeout(20):
        await rows(database, "update sync.quota set blocked_until = clock_timestamp() + interval '1 hour' returning 1")
        with pytest.raises(Deferred, match="left alone"):
            await send(one)
        assert vendor.seen == []
        assert await rows(database, "select state, probe_owner from sync.breaker") == [("open", None)]
        await rows(database, "update sync.quota set blocked_until = null returning 1")
        assert await send(two) == 200


async def test_an_answer_that_says_nothing_of_a_credential_leaves_its_breaker_to_the_next(
    vendor: Vendor, database: Database
) -> None:
    vendor.script = [answer(401), answer(404), answer(401), answer(200)]
    async with gateway(vendor, database) as opened, asyncio.timeout(20):
        for error in (AuthenticationError, PermanentError, AuthenticationError):
            with pytest.raises(error):
                await send(opened)
            await rows(database, "update sync.breaker set retry_at = clock_timestamp() returning 1")
        assert await send(opened) == 200
    assert len(vendor.seen) == 4


async def test_a_refused_credential_is_not_hammered(vendor: Vendor, database: Database) -> None:
    vendor.default = answer(401)
    async with gateway(vendor, database) as opened:
        for _ in range(3):
            with pytest.raises(AuthenticationError):
                await send(opened)
    assert len(vendor.seen) == 1


async def test_a_corrected_token_or_address_is_tried_at_once(vendor: Vendor, database: Database) -> None:
    env = {"SHOP_TOKEN": "old"}
    vendor.script = [answer(401), answer(403), answer(200)]

    def opened(connection: Connection) -> Gateway:
        return Gateway(
            connection,
            database=database,
            secrets=EnvironmentSecrets(env),
            clock=SkippingClock(),
            rng=random.Random(1),
        )

    async with opened(vendor.connection()) as one, opened(vendor.connection(base_url=f"{vendor.url}/v2")) as two:
        for gateway, asked in ((one, 1), (one, 1), (two, 2), (two, 2)):
            with pytest.raises(AuthenticationError):
                await send(gateway)
            assert len(vendor.seen) == asked
    env["SHOP_TOKEN"] = "new"
    async with opened(vendor.connection()) as three:
        await send(three)
    scopes = await rows(database, "select scope, state from sync.breaker where scope ~ '^credential' order by scope")
    assert [state for _, state in scopes] == ["closed", "closed"], "who is let in leaves no open breaker behind"
    assert not any("old" in scope or "new" in scope for scope, _ in scopes)


async def test_permanent_answers_are_not_retried_and_open_nothing(vendor: Vendor, database: Database) -> None:
    vendor.default = answer(422)
    async with gateway(vendor, database) as opened:
        for _ in range(10):
            with pytest.raises(PermanentError):
                await send(opened)
    assert len(vendor.seen) == 10
    assert await rows(database, "select * from sync.breaker") == []


async def test_what_may_have_arrived_is_not_sent_twice(vendor: Vendor, database: Database) -> None:
    vendor.default = answer(503)
    once = Request("/things/", "/things/", method="POST", body=b"{}", idempotent=False)
    async with gateway(vendor, database) as opened:
        with pytest.raises(TransientError):
            await send(opened, once)
    assert len(vendor.seen) == 1


async def test_a_broken_answer_is_asked_again(vendor: Vendor, database: Database) -> None:
    broken = b"HTTP/1.1 200 X\r\ncontent-length: 50\r\nx-test: close-now\r\n\r\n{"
    vendor.script = [broken, answer(200)]
    async with gateway(vendor, database) as opened:
        assert await send(opened) == 200
        assert opened.stats.retries == 1


async def test_a_kept_connection_that_was_closed_costs_a_grant_of_its_own(vendor: Vendor, database: Database) -> None:
    """No layer below the quota repeats a request: the vendor counts each."""
    vendor.script = [answer(200), b"", answer(200)]
    async with gateway(vendor, database) as opened:
        await send(opened)
        await send(opened)
        assert len(vendor.seen) == opened.stats.requests == 3
    assert await rows(database, "select count(*) from sync.audit") == [(3,)]


async def test_another_host_never_gets_the_token(vendor: Vendor, database: Database) -> None:
    vendor.script = [answer(302, location="http://127.0.0.1:9/elsewhere")]
    async with gateway(vendor, database) as opened:
        with pytest.raises(PermanentError, match="redirects elsewhere"):
            await send(opened)
        with pytest.raises(PermanentError, match="another host"):
            await send(opened, Request("/next", "http://169.254.169.254/latest"))
    assert len(vendor.seen) == 1


async def test_an_unreachable_vendor_is_named(vendor: Vendor, database: Database) -> None:
    async with gateway(vendor, database, base_url="http://127.0.0.1:1") as opened:
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:1 cannot be reached"):
            await send(opened)


async def test_a_rotated_token_is_used_at_once(vendor: Vendor, database: Database) -> None:
    env = {"SHOP_TOKEN": "old"}
    opened = Gateway(
        vendor.connection(),
        database=database,
        secrets=EnvironmentSecrets(env),
        clock=SkippingClock(),
        rng=random.Random(1),
    )
    async with opened:
        await send(opened)
        env["SHOP_TOKEN"] = "new"
        await send(opened)
    assert [headers["authorization"] for _, headers in vendor.seen] == ["bearer old", "bearer new"]


async def test_not_modified_is_an_answer(vendor: Vendor, database: Database) -> None:
    request = replace(GET, headers=(("if-none-match", '"v1"'),))
    vendor.script = [answer(304, b"")]
    async with gateway(vendor, database) as opened:
        reply = await opened.send(request, feed="things", correlation_id="c")
    assert reply.not_modified
    assert vendor.seen[0][1]["if-none-match"] == '"v1"'
