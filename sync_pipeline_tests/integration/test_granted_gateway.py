"""A gateway whose tokens end: what the token endpoint and a token's end say of the account, the breakers and nobody else."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from sync_pipeline.gateway.breaker import THRESHOLD
from sync_pipeline.gateway.breaker_store import by_hand
from sync_pipeline.gateway.client import Gateway
from sync_pipeline.gateway.credentials import TOKEN_KEY
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import ConfigurationError, Deferred, SyncError
from sync_pipeline.kernel.feed import AuthSpec
from sync_pipeline.kernel.grants import Grant
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.gateway_setting import GET, Vendor, answer, send
from sync_pipeline_tests.integration.token_worker import ENVIRONMENT, KEY
from sync_pipeline_tests.things import rows

GRANT = Grant("client_credentials", "/oauth/token", client_id_env="SHOP_ID", client_secret_env="SHOP_SECRET")
TOKEN = answer(200, b'{"access_token":"t1","expires_in":3600}')
SECRETS = ENVIRONMENT | {TOKEN_KEY: KEY}


def granted(
    vendor: Vendor, database: Database, grant: Grant = GRANT, secrets: dict[str, str] = SECRETS, **more: object
) -> Gateway:
    return Gateway(
        vendor.connection(auth=AuthSpec("bearer", grant=grant), **more),
        database=database,
        secrets=EnvironmentSecrets(secrets),
        clock=SystemClock(),
        rng=random.Random(1),
    )


async def grown_old(database: Database, *gateways: Gateway) -> None:
    """The token in hand is old enough to be replaced when it is refused, and every gateway has it."""
    await rows(database, "update sync.token set issued_at = issued_at - interval '10 min' returning 1")
    for each in gateways:
        assert each._tokens is not None
        each._tokens._known = None  # type: ignore[attr-defined]
        await each._tokens.current()


async def test_a_token_that_ends_early_leaves_every_breaker_alone(vendor: Vendor, database: Database) -> None:
    """Whoever had a call on its way meets a 401, all at once; the next token heals them."""
    vendor.script = [TOKEN]
    async with AsyncExitStack() as stack:
        fleet = [await stack.enter_async_context(granted(vendor, database, max_in_flight=4)) for _ in range(3)]
        for each in fleet:
            assert await send(each) == 200
        await grown_old(database, *fleet)
        vendor.script = [answer(401)] * (3 * 4) + [TOKEN]
        vendor.delay = 0.5
        calls = [asyncio.create_task(send(each)) for each in fleet for _ in range(4)]
        assert await asyncio.gather(*calls) == [200] * len(calls)
    assert len(calls) > THRESHOLD
    refused = await rows(database, "select count(*) from sync.audit where status = 401")
    assert refused == [(len(calls),)], "all of them met it"
    assert await rows(database, "select state, failures, opened_at from sync.breaker") == [("closed", 0, None)]


async def test_a_token_that_ends_while_a_breaker_is_probed_says_nothing_of_it(
    vendor: Vendor, database: Database
) -> None:
    vendor.script = [TOKEN]
    async with granted(vendor, database) as one:
        assert await send(one) == 200
        await grown_old(database, one)
        await by_hand(database, "shop", GET.endpoint, seconds=0)
        one._breakers._read_at = float("-inf")  # its next look is due
        vendor.script = [answer(401), TOKEN]
        assert await send(one) == 200, "the next probe, with the next token, waits for no cool-down"
    assert vendor.at[-1] - vendor.at[-3] < 4
    assert await rows(database, "select state from sync.breaker") == [("closed",)]


@pytest.mark.parametrize("status", [302, 400, 429, 500])
@pytest.mark.parametrize("own_host", [True, False])
async def test_what_a_token_endpoint_asks_for_holds_the_account_of_its_host(
    vendor: Vendor, database: Database, status: int, own_host: bool
) -> None:
    elsewhere = replace(GRANT, base_url=f"http://localhost:{vendor.port}")
    vendor.script = [answer(status, retry_after="300")]
    async with granted(vendor, database, GRANT if own_host else elsewhere) as one:
        with pytest.raises(SyncError):
            await send(one)
        with pytest.raises(Deferred, match="left alone") if own_host else pytest.raises(SyncError):
            await one._quota.acquire(lane="P0") if own_host else await send(one)
    assert [path for path, _ in vendor.seen] == ["/oauth/token"]
    held = await rows(database, "select blocked_until > now() + interval '290 s' from sync.quota")
    assert held == [(True if own_host else None,)]


async def test_a_gateway_that_cannot_be_opened_leaves_nothing_behind(vendor: Vendor, database: Database) -> None:
    one = granted(vendor, database, secrets=ENVIRONMENT)
    with pytest.raises(ConfigurationError, match=TOKEN_KEY):
        await one.__aenter__()
    assert one._http._session is not None
    assert one._http._session.closed
    assert one._audit._writer is not None
    assert one._audit._writer.done()
