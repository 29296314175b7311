"""`sync-pipeline enrol`: an operator hands a connection the refresh token that the vendor gave."""

from __future__ import annotations

import getpass
import random
import sys

from sync_pipeline.cli.operate import console, find_setup
from sync_pipeline.cli.places import working_database
from sync_pipeline.gateway.breaker_store import by_hand
from sync_pipeline.gateway.credentials import credentials
from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.gateway.token_source import GrantSource
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.runtime import open_runtime
from sync_pipeline.trust.secrets import Secret

SPENT_S = 1e-6
"""A pair without an access token: its first use is a refresh."""


async def enrol(name: str, *, lifetime_s: float) -> None:
    setup, _ = find_setup(name)
    connection = setup.connection
    if connection.auth.grant is None or connection.auth.grant.kind != "refresh_token":
        raise ConfigurationError(
            f"connection {connection.name} needs no enrolment: it has no auth.grant of kind refresh_token in its YAML"
        )
    refresh = _asked("refresh token")
    access = _asked("access token (may be empty)") if lifetime_s else ""
    async with (
        open_runtime(url=working_database()) as runtime,
        credentials(
            connection,
            database=runtime.database,
            secrets=runtime.secrets,
            clock=runtime.clock,
            random=random.random,
        ) as source,
    ):
        assert isinstance(source, GrantSource)
        pair = Pair(Secret(access or "none"), Secret(refresh))
        generation = await source.enrol(pair, lifetime_s if access else SPENT_S)
        await by_hand(runtime.database, connection.name, "credential", seconds=None)
    console.print(f"{connection.name}: authorised; its token is generation {generation} and is refreshed by itself")


def _asked(what: str) -> str:
    """From a prompt that shows nothing, or one line of a pipe. Raises ConfigurationError for an empty first one."""
    text = getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not text.strip() and "empty" not in what:
        raise ConfigurationError(f"no {what} was given; nothing was changed")
    return text.strip()
