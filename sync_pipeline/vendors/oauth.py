"""How vendors give tokens, as they document it: settings of `auth.grant` under a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Preset = Literal["booking", "apaleo", "hubspot", "zendesk", "salesforce"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Booking.com Connectivity, token-based authentication: a JWT of an hour, at most 30 an hour for a machine account.
    "booking": {
        "kind": "jwt_exchange",
        "path": "/token-based-authentication/exchange",
        "base_url": "https://connectivity-authentication.booking.com",
        "encoding": "json",
        "token_field": "jwt",
        "lifetime_s": 3600,
        "mint_limit": {
            "limit": 30,
            "seconds": 3600,
            "source": "Booking.com Connectivity, token-based authentication",
        },
    },
    # Apaleo, OAuth connection, simple client: client credentials by basic authentication.
    "apaleo": {
        "kind": "client_credentials",
        "path": "/connect/token",
        "base_url": "https://identity.apaleo.com",
        "client_auth": "basic",
    },
    # HubSpot, oauth/v1: half an hour; the refresh token stays the same. The app's `redirect_uri` belongs to `extra`.
    "hubspot": {
        "kind": "refresh_token",
        "path": "/oauth/v1/token",
        "base_url": "https://api.hubapi.com",
        "lifetime_s": 1800,
        "rotates": False,
    },
    # Zendesk, oauth/tokens: a refresh gives a new pair and ends the old one at once.
    "zendesk": {
        "kind": "refresh_token",
        "path": "/oauth/tokens",
        "encoding": "json",
        "extra": {"expires_in": "172800"},
        "lifetime_s": 172_800,
        "revokes_old": True,
    },
    # Salesforce, refresh token flow: rotation may be on; the answer states no lifetime, which is the org's session timeout
    # (two hours unless set otherwise).
    "salesforce": {
        "kind": "refresh_token",
        "path": "/services/oauth2/token",
        "lifetime_s": 7200,
    },
}


def with_preset(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of a grant on top of those of its preset; further fields of the request are joined."""
    preset = PRESETS.get(str(given.get("preset")))
    if preset is None:
        return given
    merged = {**preset, **given}
    if "extra" in preset and isinstance(given.get("extra"), Mapping):
        merged["extra"] = {**preset["extra"], **given["extra"]}
    return merged
