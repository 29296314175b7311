"""How a connection comes by its access tokens: names, addresses and numbers, never a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sync_pipeline.kernel.errors import ConfigurationError

GrantKind = Literal["static", "client_credentials", "refresh_token", "jwt_exchange", "jwt_bearer"]
ClientAuth = Literal["body", "basic", "none"]


@dataclass(frozen=True, slots=True)
class MintLimit:
    """At most `limit` exchanges in any `seconds`; one that failed or was lost counts too. `source`: who says so."""

    limit: int
    seconds: float
    source: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """One way to get a token. Raises ConfigurationError for a path that is none.

    kinds: static (a key or cookie from the secret provider, no exchange), client_credentials (RFC 6749, 4.4),
    refresh_token (RFC 6749, 6), jwt_exchange (client id and secret for a JWT, as at Booking.com), jwt_bearer (a signed
    assertion, RFC 7523). The last two have no refresh token: the exchange itself is made again.
    """

    kind: GrantKind
    path: str = ""
    """The token endpoint: a path under `base_url`."""

    base_url: str | None = None
    """The token endpoint's host; None: the connection's own."""

    client_id_env: str | None = None
    client_secret_env: str | None = None
    """Names of the secrets. For `static` the second names the key; for `jwt_bearer` the private key (PEM)."""

    client_auth: ClientAuth = "body"
    """How the client shows its id and secret. `none`: a public client, which has an id only (RFC 6749, 2.1)."""

    encoding: Literal["form", "json"] = "form"
    token_field: str = "access_token"  # noqa: S105
    scope: str | None = None
    extra: tuple[tuple[str, str], ...] = ()
    """Further fields of the request that are no secret (`redirect_uri`, `expires_in`)."""

    subject: str | None = None
    audience: str | None = None
    """`sub` and `aud` of the assertion (`jwt_bearer` only)."""

    lifetime_s: float | None = None
    """Lifetime where neither `expires_in` nor the JWT states one. None: known to have ended only by an answer 401."""

    rotates: bool = True
    """A refresh spends the refresh token. When an answer is lost, it may be spent: it is not shown again blindly."""

    grace_s: float = 0.0
    """How long after its first use the vendor still takes a spent refresh token (its documented leeway)."""

    revokes_old: bool = False
    """A refresh ends the old access token at once: nobody uses it while a refresh is under way."""

    mint: MintLimit | None = None
    timeout_s: float = 10.0
    """Longest time an exchange may be under way; one recorded longer ago has lost its answer."""

    def __post_init__(self) -> None:
        if self.kind != "static" and not self.path.startswith("/"):
            raise ConfigurationError(f"the token endpoint's path begins with a slash, which {self.path!r} does not")

    @property
    def spends(self) -> bool:
        """Whether an exchange may spend what the next one needs."""
        return self.kind == "refresh_token" and self.rotates
