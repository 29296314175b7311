"""The control plane under `/_sim/`: truth, counts, faults, changes, log, clock and the downstream sink."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sync_pipeline.simulator.clock import micro_z
from sync_pipeline.simulator.entities import Change
from sync_pipeline.simulator.faults import FaultError
from sync_pipeline.simulator.simulation import MutationError, Simulation

PREFIX = "/_sim"
_CHANGES_AT_ONCE = 10_000


class Control:
    """Endpoints that only tests and demos call. They need no token and count against no limit."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation

    def routes(self) -> list[Route]:
        table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("GET", "/health", self._health),
            ("GET", "/truth/{vendor}/{feed}", self._truth),
            ("GET", "/catalog", self._catalog),
            ("GET", "/stats", self._stats),
            ("POST", "/reset_stats", self._reset_stats),
            ("GET", "/faults", self._faults),
            ("POST", "/faults", self._set_faults),
            ("POST", "/mutate", self._mutate),
            ("POST", "/grant", self._grant),
            ("GET", "/log", self._log),
            ("POST", "/advance", self._advance),
            ("GET", "/downstream", self._downstream),
            ("POST", "/downstream", self._receive),
        ]
        return [Route(PREFIX + path, handler, methods=[method]) for method, path, handler in table]

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"ok": True, "now": micro_z(self._sim.clock.now()), "seed": self._sim.options.seed})

    async def _truth(self, request: Request) -> Response:
        rows = self._sim.truth(f"{request.path_params['vendor']}/{request.path_params['feed']}")
        if rows is None:
            return _problem(404, "no such feed")
        found = list(rows)
        now = micro_z(self._sim.clock.now())
        return JSONResponse({"rows": found, "count": len(found), "pending_visibility": self._sim.pending(), "now": now})

    async def _catalog(self, request: Request) -> Response:
        return JSONResponse(self._sim.catalog())

    async def _stats(self, request: Request) -> Response:
        counts = {vendor: gate.stats.as_json() for vendor, gate in self._sim.gates.items()}
        return JSONResponse(
            {"vendors": counts, "pending_visibility": self._sim.pending(), "now": micro_z(self._sim.clock.now())}
        )

    async def _reset_stats(self, request: Request) -> Response:
        """Forget the counts, not the limits' windows."""
        for gate in self._sim.gates.values():
            gate.stats = type(gate.stats)()
        return JSONResponse({"ok": True})

    async def _faults(self, request: Request) -> Response:
        return JSONResponse(self._sim.faults.as_json())

    async def _set_faults(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _problem(400, "the body must be a JSON object")
        try:
            return JSONResponse(self._sim.configure_faults(body))
        except (FaultError, TypeError, AttributeError) as problem:
            return _problem(400, str(problem))

    async def _mutate(self, request: Request) -> Response:
        body = await _body(request)
        if body is None:
            return _problem(400, "the body must be a JSON object")
        try:
            if body.get("delete"):
                done = [self._sim.delete(body["vendor"], str(body["id"]))]
            elif "id" in body:
                values = body.get("set", {})
                stamped = bool(body.get("stamped", True))
                key, feed = str(body["id"]), body.get("feed")
                done = [self._sim.mutate_one(body["vendor"], key, values, feed, stamped=stamped)]
            else:
                changes = min(int(body.get("changes", 1)), _CHANGES_AT_ONCE)
                done = self._sim.mutate(body.get("vendor"), changes, body.get("actions"))
        except (MutationError, KeyError, TypeError, ValueError) as problem:
            return _problem(400, str(problem))
        return JSONResponse({"changes": [_change(change) for change in done], "count": len(done)})

    async def _grant(self, request: Request) -> Response:
        """`{"token"?, "events": [...] | null, "orders": [...] | null}`: what a pretix token sees and may view orders of."""
        body = await _body(request)
        if body is None:
            return _problem(400, "the body must be a JSON object")
        try:
            token = str(body.get("token", self._sim.options.pretix_token))
            self._sim.grant(token, body.get("events"), body.get("orders"))
        except (MutationError, TypeError) as problem:
            return _problem(400, str(problem))
        return JSONResponse({"ok": True})

    async def _log(self, request: Request) -> Response:
        after = request.query_params.get("after", "0")
        floor = int(after) if after.isdigit() else 0
        return JSONResponse({"changes": [_change(item) for item in self._sim.journal.changes if item.seq > floor]})

    async def _advance(self, request: Request) -> Response:
        body = await _body(request) or {}
        try:
            now = self._sim.advance(float(body.get("seconds", 0)))
        except (TypeError, ValueError) as problem:
            return _problem(400, str(problem))
        return JSONResponse({"now": micro_z(now)})

    async def _downstream(self, request: Request) -> Response:
        seen = self._sim.downstream
        duplicates = seen.total() - len(seen)
        return JSONResponse(
            {
                "received": seen.total() + self._sim.downstream_without_key,
                "distinct": len(seen),
                "duplicates": duplicates,
                "without_key": self._sim.downstream_without_key,
            }
        )

    async def _receive(self, request: Request) -> Response:
        """Take a registration that was handed on. A key that was seen before changes nothing and says so."""
        await request.body()
        key = request.headers.get("Idempotency-Key")
        if not key:
            self._sim.downstream_without_key += 1
            return _problem(400, "Idempotency-Key is missing")
        self._sim.downstream[key] += 1
        first = self._sim.downstream[key] == 1
        return JSONResponse({"accepted": True, "duplicate": not first}, status_code=201 if first else 200)


def _change(change: Change) -> dict[str, Any]:
    return {
        "seq": change.seq,
        "at": micro_z(change.at),
        "vendor": change.vendor,
        "feed": change.feed,
        "id": change.id,
        "action": change.action,
        "visible_at": micro_z(change.visible_at),
    }


def _problem(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)


async def _body(request: Request) -> dict[str, Any] | None:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
