"""How vendors give tokens, as they document it. The names of the secrets are the connection's."""

from __future__ import annotations

from sync_pipeline.kernel.grants import Grant, MintLimit


def booking(client_id_env: str, client_secret_env: str) -> Grant:
    """Booking.com Connectivity, token-based authentication: a JWT of an hour, at most 30 an hour for a machine account."""
    return Grant(
        "jwt_exchange",
        "/token-based-authentication/exchange",
        base_url="https://connectivity-authentication.booking.com",
        client_id_env=client_id_env,
        client_secret_env=client_secret_env,
        encoding="json",
        token_field="jwt",  # noqa: S106
        lifetime_s=3600,
        mint=MintLimit(30, 3600, "Booking.com Connectivity, token-based authentication"),
    )


def apaleo(client_id_env: str, client_secret_env: str, *, scope: str | None = None) -> Grant:
    """Apaleo, OAuth connection, simple client: client credentials by basic authentication."""
    return Grant(
        "client_credentials",
        "/connect/token",
        base_url="https://identity.apaleo.com",
        client_id_env=client_id_env,
        client_secret_env=client_secret_env,
        client_auth="basic",
        scope=scope,
    )


def hubspot(client_id_env: str, client_secret_env: str, *, redirect_uri: str) -> Grant:
    """HubSpot, oauth/v1: half an hour; the refresh token stays the same."""
    return Grant(
        "refresh_token",
        "/oauth/v1/token",
        base_url="https://api.hubapi.com",
        client_id_env=client_id_env,
        client_secret_env=client_secret_env,
        extra=(("redirect_uri", redirect_uri),),
        lifetime_s=1800,
        rotates=False,
    )


def zendesk(client_id_env: str, client_secret_env: str) -> Grant:
    """Zendesk, oauth/tokens: a refresh gives a new pair and ends the old one at once."""
    return Grant(
        "refresh_token",
        "/oauth/tokens",
        client_id_env=client_id_env,
        client_secret_env=client_secret_env,
        encoding="json",
        extra=(("expires_in", "172800"),),
        lifetime_s=172_800,
        revokes_old=True,
    )


def salesforce(client_id_env: str, client_secret_env: str, *, base_url: str | None = None) -> Grant:
    """Salesforce, refresh token flow: rotation may be on; the answer states no lifetime, which is the org's session
    timeout (two hours unless set otherwise)."""
    return Grant(
        "refresh_token",
        "/services/oauth2/token",
        base_url=base_url,
        client_id_env=client_id_env,
        client_secret_env=client_secret_env,
        lifetime_s=7200,
    )
