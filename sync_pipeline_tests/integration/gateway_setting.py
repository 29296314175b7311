"""A scripted vendor on real HTTP, and gateways that ask it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import AuthSpec, Connection, Lane, QuotaWindow, Request
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline.vendors.rest import RestApi
from sync_pipeline.vendors.rest_options import RateHeaders

WIDE = (QuotaWindow("minute", 6000, 60, burst=1000),)
GET = Request("/things/{id}", "/things/1")


class SkippingClock:
    """The system's clock, except that sleeping takes no time and is written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def answer(status: int, body: bytes = b"{}", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class Vendor:
    """A server that answers from a script, then 200; it notes what it was asked and when."""

    script: list[bytes] = field(default_factory=list)
    default: bytes = field(default_factory=lambda: answer(200))
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    delay: float = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Vendor]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
                self.at.append(asyncio.get_running_loop().time())
                self.asked.set()
                self.seen.append((lines[0].split(" ")[1], headers))
                await asyncio.sleep(self.delay)
                reply = self.script.pop(0) if self.script else self.default
                writer.write(reply)
                await writer.drain()
                if b"close-now" in reply or not reply:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def connection(self, **more: object) -> Connection:
        windows = more.pop("windows", WIDE)
        made = Connection(
            name="shop",
            api=RestApi(windows, RateHeaders()),  # type: ignore[arg-type]
            base_url=f"http://127.0.0.1:{self.port}",
            auth=AuthSpec("bearer", "SHOP_TOKEN"),
            windows=windows,  # type: ignore[arg-type]
            feeds={},
            timeout_s=2,
        )
        return replace(made, **more)  # type: ignore[arg-type]


def gateway(
    vendor: Vendor, database: Database, clock: SkippingClock | SystemClock | None = None, **more: object
) -> Gateway:
    env = {"SHOP_TOKEN": "s3cr3t-token"}
    return Gateway(
        vendor.connection(**more),
        database=database,
        secrets=EnvironmentSecrets(env),
        clock=clock or SkippingClock(),
        rng=random.Random(1),
    )


async def send(opened: Gateway, request: Request = GET, lane: Lane = "P0") -> int:
    return (await opened.send(request, feed="things", correlation_id="c1", lane=lane)).status
