"""Secrets from the operating system's keyring, through the `keyring` extra."""

from __future__ import annotations

from typing import Protocol

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.trust.providers.settings import KeyringSource
from sync_pipeline.trust.secrets import Secret, SecretNotFound, checked_name, settled


class Backend(Protocol):
    def get_password(self, service: str, username: str) -> str | None:
        """As keyring.backend.KeyringBackend has it."""


class KeyringSecrets:
    """The password of user NAME under one service. `backend`: another than the one `keyring` chooses.

    https://keyring.readthedocs.io/en/latest/
    """

    def __init__(self, source: KeyringSource, backend: Backend | None = None) -> None:
        self._source = source
        self._backend = backend

    def get(self, name: str) -> Secret:
        return settled(self._read(checked_name(name)))

    def _read(self, name: str) -> Secret | ConfigurationError:
        label = self._source.label
        try:
            import keyring
            from keyring.errors import KeyringError
        except ImportError:
            return ConfigurationError(
                f"{label} cannot be asked for the secret {name}: install sync-pipeline[keyring] and start again"
            )
        backend: Backend = self._backend or keyring.get_keyring()
        try:
            value = backend.get_password(self._source.service, name)
        except (KeyringError, RuntimeError) as error:  # NoKeyringError is both, a backend's own errors may be either
            return ConfigurationError(
                f"{label} cannot be asked for the secret {name} ({type(error).__name__}): unlock the keyring or install one"
            )
        return Secret(value.strip()) if value and value.strip() else SecretNotFound(f"{label} has no secret {name}")
