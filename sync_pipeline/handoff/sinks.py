"""Where registrations are handed on to."""

from __future__ import annotations

from typing import Protocol

from sync_pipeline.gateway.feedback import retry_after
from sync_pipeline.gateway.http import Http
from sync_pipeline.kernel.errors import ConfigurationError, PermanentError, ReceiverAway, TransientError
from sync_pipeline.kernel.feed import Reply, Request
from sync_pipeline.trust.providers import read
from sync_pipeline.trust.secrets import Secret, SecretProvider

OF_ANY = (401, 403, 429)
"""Answers below 500 that any registration would get: it is our credential, or how often we come."""

NOT_NOW = (408, 409, 425)
"""Answers below 500 that this registration may not get the next time."""


class Sink(Protocol):
    async def hand_on(self, key: str, payload: bytes) -> None:
        """Deliver once more is harmless: the key tells the receiver what it has seen.

        Raises ReceiverAway (none is taken now), TransientError (this one was not taken; try again later) or PermanentError (this
        one will never be taken).
        """


class HttpSink:
    """POST of the canonical row as JSON, with an `Idempotency-Key` header. 2xx is taken, 4xx is refused for good (but those of
    `OF_ANY` and `NOT_NOW`), anything else is tried again. A redirect is how the receiver is set up, not what it says of this
    registration, and so is an answer with `Retry-After`, or none at all because it cannot be reached."""

    def __init__(self, http: Http, *, path: str, secret_env: str | None, secrets: SecretProvider) -> None:
        self._http = http
        self._path = path
        self._secret_env = secret_env
        self._secrets = secrets

    async def hand_on(self, key: str, payload: bytes) -> None:
        request = Request(
            "handoff",
            self._path,
            method="POST",
            body=payload,
            headers=(("content-type", "application/json"), ("idempotency-key", key)),
        )
        secret = await self._secret(self._secret_env) if self._secret_env else None
        try:
            reply = await self._http.send(request, secret)
        except TransientError as error:
            if error.unsent:
                raise ReceiverAway(str(error), unsent=True) from None
            raise
        if reply.status >= 300:
            raise _refusal(reply)

    async def _secret(self, name: str) -> Secret:
        try:
            return await read(self._secrets, name)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"handoff: the receiver's token cannot be read, nothing is handed on: {error}"
            ) from None


def _refusal(reply: Reply) -> PermanentError | TransientError:
    """What an answer that is not 2xx says of the registration, or of all."""
    what = f"handoff: the receiver answers HTTP {reply.status}"
    asked = retry_after(reply.headers, reply.received_at)
    if reply.status < 400 or reply.status in OF_ANY or (asked is not None and reply.status >= 500):
        return ReceiverAway(
            f"{what}; all waiting registrations are tried again", status=reply.status, retry_after=asked
        )
    if reply.status >= 500 or reply.status in NOT_NOW:
        return TransientError(f"{what}; this registration is tried again", status=reply.status)
    return PermanentError(f"{what}, it refuses this registration; it is kept as a dead letter", status=reply.status)
