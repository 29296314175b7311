"""Where registrations are handed on to."""

from __future__ import annotations

from typing import Protocol

from sync_pipeline.gateway.http import Http
from sync_pipeline.kernel.errors import PermanentError, TransientError
from sync_pipeline.kernel.feed import Request
from sync_pipeline.trust.providers import read
from sync_pipeline.trust.secrets import SecretProvider


class Sink(Protocol):
    async def hand_on(self, key: str, payload: bytes) -> None:
        """Deliver once more is harmless: the key tells the receiver what it has seen.

        Raises TransientError (try again later) or PermanentError (this one will never be taken).
        """


class HttpSink:
    """POST of the canonical row as JSON, with an `Idempotency-Key` header. 2xx is taken, 4xx is refused for good (but 401,
    403, 408, 409, 425 and 429), anything else is tried again: a redirect is how the receiver is set up, not what it says of this
    registration."""

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
        secret = await read(self._secrets, self._secret_env) if self._secret_env else None
        reply = await self._http.send(request, secret)
        if reply.status < 300:
            return
        what = f"handoff: the receiver answers HTTP {reply.status}"
        if 400 <= reply.status < 500 and reply.status not in (401, 403, 408, 409, 425, 429):
            raise PermanentError(
                f"{what}, it refuses this registration; it is kept as a dead letter", status=reply.status
            )
        raise TransientError(f"{what}; all waiting registrations are tried again", status=reply.status)
