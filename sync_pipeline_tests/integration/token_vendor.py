"""A vendor with a token endpoint and one resource, on real HTTP. It keeps its own books and shares no code with ours."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


@dataclass
class TokenVendor:
    """Rotates refresh tokens strictly: one that is spent and shown again, after the grace, revokes the whole family.

    It gives access tokens for client credentials and for a signed assertion too; and, at an address of its own, a JWT for
    client id and secret in JSON (as Booking.com does)."""

    lifetime_s: float = 3600
    grace_s: float = 0.0
    revokes_old: bool = False
    now: Callable[[], float] = time.time
    client_id: str = "client-11"
    client_secret: str | None = "client-secret-11"
    """None: the client is a public one, and has to come without."""

    public_key: rsa.RSAPublicKey | None = None
    """Of the key that assertions are signed with."""

    subject: str = "sync@shop.example"
    audience: str = "https://login.shop.example"
    mint_limit: int | None = None
    """Most exchanges in an hour."""

    before_answer: Callable[[], Awaitable[None]] | None = None
    turn_away: int = 0
    """So many exchanges are answered 503 before anything is looked at."""

    refresh: str = ""
    spent: dict[str, float] = field(default_factory=dict)
    access: dict[str, float] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    """Every token ever given."""

    exchanges: list[str] = field(default_factory=list)
    """What was shown in each exchange that was made: the refresh token, else the kind of grant."""

    minted: list[float] = field(default_factory=list)
    """When."""

    over_limit: int = 0
    """Exchanges that came above the mint limit."""

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
        self.refresh = f"refresh-{secrets.token_hex(12)}"
        return self._give(f"access-{secrets.token_hex(12)}"), self.refresh

    def _give(self, access: str) -> str:
        if self.revokes_old:
            self.access.clear()
        self.access[access] = self.now() + self.lifetime_s
        self.given += [access, self.refresh] if self.refresh else [access]
        return access

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if (refusal := self._door(form, request)) is not None:
            return refusal
        match form.get("grant_type"):
            case "client_credentials":
                shown = "client_credentials"
            case kind if kind == JWT_BEARER and self._signed(form.get("assertion", "")):
                shown = "jwt_bearer"
            case "refresh_token":
                return await self._refreshed(form.get("refresh_token", ""))
            case _:
                return web.json_response({"error": "invalid_grant"}, status=400)
        self._count(shown)
        access = self._give(f"access-{secrets.token_hex(12)}")
        return web.json_response({"access_token": access, "expires_in": self.lifetime_s})

    async def _exchange(self, request: web.Request) -> web.Response:
        if (refusal := self._door(await request.json(), request)) is not None:
            return refusal
        self._count("jwt_exchange")
        claims = {"iat": self.now(), "exp": self.now() + self.lifetime_s, "jti": secrets.token_hex(12)}
        text = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        return web.json_response({"jwt": self._give(f"header.{text}.signature"), "ruid": "r-1"})

    def _door(self, form: dict[str, str], request: web.Request) -> web.Response | None:
        """What is answered before the grant is looked at."""
        self.asked += 1
        if self.turn_away:
            self.turn_away -= 1
            return web.json_response({"error": "temporarily_unavailable"}, status=503)
        if self.mint_limit is not None and sum(at > self.now() - 3600 for at in self.minted) >= self.mint_limit:
            self.over_limit += 1
            return web.json_response({"error": "too many tokens"}, status=429)
        if form.get("grant_type") == JWT_BEARER or self._knows(form, request.headers.get("authorization")):
            return None
        return web.json_response({"error": "invalid_client"}, status=401)

    def _knows(self, form: dict[str, str], header: str | None) -> bool:
        """By id and secret, in the body or by basic authentication, but not by both."""
        shown = (form.get("client_id"), form.get("client_secret"))
        if header is not None:
            basic = base64.b64decode(header.removeprefix("Basic ")).decode()
            return basic == f"{self.client_id}:{self.client_secret}" and shown == (None, None)
        return shown == (self.client_id, self.client_secret)

    def _signed(self, assertion: str) -> bool:
        """RFC 7523, 3: by the client's key (RS256), about the user it may act for, for us, and for a few minutes only."""
        text, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(base64.urlsafe_b64decode(f"{part}===")) for part in text.split("."))
        assert self.public_key is not None
        try:
            self.public_key.verify(
                base64.urlsafe_b64decode(f"{signature}==="), text.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return False
        named = {"iss": self.client_id, "sub": self.subject, "aud": self.audience}
        lives = self.now() < claims.pop("exp") <= self.now() + 180
        return lives and header == {"alg": "RS256", "typ": "JWT"} and claims == named

    def _count(self, shown: str) -> None:
        self.exchanges.append(shown)
        self.minted.append(self.now())

    async def _refreshed(self, shown: str) -> web.Response:
        if shown in self.spent and self.now() > self.spent[shown] + self.grace_s:
            self.breaches += 1
            self.refresh = ""
            self.access.clear()
        elif shown == self.refresh or shown in self.spent:
            self.spent.setdefault(shown, self.now())
            self._count(shown)
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
        app.router.add_post("/token-based-authentication/exchange", self._exchange)
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
