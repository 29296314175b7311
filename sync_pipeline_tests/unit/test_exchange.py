"""What token endpoints are asked, in the vendors' documented forms, and what their answers mean."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sync_pipeline.gateway.exchange import Client, Pair, jwt_lifetime_s, read, request_for
from sync_pipeline.gateway.tokens import COOL_DOWN_S, Lost, Minted, Refused, TokenState, Unspent, answered, decide
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import Reply
from sync_pipeline.kernel.grants import Grant, GrantKind
from sync_pipeline.trust.secrets import Secret

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT = Client(Secret("an-id"), Secret("a secret/with:signs"))
OLD = Pair(Secret("old-access"), Secret("old-refresh"))
REFRESH = Grant("refresh_token", "/oauth/token")
CREDENTIALS = Grant("client_credentials", "/oauth/token")


def reply(status: int, body: object, **headers: str) -> Reply:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, text, NOW, NOW)


def form(body: bytes | None) -> dict[str, str]:
    assert body is not None
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def test_a_refresh_is_a_form_with_the_client_in_it_and_is_not_idempotent() -> None:
    request = request_for(REFRESH, CLIENT, OLD, NOW)
    assert form(request.body) == {
        "grant_type": "refresh_token",
        "refresh_token": "old-refresh",
        "client_id": "an-id",
        "client_secret": "a secret/with:signs",
    }
    assert (request.method, request.idempotent) == ("POST", False)


def test_a_client_may_go_by_basic_authentication_with_each_half_encoded() -> None:
    grant = Grant("client_credentials", "/connect/token", client_auth="basic", scope="reservations.read")
    request = request_for(grant, CLIENT, None, NOW)
    assert form(request.body) == {"grant_type": "client_credentials", "scope": "reservations.read"}
    scheme, _, value = dict(request.headers)["authorization"].partition(" ")
    assert (scheme, base64.b64decode(value)) == ("Basic", b"an-id:a+secret%2Fwith%3Asigns")


@pytest.mark.parametrize("kind", ["refresh_token", "client_credentials"])
def test_a_public_client_shows_its_id_and_no_secret(kind: GrantKind) -> None:
    for client in (Client(Secret("an-id")), CLIENT):
        request = request_for(Grant(kind, "/oauth/token", client_auth="none"), client, OLD, NOW)
        fields = form(request.body)
        assert (fields.pop("client_id"), fields.pop("grant_type")) == ("an-id", kind)
        assert fields in ({}, {"refresh_token": "old-refresh"})
        assert "authorization" not in dict(request.headers)


def test_client_id_and_secret_are_exchanged_for_a_jwt_as_json() -> None:
    grant = Grant("jwt_exchange", "/token-based-authentication/exchange", encoding="json", token_field="jwt")
    request = request_for(grant, CLIENT, None, NOW)
    assert json.loads(request.body or b"") == {"client_id": "an-id", "client_secret": "a secret/with:signs"}
    claims = base64.urlsafe_b64encode(json.dumps({"iat": 1000, "exp": 4600}).encode()).rstrip(b"=").decode()
    outcome, pair = read(grant, reply(200, {"jwt": f"h.{claims}.s", "ruid": "1"}), None)
    assert outcome == Minted(3600, rotated=False)
    assert pair == Pair(Secret(f"h.{claims}.s"))


def test_an_assertion_is_signed_and_short_lived() -> None:
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    grant = Grant("jwt_bearer", "/oauth2/token", subject="sync@acme.example", audience="https://login.salesforce.com")
    fields = form(request_for(grant, Client(Secret("an-id"), Secret(pem)), None, NOW).body)
    assert fields["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    text, _, signature = fields["assertion"].rpartition(".")
    key.public_key().verify(
        base64.urlsafe_b64decode(signature + "=="), text.encode(), padding.PKCS1v15(), hashes.SHA256()
    )
    claims = json.loads(base64.urlsafe_b64decode(text.split(".")[1] + "=="))
    assert claims == {
        "iss": "an-id",
        "sub": "sync@acme.example",
        "aud": "https://login.salesforce.com",
        "exp": int((NOW + timedelta(minutes=3)).timestamp()),
    }


def test_no_request_shows_its_secrets() -> None:
    for request in (
        request_for(REFRESH, CLIENT, OLD, NOW),
        request_for(Grant("client_credentials", "/t", client_auth="basic"), CLIENT, None, NOW),
    ):
        assert "secret" not in repr(request)
        assert "Basic" not in repr(request)
        assert "old-refresh" not in repr(request)


@pytest.mark.parametrize(
    ("grant", "client", "pair"),
    [
        (REFRESH, CLIENT, Pair(Secret("access"))),
        (CREDENTIALS, Client(Secret("an-id")), None),
        (Grant("client_credentials", "/t", client_auth="none"), Client(None, Secret("a secret/with:signs")), None),
        (Grant("jwt_bearer", "/t"), CLIENT, None),
        (Grant("jwt_bearer", "/t", subject="s", audience="a"), CLIENT, None),
    ],
)
def test_what_is_missing_is_said_and_not_shown(grant: Grant, client: Client, pair: Pair | None) -> None:
    with pytest.raises(ConfigurationError) as caught:
        request_for(grant, client, pair, NOW)
    assert "with:signs" not in str(caught.value)
    assert "an-id" not in str(caught.value)


@pytest.mark.parametrize("claims", ['{"iat": 1, "exp": 1' + "0" * 400 + "}", '{"iat": -1e308, "exp": 1e309}'])
def test_a_lifetime_beyond_all_numbers_is_not_said(claims: str) -> None:
    """It came as an error after the refresh token had been shown."""
    token = f"e30.{base64.urlsafe_b64encode(claims.encode()).rstrip(b'=').decode()}.sig"
    assert jwt_lifetime_s(token) is None


@pytest.mark.parametrize(
    ("body", "lifetime"),
    [
        ({"expires_in": 1800}, 1800),
        ({"expires_in": "3600"}, 3600),
        ({"expires_in": 0}, None),
        ({"expires_in": -5}, None),
        ({"expires_in": True}, None),
        ({"expires_in": "soon"}, None),
        ({"expires_in": 1e300}, None),
        ({}, None),
    ],
)
def test_a_lifetime_is_what_the_vendor_says_or_not_said(body: dict[str, object], lifetime: float | None) -> None:
    outcome, pair = read(REFRESH, reply(200, {"access_token": "new"} | body), OLD)
    assert outcome == Minted(lifetime, rotated=False)
    assert pair == Pair(Secret("new"), Secret("old-refresh")), "a refresh token that is not replaced is kept"


def test_a_rotated_refresh_token_replaces_the_old() -> None:
    outcome, pair = read(REFRESH, reply(200, {"access_token": "new", "refresh_token": "next"}), OLD)
    assert outcome == Minted(None, rotated=True)
    assert pair == Pair(Secret("new"), Secret("next"))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (reply(400, {"error": "invalid_grant"}), Refused("invalid_grant", final=True)),
        (reply(400, {"status": "BAD_REFRESH_TOKEN"}), Refused("bad_refresh_token", final=True)),
        (reply(401, {"error": "invalid_client"}), Refused("invalid_client", final=False)),
        (reply(400, {"error": "the token abc-123 is no good"}), Refused("status 400", final=False)),
        (reply(403, b"<html>"), Refused("status 403", final=False)),
        (reply(302, b""), Refused("status 302", final=False)),
        (reply(429, {}, retry_after="86400"), Unspent(86400)),
        (reply(503, b"busy"), Unspent(None)),
        (reply(500, {"error": "invalid_grant"}), Lost()),
        (reply(504, b""), Lost()),
        (reply(200, b"{"), Lost()),
        (reply(200, [1]), Lost()),
        (reply(200, {"access_token": ""}), Lost()),
        (reply(202, {}), Lost()),
        (reply(204, b""), Lost()),
        (reply(400, {"error": "invalid_grant"}, retry_after="600"), Refused("invalid_grant", True, 600)),
        (reply(302, b"", retry_after="600"), Refused("status 302", False, 600)),
        (reply(500, b"", retry_after="600"), Lost(600)),
        (reply(200, b'{"access_token": "x", "y": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"), Lost()),
    ],
)
def test_an_answer_is_sorted_by_what_it_says_of_the_refresh_token(answer: Reply, outcome: object) -> None:
    assert read(REFRESH, answer, OLD) == (outcome, None)


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206])
def test_a_pair_is_a_pair_with_whatever_success_it_comes(status: int) -> None:
    """It was thrown away, and the spent one shown again."""
    outcome, pair = read(REFRESH, reply(status, {"access_token": "new", "refresh_token": "next"}), OLD)
    assert outcome == Minted(None, rotated=True)
    assert pair == Pair(Secret("new"), Secret("next"))


def test_claims_nested_too_deep_say_no_lifetime() -> None:
    claims = base64.urlsafe_b64encode(b"[" * 200_000).rstrip(b"=").decode()
    assert jwt_lifetime_s(f"e30.{claims}.sig") is None


@pytest.mark.parametrize("kind", ["client_credentials", "refresh_token"])
@pytest.mark.parametrize("status", [302, 400, 403, 408, 429, 500, 502, 503, 504])
def test_a_token_endpoint_that_asks_to_be_left_alone_is(status: int, kind: GrantKind) -> None:
    grant = Grant(kind, "/t", rotates=False)
    outcome, _ = read(grant, reply(status, {}, retry_after="600"), OLD)
    after = answered(TokenState(has_refresh=True), grant, outcome, NOW, NOW)
    assert decide(after, grant, NOW + timedelta(seconds=599)).kind != "refresh"
    assert decide(after, grant, NOW + timedelta(seconds=601)).kind == "refresh"


def test_a_short_wish_does_not_shorten_the_pause_after_a_refusal() -> None:
    outcome, _ = read(CREDENTIALS, reply(401, {"error": "invalid_client"}, retry_after="1"), None)
    after = answered(TokenState(), CREDENTIALS, outcome, NOW, NOW)
    assert after.retry_at == NOW + timedelta(seconds=COOL_DOWN_S)
