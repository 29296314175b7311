"""Answers that misbehave on the wire: connections reset, bodies cut short."""

from __future__ import annotations

import asyncio
import socket
import struct

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Peer = tuple[str, int]
Connections = dict[Peer, asyncio.Transport]


class BrokenResponse(Response):
    """Sends the head and the first `keep` bytes (nothing at all when None), then ends the connection.

    `reset` ends it with RST, otherwise with FIN, as when a proxy in between gives up. `Content-Length` promises it all.
    """

    def __init__(self, whole: Response, connections: Connections, *, keep: int | None, reset: bool) -> None:
        super().__init__(content=whole.body, status_code=whole.status_code)
        self.raw_headers = list(whole.raw_headers)
        self._connections = connections
        self._keep = keep
        self._reset = reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = self._connections.get(tuple(scope["client"]) if scope.get("client") else ("", 0))
        if transport is None:
            raise ConnectionResetError("this fault needs a real connection: serve the simulator over TCP")
        if self._keep is not None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": bytes(self.body)[: self._keep], "more_body": True})
            # Let the bytes reach the client first: a reset throws away what it has not read.
            await asyncio.sleep(0.02)
        if self._reset:
            raw: socket.socket = transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
        while (await receive())["type"] != "http.disconnect":
            pass
