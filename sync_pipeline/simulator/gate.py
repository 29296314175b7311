"""What every request to a vendor passes before it is answered: the token, the limit, then any fault."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from sync_pipeline.simulator.clock import SimClock
from sync_pipeline.simulator.faults import KINDS, Fault, FaultPlan
from sync_pipeline.simulator.limits import Limiter
from sync_pipeline.simulator.stats import VendorStats
from sync_pipeline.simulator.wire import BrokenResponse, Connections

_ANYWHERE = frozenset(KINDS) - {"duplicates", "expansion_failed", "bad_continuation"}
_HTML = "<html><head><title>503 Service Unavailable</title></head><body><h1>We will be back soon</h1></body></html>"


@dataclass(slots=True)
class Call:
    """A request on its way to a handler. `duplicates`: this page must repeat some of its records."""

    request: Request
    endpoint: str
    duplicates: bool = False

    def query(self, name: str) -> str | None:
        return self.request.query_params.get(name)


Handler = Callable[[Call], Response]


class Dialect(Protocol):
    """How a vendor words its refusals."""

    vendor: str

    def credential_problem(self, request: Request) -> Response | None: ...

    def limited(self, window: int, wait: float) -> Response: ...

    def error(self, status: int) -> Response: ...

    def special(self, kind: str) -> Response: ...

    def special_kinds(self, request: Request) -> frozenset[str]: ...


class Gate:
    """Counts, refuses and breaks on behalf of one vendor."""

    def __init__(
        self,
        dialect: Dialect,
        limiter: Limiter,
        faults: FaultPlan,
        clock: SimClock,
        connections: Connections,
        latency_s: float,
    ) -> None:
        self.dialect = dialect
        self.limiter = limiter
        self.stats = VendorStats()
        self._faults = faults
        self._clock = clock
        self._connections = connections
        self._latency_s = latency_s

    def endpoint(self, template: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """An ASGI-side endpoint for Starlette that answers through this gate."""

        async def answer(request: Request) -> Response:
            self.stats.arrived(template)
            response = await self._answer(Call(request, template), handler)
            self.stats.answered(template, None if isinstance(response, BrokenResponse) else response.status_code)
            return response

        return answer

    async def _answer(self, call: Call, handler: Handler) -> Response:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        refused = self.dialect.credential_problem(call.request)
        if refused is not None:
            return refused
        wait, window = self.limiter.take(self._clock.seconds())
        if window >= 0:
            self.stats.limit_breaches += 1
            return self.dialect.limited(window, wait)
        kinds = _ANYWHERE | self.dialect.special_kinds(call.request)
        fault = self._faults.draw(self.dialect.vendor, call.endpoint, applicable=kinds)
        if fault is None:
            return handler(call)
        self.stats.faults[fault.kind] += 1
        return await self._spoil(call, handler, fault)

    async def _spoil(self, call: Call, handler: Handler, fault: Fault) -> Response:
        kind = fault.kind
        if kind == "slow":
            await asyncio.sleep(fault.seconds)
            return handler(call)
        if kind == "duplicates":
            call.duplicates = True
            return handler(call)
        if kind == "html":
            return Response(_HTML, 200, media_type="text/html")
        if kind == "empty_body":
            return Response(b"", 200, media_type="application/json")
        if kind in ("reset", "reset_mid_body", "truncated"):
            whole = handler(call)
            keep = None if kind == "reset" else len(whole.body) // 2
            return BrokenResponse(whole, self._connections, keep=keep, reset=kind != "truncated")
        if kind in self.dialect.special_kinds(call.request):
            return self.dialect.special(kind)
        _, status, form = f"{kind}_".split("_")[:3]
        response = self.dialect.error(int(status))
        if form == "seconds":
            response.headers["Retry-After"] = str(math.ceil(fault.seconds))
        elif form == "date":
            until = self._clock.now() + timedelta(seconds=math.ceil(fault.seconds))
            response.headers["Retry-After"] = format_datetime(until, usegmt=True)
        return response
