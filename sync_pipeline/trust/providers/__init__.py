"""Secret providers behind one interface, chosen by SYNC_SECRETS (see `settings` for its forms)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers.cached import CachedSecrets, ChainedSecrets, Labelled, waits
from sync_pipeline.trust.providers.folder import FolderSecrets
from sync_pipeline.trust.providers.settings import (
    AwsSource,
    EnvironmentSource,
    FolderSource,
    KeyringSource,
    Source,
    VaultSource,
    parse_sources,
)
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret, SecretProvider

__all__ = ["open_secrets", "parse_sources", "read"]

CACHE_S = 60.0
"""How long the answer of a slow source is used without asking it again; a rotation is seen at the latest then."""

KEEP_S = 600.0
"""How long an answer stands in for a source that cannot be reached."""


def open_secrets(env: Mapping[str, str], *, now: Callable[[], float], keep_s: float = KEEP_S) -> SecretProvider:
    """The provider that SYNC_SECRETS in `env` describes; nothing is asked yet.

    `now`: seconds of a clock that only runs forward. SYNC_SECRETS_CACHE_S (default 60) is the age at which keyring, Vault
    and AWS are asked again; environment and files are read with every call. Raises ConfigurationError.
    """
    ttl_s = _seconds(env.get("SYNC_SECRETS_CACHE_S", ""))
    found = []
    for source in parse_sources(env.get("SYNC_SECRETS", "")):
        secrets = _provider(source, env)
        if not isinstance(source, EnvironmentSource | FolderSource):
            secrets = CachedSecrets(secrets, now=now, ttl_s=ttl_s, keep_s=keep_s)
        found.append(Labelled(source.label, secrets))
    return found[0].secrets if len(found) == 1 else ChainedSecrets(found)


async def read(secrets: SecretProvider, name: str) -> Secret:
    """`secrets.get(name)`, in a thread when it would wait for a network. Raises what it raises."""
    return await asyncio.to_thread(secrets.get, name) if waits(secrets, name) else secrets.get(name)


def _provider(source: Source, env: Mapping[str, str]) -> SecretProvider:
    match source:
        case EnvironmentSource():
            return EnvironmentSecrets(env)
        case FolderSource(folder):
            return FolderSecrets(folder)
        case KeyringSource():
            from sync_pipeline.trust.providers.system_keyring import KeyringSecrets

            return KeyringSecrets(source)
        case VaultSource():
            from sync_pipeline.trust.providers.vault import VaultSecrets

            return VaultSecrets(source, tokens=EnvironmentSecrets(env))
        case AwsSource():
            from sync_pipeline.trust.providers.aws import AwsSecrets

            return AwsSecrets(source)


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if text.strip() else CACHE_S
    except ValueError:
        seconds = math.nan
    if 0 <= seconds <= 3600:
        return seconds
    raise ConfigurationError("SYNC_SECRETS_CACHE_S must be a number of seconds between 0 and 3600")
