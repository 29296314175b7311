"""A connection's credential, opened for a session: which source it has, and everything that source needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from sync_pipeline.gateway.http import Http
from sync_pipeline.gateway.static_source import Alert, Send, StaticSource, TokenSource
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.crash import CrashPlan
from sync_pipeline.kernel.feed import Connection, Request
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import SecretProvider

TOKEN_KEY = "SYNC_TOKEN_KEY"  # noqa: S105
"""Name of the secret that tokens are sealed with."""


@asynccontextmanager
async def credentials(
    connection: Connection,
    *,
    database: Database,
    secrets: SecretProvider,
    clock: Clock,
    random: Callable[[], float],
    alert: Alert | None = None,
    crash: CrashPlan | None = None,
    granted: Callable[[Http, Request], Awaitable[Send]] | None = None,
) -> AsyncIterator[TokenSource | None]:
    """The connection's token source; None where it sends no credential. An exchange under way is waited for at the end.
    `granted` waits until an exchange may be sent, and returns what sends it; without, it goes at once.

    Raises ConfigurationError when the tokens' key is missing or no key.
    """
    spec = connection.auth
    grant = spec.grant
    if spec.kind == "none":
        yield None
    elif grant is None or grant.kind == "static":
        name = spec.secret_env or (grant.client_secret_env if grant else None)
        yield StaticSource(name, secrets) if name else None
    else:
        # Cryptography is for those who exchange tokens; a session with a key starts without it.
        from sync_pipeline.gateway.exchange import token_connection
        from sync_pipeline.gateway.token_source import GrantSource
        from sync_pipeline.gateway.token_store import TokenStore
        from sync_pipeline.trust.sealing import Sealer

        sealer = Sealer(secrets.get(TOKEN_KEY), name=TOKEN_KEY)
        async with Http(token_connection(connection, grant), now=clock.now) as http:

            async def exchange(request: Request) -> Send:
                return await granted(http, request) if granted else partial(http.send, request, None)

            source = GrantSource(
                grant,
                store=TokenStore(connection.name, database=database, sealer=sealer, clock=clock, crash=crash),
                exchange=exchange,
                secrets=secrets,
                clock=clock,
                random=random,
                alert=alert,
                crash=crash,
            )
            try:
                yield source
            finally:
                await source.aclose()
