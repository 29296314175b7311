"""What is sent to a token endpoint and what its answer means. Pure: the gateway's HTTP client sends it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sync_pipeline.gateway.feedback import retry_after
from sync_pipeline.gateway.static_source import Send
from sync_pipeline.gateway.tokens import Lost, Minted, Outcome, Refused, Unspent
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import AuthSpec, Connection, Reply, Request
from sync_pipeline.kernel.grants import Grant
from sync_pipeline.trust.secrets import Secret

ASSERTION_S = 180
"""Life of a signed assertion: Salesforce takes at most three minutes (its JWT bearer flow)."""

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
DEAD = frozenset({"invalid_grant", "bad_refresh_token", "inactive_user"})
"""Codes that say the refresh token is dead: RFC 6749 (5.2), HubSpot, Salesforce."""

KNOWN = DEAD | {
    "invalid_client", "invalid_request", "invalid_scope", "unauthorized_client", "unsupported_grant_type",
    "access_denied", "invalid_client_id",
}  # fmt: skip
"""Codes that may be shown; any other text of the vendor's is not."""


UNREADABLE = (ValueError, RecursionError)
"""JSON that is none, or nested too deep. It comes after a refresh token was shown, so it is read as an answer that was lost."""


def token_connection(connection: Connection, grant: Grant) -> Connection:
    """The connection to the token endpoint, for an `Http` of its own. Connecting and reading each get half the exchange's
    time, so that a host that cannot be reached is known for that and not for a lost answer."""
    return replace(
        connection,
        base_url=grant.base_url or connection.base_url,
        auth=AuthSpec("none"),
        timeout_s=grant.timeout_s / 2,
    )


class Exchange(Protocol):
    """Waits until a request may go to the token endpoint; nothing is sent before what it returns is called, which is to be
    at once. Raises TransientError when it may not go."""

    async def __call__(self, request: Request) -> Send: ...


@dataclass(frozen=True, slots=True)
class Pair:
    """An access token and, where there is one, the refresh token that renews it."""

    access: Secret
    refresh: Secret | None = None


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: the client's id and secret, read anew for each exchange, so that both can be changed without a restart."""

    id: Secret | None = None
    secret: Secret | None = None


def request_for(grant: Grant, client: Client, pair: Pair | None, now: datetime) -> Request:
    """The exchange's request. Raises ConfigurationError when something it needs is missing."""
    fields = dict(_grant_fields(grant, client, pair, now)) | dict(grant.extra)
    headers: list[tuple[str, str]] = []
    if grant.scope is not None:
        fields["scope"] = grant.scope
    if grant.kind != "jwt_bearer":
        shown, headers = _shown(grant, client)
        fields |= shown
    if grant.encoding == "json":
        body, kind = json.dumps(fields).encode(), "application/json"
    else:
        body, kind = urlencode(fields).encode(), "application/x-www-form-urlencoded"
    headers.append(("content-type", kind))
    return Request(grant.path, grant.path, method="POST", headers=tuple(headers), body=body, idempotent=False)


def _shown(grant: Grant, client: Client) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Who asks, as fields and headers (RFC 6749, 2.3.1). A public client has nothing to prove it by."""
    if grant.client_auth == "none" and client.id is not None:
        return {"client_id": client.id.reveal()}, []
    if client.id is None or client.secret is None:
        needs = "a client id" if grant.client_auth == "none" else "a client id and a client secret"
        raise ConfigurationError(f"{grant.path}: a {grant.kind} exchange needs {needs}")
    if grant.client_auth == "basic":
        # Each half is form-encoded before it is joined.
        text = f"{quote_plus(client.id.reveal())}:{quote_plus(client.secret.reveal())}"
        return {}, [("authorization", "Basic " + base64.b64encode(text.encode()).decode())]
    return {"client_id": client.id.reveal(), "client_secret": client.secret.reveal()}, []


def _grant_fields(grant: Grant, client: Client, pair: Pair | None, now: datetime) -> dict[str, str]:
    match grant.kind:
        case "client_credentials":
            return {"grant_type": "client_credentials"}
        case "refresh_token":
            if pair is None or pair.refresh is None:
                raise ConfigurationError(f"{grant.path}: there is no refresh token; authorise the connection first")
            return {"grant_type": "refresh_token", "refresh_token": pair.refresh.reveal()}
        case "jwt_exchange":
            return {}
        case "jwt_bearer":
            return {"grant_type": JWT_BEARER, "assertion": _assertion(grant, client, now)}
        case "static":
            raise ConfigurationError("a static key is not exchanged")


def _assertion(grant: Grant, client: Client, now: datetime) -> str:
    """RFC 7523, 3: iss, sub, aud, exp; signed with RS256."""
    if client.id is None or client.secret is None or grant.subject is None or grant.audience is None:
        raise ConfigurationError(f"{grant.path}: a signed assertion needs client id, private key, subject and audience")
    try:
        key = serialization.load_pem_private_key(client.secret.reveal().encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError(f"{grant.client_secret_env} must hold an RSA private key in PEM without a password")
    claims = {
        "iss": client.id.reveal(),
        "sub": grant.subject,
        "aud": grant.audience,
        "exp": int(now.timestamp()) + ASSERTION_S,
    }
    text = f"{_b64({'alg': 'RS256', 'typ': 'JWT'})}.{_b64(claims)}"
    return f"{text}.{_url64(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def _b64(value: Mapping[str, Any]) -> str:
    return _url64(json.dumps(value, separators=(",", ":")).encode())


def _url64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def read(grant: Grant, reply: Reply, old: Pair | None) -> tuple[Outcome, Pair | None]:
    """The answer's meaning, and the new pair if there is one. A refresh token that was not replaced is kept."""
    fields = _fields(reply.body)
    if 200 <= reply.status < 300:  # a pair that comes with 202 is a pair: the old one is spent
        access = fields.get(grant.token_field)
        if not isinstance(access, str) or not access:
            return Lost(), None
        given = fields.get("refresh_token")
        refresh = Secret(given) if isinstance(given, str) and given else None
        lifetime = _seconds(fields.get("expires_in"))
        if lifetime is None:
            lifetime = jwt_lifetime_s(access)
        kept = refresh or (old.refresh if old else None)
        return Minted(lifetime, rotated=refresh is not None), Pair(Secret(access), kept)
    asked = retry_after(reply.headers, reply.received_at)
    asked_s = None if asked is None else asked.total_seconds()
    if reply.status in (429, 503):
        return Unspent(asked_s), None
    if reply.status in (408, 425) or reply.status >= 500:
        return Lost(asked_s), None
    said = fields.get("error") or fields.get("status") or fields.get("code")
    code = said.lower() if isinstance(said, str) else ""
    return Refused(code if code in KNOWN else f"status {reply.status}", code in DEAD, asked_s), None


def _fields(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except UNREADABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(value: object) -> float | None:
    """Some vendors write `expires_in` as text. Nonsense is not said."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and 0 < seconds < 10 * 366 * 86400 else None


def jwt_lifetime_s(token: str) -> float | None:
    """`exp - iat` of a JWT, without judging its signature; the difference does not depend on anyone's clock."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except UNREADABLE:
        return None
    if not isinstance(claims, dict):
        return None
    begins, ends = _instant(claims.get("iat")), _instant(claims.get("exp"))
    return None if begins is None or ends is None else _seconds(ends - begins)


def _instant(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
