"""One worker of a fleet: tasks that call the vendor with the shared token until their time is over.

`python -m sync_pipeline_tests.integration.token_worker DATABASE_URL PORT GRACE_S TASKS SECONDS`; prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from sync_pipeline.gateway.exchange import token_connection
from sync_pipeline.gateway.http import Http
from sync_pipeline.gateway.token_source import Alert, GrantSource
from sync_pipeline.gateway.token_store import TokenStore
from sync_pipeline.kernel.clock import Clock, SystemClock
from sync_pipeline.kernel.crash import CrashPlan
from sync_pipeline.kernel.errors import AuthenticationError
from sync_pipeline.kernel.feed import AuthSpec, Connection, QuotaWindow, Request
from sync_pipeline.kernel.grants import Grant
from sync_pipeline.store.database import Database
from sync_pipeline.trust.sealing import Sealer
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret
from sync_pipeline.vendors.rest import RestApi
from sync_pipeline.vendors.rest_options import RateHeaders

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
GRANT = Grant("refresh_token", "/oauth/token", client_id_env="SHOP_ID", client_secret_env="SHOP_SECRET", timeout_s=1.0)
ENVIRONMENT = {"SHOP_ID": "client-11", "SHOP_SECRET": "client-secret-11"}
THING = Request("/thing", "/thing")


def sealer(keys: str = KEY) -> Sealer:
    return Sealer(Secret(keys), name="SYNC_TOKEN_KEY")


def shop(port: int) -> Connection:
    windows = (QuotaWindow("minute", 6000, 60),)
    return Connection(
        "shop",
        RestApi(windows, RateHeaders()),
        f"http://127.0.0.1:{port}",
        AuthSpec("bearer", "SHOP_TOKEN"),
        windows,
        {},
    )


def store_of(database: Database, clock: Clock, crash: CrashPlan | None = None, keys: str = KEY) -> TokenStore:
    return TokenStore("shop", database=database, sealer=sealer(keys), clock=clock, crash=crash)


@asynccontextmanager
async def source_of(
    database: Database,
    port: int,
    *,
    grant: Grant = GRANT,
    clock: Clock | None = None,
    crash: CrashPlan | None = None,
    alert: Alert | None = None,
    environment: dict[str, str] | None = None,
    seed: int = 1,
) -> AsyncIterator[GrantSource]:
    clock = clock or SystemClock()
    async with Http(token_connection(shop(port), grant), now=clock.now) as http:

        async def exchange(request: Request) -> object:
            return partial(http.send, request, None)

        source = GrantSource(
            grant,
            store=store_of(database, clock, crash),
            exchange=exchange,  # type: ignore[arg-type]
            secrets=EnvironmentSecrets(ENVIRONMENT if environment is None else environment),
            clock=clock,
            random=random.Random(seed).random,
            alert=alert,
            crash=crash,
        )
        try:
            yield source
        finally:
            await source.aclose()


async def main(url: str, port: int, grace_s: float, tasks: int, seconds: float) -> dict[str, int]:
    counts = {"calls": 0, "answers_401": 0, "reauthorise": 0, "generation": 0}
    ends = asyncio.get_running_loop().time() + seconds

    async def work() -> None:
        while asyncio.get_running_loop().time() < ends:
            try:
                secret, generation = await source.current()
            except AuthenticationError:
                counts["reauthorise"] += 1
                return
            reply = await http.send(THING, secret)
            counts["calls"] += 1
            counts["generation"] = max(counts["generation"], generation)
            if reply.status == 401:
                counts["answers_401"] += 1
                await source.rejected(generation)
            await asyncio.sleep(0.05)

    grant = replace(GRANT, grace_s=grace_s)
    async with (
        Database.open(url) as database,
        Http(shop(port), now=SystemClock().now) as http,
        source_of(database, port, grant=grant, crash=CrashPlan.from_environment(), seed=port + tasks) as source,
    ):
        await asyncio.gather(*(work() for _ in range(tasks)))
    return counts


if __name__ == "__main__":
    url, port, grace_s, tasks, seconds = sys.argv[1:]
    print(json.dumps(asyncio.run(main(url, int(port), float(grace_s), int(tasks), float(seconds)))))
