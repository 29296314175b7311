"""The one place that speaks HTTP. Sends a request with its credential, returns the whole answer, names what failed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from urllib.parse import urlsplit

import httpx

from sync_pipeline.kernel.errors import ConfigurationError, PermanentError, TransientError
from sync_pipeline.kernel.feed import AuthSpec, Connection, Reply, Request
from sync_pipeline.trust.secrets import Secret

MAX_BODY_BYTES = 64 * 1024 * 1024
HEADERS = {
    "user-agent": "sync-pipeline/0.1",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
}
Params = list[tuple[str, str | int | float | bool | None]]


class Http:
    """One connection's HTTP client: pooled, bounded, never following a redirect."""

    def __init__(
        self, connection: Connection, *, now: Callable[[], datetime], transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._connection = connection
        self._now = now
        self._origin = _origin(connection.base_url)
        self._in_flight = asyncio.Semaphore(connection.max_in_flight)
        limits = httpx.Limits(
            max_connections=connection.max_in_flight, max_keepalive_connections=connection.max_in_flight
        )
        # The transport without httpx's client around it: redirects, cookies and proxies are not wanted, and leaving the
        # client out halves what a call costs us.
        self._transport = transport or httpx.AsyncHTTPTransport(limits=limits, trust_env=False)
        timeout = httpx.Timeout(connection.timeout_s, connect=min(10.0, connection.timeout_s))
        self._extensions = {"timeout": timeout.as_dict()}

    async def __aenter__(self) -> Http:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, trace)

    def url(self, request: Request) -> str:
        """The full URL without parameters. Raises PermanentError for one that leaves the connection's host: the
        credential must not go elsewhere."""
        if "://" not in request.path:
            return f"{self._connection.base_url}/{request.path.lstrip('/')}"
        if _origin(request.path) != self._origin:
            raise PermanentError(
                f"{self._connection.name} {request.endpoint}: the vendor points to another host, which is not followed; "
                "check base_url"
            )
        return request.path

    async def send(
        self,
        request: Request,
        secret: Secret | None,
        *,
        extra_headers: Mapping[str, str] | None = None,
        attempts: int = 1,
    ) -> Reply:
        """One attempt. Raises TransientError for what the network did."""
        headers = HEADERS | dict(request.headers)
        if extra_headers:
            headers.update(extra_headers)
        params: Params = list(request.params)
        _authorise(self._connection.auth, secret, headers, params)
        what = f"{self._connection.name} {request.endpoint}"
        async with self._in_flight:
            sent_at = self._now()
            try:
                built = httpx.Request(
                    request.method,
                    self.url(request),
                    params=params or None,
                    headers=headers,
                    content=request.body,
                    extensions=self._extensions,
                )
                response = await self._transport.handle_async_request(built)
                try:
                    body = await self._read(response, what)
                finally:
                    await response.aclose()
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise TransientError(
                    f"{what}: {self._origin} cannot be reached ({type(error).__name__}); check the connection's base_url "
                    "and the network, it is tried again",
                    unsent=True,
                ) from None
            except httpx.TimeoutException:
                raise TransientError(
                    f"{what}: no answer within {self._connection.timeout_s:g} s; it is asked again"
                ) from None
            except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):
                raise ConfigurationError(f"{what}: its URL cannot be used; correct base_url") from None
            except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as error:
                raise TransientError(
                    f"{what}: the answer broke off ({type(error).__name__}); it is asked again"
                ) from None
        headers_in = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers_in, body, sent_at, self._now(), attempts=attempts)

    @staticmethod
    async def _read(response: httpx.Response, what: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.aiter_bytes():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise PermanentError(f"{what}: the answer is above {MAX_BODY_BYTES >> 20} MiB; ask for smaller pages")
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}"


def _authorise(spec: AuthSpec, secret: Secret | None, headers: dict[str, str], params: Params) -> None:
    if spec.kind == "none" or secret is None:
        return
    value = secret.reveal()
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(
            f"the secret in {spec.secret_env} holds characters that no header can carry; set it again without them"
        )
    match spec.kind:
        case "bearer":
            headers["authorization"] = f"Bearer {value}"
        case "header":
            headers[spec.name] = f"{spec.prefix}{value}"
        case "basic":
            headers["authorization"] = "Basic " + base64.b64encode(value.encode()).decode()
        case "query":
            params.append((spec.name, value))
