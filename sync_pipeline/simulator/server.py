"""Serving the simulator over TCP, in the foreground or beside a test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from sync_pipeline.simulator.app import build_app
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.wire import Connections

_START_TIMEOUT_S = 30.0
_BACKLOG = 2048


class ListenError(OSError):
    """A port that cannot be had."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where a simulator listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def eventbrite_url(self) -> str:
        return f"{self.url}/eventbrite/v3"

    @property
    def pretix_url(self) -> str:
        return f"{self.url}/pretix/api/v1"


def _protocol(connections: Connections) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with its connections noted by peer so that a fault can break one."""

    class Noted(H11Protocol):
        _peer: Any = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._peer = transport.get_extra_info("peername")
            connections[self._peer] = transport
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            connections.pop(self._peer, None)
            super().connection_lost(exc)

    return Noted


def _server(options: SimulatorOptions) -> _Server:
    app = build_app(options)
    config = uvicorn.Config(
        app,
        http=_protocol(app.state.simulation.connections),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    return _Server(config)


def serve(host: str, port: int, options: SimulatorOptions) -> None:
    """Serve until interrupted (SIGINT or SIGTERM). Raises ListenError when the port cannot be had."""
    with _listening(host, port) as listener, contextlib.suppress(KeyboardInterrupt):
        _server(options).run(sockets=[listener])


@contextlib.contextmanager
def running(options: SimulatorOptions, port: int = 0) -> Iterator[Running]:
    """Serve on 127.0.0.1 from a background thread while the block runs. Port 0: a free one.

    Raises ListenError when the port cannot be had, RuntimeError when the server does not come up.
    """
    with _listening("127.0.0.1", port) as listener:
        server = _Threaded(_server(options), listener)
        server.start()
        try:
            yield Running("127.0.0.1", listener.getsockname()[1])
        finally:
            server.stop()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    # With the protocol named, asyncio turns Nagle off; otherwise each answer waits 40 ms for an acknowledgement.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else "ports are 0 to 65535"
            raise ListenError(f"cannot listen on {host}:{port}: {why}") from None
        yield listener


class _Server(uvicorn.Server):
    """A server that says when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


class _Threaded:
    def __init__(self, server: _Server, listener: socket.socket) -> None:
        self._server = server
        self._thread = threading.Thread(target=self._run, args=(listener,), name="simulator", daemon=True)

    def _run(self, listener: socket.socket) -> None:
        asyncio.run(self._server.serve(sockets=[listener]))

    def start(self) -> None:
        self._thread.start()
        if not self._server.up.wait(_START_TIMEOUT_S):
            raise RuntimeError("the simulator did not start in time")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(_START_TIMEOUT_S)
