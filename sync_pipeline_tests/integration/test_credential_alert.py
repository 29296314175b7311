"""A credential that only an operator can renew is known to every worker by its breaker."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import AuthenticationError
from sync_pipeline.kernel.feed import AuthSpec
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import ENVIRONMENT, GRANT, KEY, THING, shop
from sync_pipeline_tests.things import rows


def worker(vendor: TokenVendor, database: Database) -> Gateway:
    return Gateway(
        replace(shop(vendor.port), auth=AuthSpec("bearer", grant=GRANT)),
        database=database,
        secrets=EnvironmentSecrets(ENVIRONMENT | {"SYNC_TOKEN_KEY": KEY}),
        clock=SystemClock(),
        rng=random.Random(1),
    )


async def test_what_only_an_operator_can_renew_opens_the_credentials_breaker(database: Database) -> None:
    async with TokenVendor().serving() as vendor:
        async with worker(vendor, database) as first:
            with pytest.raises(AuthenticationError, match="authorise the connection again"):
                await first.send(THING, feed="things", correlation_id="c")
        [(scope, state, reason)] = await rows(database, "select scope, state, reason from sync.breaker")
        assert scope.startswith("credential ")
        assert (state, reason) == ("open", "there is no refresh token")
        async with worker(vendor, database) as second:
            with pytest.raises(
                AuthenticationError, match=r"has refused this connection's credential.*no refresh token"
            ):
                await second.send(THING, feed="things", correlation_id="c")
        assert vendor.asked == vendor.calls == 0
