"""A vendor with a token endpoint and one resource, on real HTTP. It keeps its own books and shares no code with ours."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class TokenVendor:
    """Rotates refresh tokens strictly: one that is spent and shown again, after the grace, revokes the whole family."""

    lifetime_s: float = 3600
    grace_s: float = 0.0
    revokes_old: bool = False
    now: Callable[[], float] = time.time
    client_secret: str = "client-secret-11"
    before_answer: Callable[[], Awaitable[None]] | None = None
    turn_away: int = 0
    """So many exchanges are answered 503 before anything is looked at."""

    refresh: str = ""
    spent: dict[str, float] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    """Every token ever given."""

    exchanges: list[str] = field(default_factory=list)
    """The refresh token of each exchange that was made."""

    asked: int = 0
    breaches: int = 0
    calls: int = 0
    answers_401: int = 0
    port: int = 0

    def authorise(self) -> tuple[str, str]:
        """What an operator does in the vendor's pages: a new family."""
        self.access.clear()
        return self._mint()

    def _mint(self) -> tuple[str, str]:
        access, self.refresh = f"access-{secrets.token_hex(12)}", f"refresh-{secrets.token_hex(12)}"
        if self.revokes_old:
            self.access.clear()
        self.access[access] = self.now() + self.lifetime_s
        self.given += [access, self.refresh]
        return access, self.refresh

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked += 1
        if self.turn_away:
            self.turn_away -= 1
            return web.json_response({"error": "temporarily_unavailable"}, status=503)
        if form.get("client_secret") != self.client_secret:
            return web.json_response({"error": "invalid_client"}, status=401)
        shown = str(form.get("refresh_token"))
        if shown in self.spent and self.now() > self.spent[shown] + self.grace_s:
            self.breaches += 1
            self.refresh = ""
            self.access.clear()
        elif shown == self.refresh or shown in self.spent:
            self.spent.setdefault(shown, self.now())
            self.exchanges.append(shown)
            access, refresh = self._mint()
            if self.before_answer is not None:
                await self.before_answer()
            return web.json_response({"access_token": access, "refresh_token": refresh, "expires_in": self.lifetime_s})
        return web.json_response({"error": "invalid_grant", "error_description": f"{shown} is no good"}, status=400)

    async def _thing(self, request: web.Request) -> web.Response:
        self.calls += 1
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.now() >= self.access.get(shown, 0):
            self.answers_401 += 1
            return web.json_response({"error": "invalid_token"}, status=401)
        return web.json_response({})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[TokenVendor]:
        app = web.Application()
        app.router.add_post("/oauth/token", self._token)
        app.router.add_get("/thing", self._thing)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        try:
            yield self
        finally:
            await runner.cleanup()
            await asyncio.sleep(0)
