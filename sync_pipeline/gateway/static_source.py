"""What every call asks for its credential, and the credential that stands: a key that is only read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from sync_pipeline.kernel.feed import Reply
from sync_pipeline.trust.providers import read
from sync_pipeline.trust.secrets import Secret, SecretProvider

Alert = Callable[[str], Awaitable[None]]
"""Told each time, with a reason that names no value, when only an operator can go on: the credential's breaker."""

Send = Callable[[], Awaitable[Reply]]
"""Sends one request, once. Raises TransientError (`unsent` when it surely was not sent)."""


class TokenSource(Protocol):
    async def current(self) -> tuple[Secret, int]:
        """The credential to send now, and its generation.

        Raises Deferred for a wait above 30 s, AuthenticationError when the connection must be authorised anew,
        ConfigurationError when a secret is missing, TransientError when there is no usable token and the store or the token
        endpoint fails.
        """

    async def rejected(self, generation: int) -> bool:
        """The vendor answered 401 to that generation. However many tell it, the token is replaced once.

        Returns whether asking again with `current` may help; if not, the credential itself is refused.
        """

    async def aclose(self) -> None:
        """Wait for an exchange that is under way."""


class StaticSource:
    """A key or a session cookie from the secret provider, read anew at each use: it is rotated without a restart."""

    def __init__(self, name: str, secrets: SecretProvider) -> None:
        self._name = name
        self._secrets = secrets
        self._last: Secret | None = None
        self._generation = 0

    async def current(self) -> tuple[Secret, int]:
        secret = await read(self._secrets, self._name)
        if secret != self._last:
            self._last, self._generation = secret, self._generation + 1
        return secret, self._generation

    async def rejected(self, generation: int) -> bool:
        """Nothing can be renewed here, but the value may have been replaced since it was read."""
        return (await self.current())[1] > generation

    async def aclose(self) -> None:
        return
