"""The one place that speaks HTTP. Sends a request with its credential, returns the whole answer, names what failed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from datetime import datetime
from operator import attrgetter
from types import TracebackType
from urllib.parse import urlencode, urlsplit

import aiohttp
import certifi
from yarl import URL

from sync_pipeline.kernel.errors import ConfigurationError, PermanentError, SyncError, TransientError
from sync_pipeline.kernel.feed import AuthSpec, Connection, Naming, Reply, Request
from sync_pipeline.kernel.urls import without
from sync_pipeline.trust.secrets import Secret

MAX_BODY_BYTES = 64 * 1024 * 1024
READ_AHEAD_BYTES = 256 * 1024
HEADERS = {"user-agent": "sync-pipeline/0.1", "accept": "application/json", "accept-encoding": "gzip, deflate"}
Params = list[tuple[str, str]]


class NotSent(Exception):
    """The request had to wait for so long that it may no longer go."""


_may_go: ContextVar[Callable[[], bool]] = ContextVar("may_go")
"""Of the request that this task sends. (aiohttp takes nothing along to a connector.)"""


class _Connector(aiohttp.TCPConnector):
    """Asks whether the request may go when its connection is ready: name, TCP and TLS may take longer than a grant is good for.
    If not, the connection is kept for the next one."""

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[aiohttp.tracing.Trace], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.connector.Connection:
        made = await super().connect(req, traces, timeout)
        if not _may_go.get()():
            made.release()
            raise NotSent
        return made


class Http:
    """One connection's HTTP client: pooled, bounded, never following a redirect, never asking twice by itself."""

    def __init__(self, connection: Connection, *, now: Callable[[], datetime]) -> None:
        self._connection = connection
        self._now = now
        self._origin = _origin(connection.base_url)
        self._named = connection.api.named if isinstance(connection.api, Naming) else attrgetter("endpoint")
        self.places = asyncio.Semaphore(connection.max_in_flight)
        """In flight: whoever sends holds one."""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Http:
        limits = self._connection
        secure = self._origin.startswith("https:")
        session = aiohttp.ClientSession(
            connector=_Connector(
                limit=limits.max_in_flight,
                ssl=ssl.create_default_context(cafile=certifi.where()) if secure else True,
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=min(10.0, limits.timeout_s), sock_read=limits.timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=HEADERS,
            read_bufsize=READ_AHEAD_BYTES,
        )
        # aiohttp would repeat a request whose kept connection was closed: one that no quota has granted. It has no public
        # switch for that; tests hold it to this one.
        session._retry_connection = False
        self._session = session
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def _what(self, request: Request) -> str:
        """What was asked of whom, for messages."""
        return f"{self._connection.name} {self._named(request)}"

    def url(self, request: Request) -> str:
        """The full URL without parameters. Raises PermanentError for one that leaves the connection's host: the
        credential must not go elsewhere."""
        if "://" not in request.path:
            return f"{self._connection.base_url}/{request.path.lstrip('/')}"
        if _origin(request.path) != self._origin:
            raise PermanentError(
                f"{self._what(request)}: the vendor points to another host, which is not followed; check base_url"
            )
        return request.path

    async def send(
        self,
        request: Request,
        secret: Secret | None,
        *,
        attempts: int = 1,
        may_go: Callable[[], bool] = lambda: True,
        within_s: float | None = None,
    ) -> Reply:
        """One attempt, the whole answer read `within_s`. Raises TransientError for what the network did, and NotSent if `may_go`
        says no. It is asked at once, and again when the connection is ready, right before the request is written. The caller
        holds one of the `places`, or is the only one."""
        assert self._session is not None, "used outside its context"
        headers = dict(request.headers)
        params: Params = list(request.params)
        _authorise(self._connection.auth, secret, headers, params)
        what = self._what(request)
        if not may_go():
            raise NotSent
        _may_go.set(may_go)
        sent_at = self._now()
        try:
            async with (
                asyncio.timeout(within_s) as whole,
                self._session.request(
                    request.method,
                    _full_url(self.url(request), params),
                    headers=headers,
                    data=request.body,
                    allow_redirects=False,
                ) as response,
            ):
                body = await self._read(response, what)
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            raise TransientError(
                f"{what}: {self._origin} cannot be reached ({type(error).__name__}); check the connection's base_url "
                "and the network, it is tried again",
                unsent=True,
            ) from None
        except TimeoutError:
            if whole.expired():
                said = "the answer had not come to its end when the time for the call and its repeats was over"
                raise TransientError(f"{what}: {said}; it is asked again in the next session") from None
            raise TransientError(
                f"{what}: no answer within {self._connection.timeout_s:g} s; it is asked again"
            ) from None
        except (aiohttp.InvalidURL, UnicodeError):
            raise ConfigurationError(f"{what}: its URL cannot be used; correct base_url") from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TransientError(f"{what}: the answer broke off ({type(error).__name__}); it is asked again") from None
        return Reply(
            response.status, _combined(response.headers.items()), body, sent_at, self._now(), attempts=attempts
        )

    async def connect(self, request: Request) -> None:
        """Have a connection ready for `request`; nothing is sent. Where none can be made, the request itself will say why."""
        asked = iter((True,))  # at once: yes; when the connection is ready: no
        with contextlib.suppress(NotSent, SyncError):
            await self.send(request, None, may_go=lambda: next(asked, False))

    @staticmethod
    async def _read(response: aiohttp.ClientResponse, what: str) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise PermanentError(f"{what}: the answer is above {MAX_BODY_BYTES >> 20} MiB; ask for smaller pages")
            chunks.append(chunk)
        return b"".join(chunks)


def _full_url(url: str, params: Params) -> URL:
    """`params` beside the URL's own, in the place of those of the same name. Nothing in it is quoted anew: a vendor's link is
    asked for as it was given."""
    if params:
        url = without(url, {name for name, _ in params})
        url = f"{url}{'&' if '?' in url else '?'}{urlencode(params)}"
    return URL(url, encoded=True)


def _combined(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Lower-case names; several lines of one name are one list (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


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
