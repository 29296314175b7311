"""Workers draw when they refresh, so that a fleet does not come to the token endpoint at one instant."""

from __future__ import annotations

import random
from dataclasses import replace

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.gateway.token_source import GrantSource
from sync_pipeline.kernel.feed import AuthSpec
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline_tests.integration.token_setting import Clock, enrol
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import ENVIRONMENT, GRANT, KEY, shop

STEP_S = 6


async def refreshed_at(database: Database, seed: int) -> float:
    """A token's age, in seconds, when a worker that looks every few seconds has it refreshed."""
    clock = Clock()
    async with TokenVendor(lifetime_s=3600, now=clock.seconds).serving() as vendor:
        worker = Gateway(
            replace(shop(vendor.port), auth=AuthSpec("bearer", grant=GRANT)),
            database=database,
            secrets=EnvironmentSecrets(ENVIRONMENT | {"SYNC_TOKEN_KEY": KEY}),
            clock=clock,
            rng=random.Random(seed),
        )
        async with worker:
            source = worker._tokens
            assert isinstance(source, GrantSource)
            await enrol(source, vendor)
            given = clock.seconds()
            clock.skip(3150)
            while not vendor.exchanges:
                clock.skip(STEP_S)
                age = clock.seconds() - given
                await source.current()
                await source.aclose()
        assert len(vendor.exchanges) == 1
    return age


async def test_workers_with_other_random_numbers_refresh_at_other_times(database: Database) -> None:
    """A tenth of the hour before its end, give or take a fifth of that."""
    ages = [await refreshed_at(database, seed) for seed in range(6)]
    assert all(3600 - 432 <= age <= 3600 - 288 + STEP_S for age in ages), ages
    assert len(set(ages)) >= 4, ages
    assert max(ages) - min(ages) > 40, ages
    assert min(ages) < 3600 - 360 < max(ages), "to either side"
