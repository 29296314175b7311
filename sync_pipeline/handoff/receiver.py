"""The receiver of a connection's changes, opened from its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from urllib.parse import urlsplit

from sync_pipeline.gateway.http import Http
from sync_pipeline.handoff.deliver import Handoff
from sync_pipeline.handoff.sinks import HttpSink
from sync_pipeline.kernel.crash import CrashPlan
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import AuthSpec
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import SecretProvider


@asynccontextmanager
async def receiver_of(
    setup: Setup, *, database: Database, secrets: SecretProvider, now: Callable[[], datetime], crash: CrashPlan
) -> AsyncIterator[Handoff]:
    """Raises ConfigurationError for a connection without a receiver."""
    receiver = setup.receiver
    if receiver is None:
        raise ConfigurationError(f"connection {setup.connection.name} has no handoff_url")
    parts = urlsplit(receiver.url)
    auth = AuthSpec("bearer", receiver.secret_env) if receiver.secret_env else AuthSpec("none")
    place = replace(setup.connection, base_url=f"{parts.scheme}://{parts.netloc}", auth=auth)
    async with Http(place, now=now) as http:
        sink = HttpSink(http, path=parts.path or "/", secret_env=receiver.secret_env, secrets=secrets)
        yield Handoff(database, sink, crash=crash)
