"""Each way to get a token, from its settings to a call with it: real exchanges, the real store, the vendor's own books."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.gateway.token_source import GrantSource
from sync_pipeline.kernel.errors import AuthenticationError, ConfigurationError, Deferred
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline.vendors.catalogue import build_connection
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.integration.quota_setting import most_in_any
from sync_pipeline_tests.integration.token_setting import Clock, enrol
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import KEY, THING
from sync_pipeline_tests.things import rows

CLIENT = {"client_id_env": "SHOP_ID", "client_secret_env": "SHOP_SECRET"}
BOOKING = {"preset": "booking", **CLIENT}
PUBLIC = {"SYNC_TOKEN_KEY": KEY, "SHOP_ID": "client-11"}
SECRET = PUBLIC | {"SHOP_SECRET": "client-secret-11"}


def config_of(vendor: TokenVendor, grant: Mapping[str, Any]) -> ConnectionConfig:
    attributes = {
        "name": "shop",
        "vendor": "rest",
        "base_url": f"http://127.0.0.1:{vendor.port}",
        "auth": {"kind": "bearer", "grant": grant},
        "limits": [{"limit": 6000, "seconds": 60}],
        "feeds": [{"name": "things", "contract": "some.module:Contract", "rest": {"path": "/thing"}}],
    }
    return ConnectionConfig.parse(attributes, where="the test")


def worker(
    vendor: TokenVendor, database: Database, clock: Clock, grant: Mapping[str, Any], secrets: Mapping[str, str]
) -> Gateway:
    return Gateway(
        build_connection(config_of(vendor, grant)),
        database=database,
        secrets=EnvironmentSecrets(secrets),
        clock=clock,
        rng=random.Random(1),
    )


async def call(gateway: Gateway) -> int:
    return (await gateway.send(THING, feed="things", correlation_id="c")).status


@asynccontextmanager
async def day(vendor: TokenVendor, gateway: Gateway, clock: Clock) -> AsyncIterator[GrantSource]:
    """A day of calls, one each ten minutes, none of which the vendor refuses for its token."""
    async with gateway:
        source = gateway._tokens
        assert isinstance(source, GrantSource)
        yield source
        for _ in range(24 * 6):
            assert await call(gateway) == 200
            await source.aclose()  # time stands still while an exchange is under way
            clock.skip(600)
    assert vendor.answers_401 == 0
    assert len(vendor.exchanges) <= 30


@pytest.mark.parametrize("shown", ["body", "basic", "none"])
async def test_client_credentials(database: Database, shown: str) -> None:
    clock = Clock()
    grant = {"kind": "client_credentials", "path": "/oauth/token", "client_auth": shown, **CLIENT}
    vendor = TokenVendor(now=clock.seconds)
    secrets = SECRET
    if shown == "none":
        del grant["client_secret_env"]
        secrets, vendor.client_secret = PUBLIC, None
    async with vendor.serving(), day(vendor, worker(vendor, database, clock, grant, secrets), clock):
        pass
    assert set(vendor.exchanges) == {"client_credentials"}
    assert await rows(database, "select generation from sync.token") == [(len(vendor.exchanges),)]


async def test_a_public_client_refreshes_without_a_secret(database: Database) -> None:
    clock = Clock()
    grant = {"kind": "refresh_token", "path": "/oauth/token", "client_auth": "none", "client_id_env": "SHOP_ID"}
    vendor = TokenVendor(now=clock.seconds, client_secret=None)
    async with vendor.serving(), day(vendor, worker(vendor, database, clock, grant, PUBLIC), clock) as source:
        await enrol(source, vendor)
    assert vendor.breaches == 0
    assert len(vendor.exchanges) > 20


def pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


async def test_a_signed_assertion(database: Database) -> None:
    """No shared secret: the vendor knows the public half of the key only. Another key is refused, and the right one is taken
    up without a restart."""
    clock, key = Clock(), rsa.generate_private_key(65537, 2048)
    vendor = TokenVendor(now=clock.seconds, public_key=key.public_key(), client_secret=None)
    grant = {
        "kind": "jwt_bearer",
        "path": "/oauth/token",
        "subject": vendor.subject,
        "audience": vendor.audience,
        **CLIENT,
    }
    secrets = PUBLIC | {"SHOP_SECRET": pem(rsa.generate_private_key(65537, 2048))}
    async with vendor.serving():
        async with worker(vendor, database, clock, grant, secrets) as gateway:
            with pytest.raises(AuthenticationError, match=r"renew the token \(invalid_grant\)"):
                await call(gateway)
            assert (vendor.asked, vendor.exchanges) == (1, [])
            secrets["SHOP_SECRET"] = pem(key)
            clock.skip(61)
            await rows(database, "update sync.breaker set retry_at = now() returning 1")
            assert await call(gateway) == 200
        async with day(vendor, worker(vendor, database, clock, grant, secrets), clock):
            pass
    assert set(vendor.exchanges) == {"jwt_bearer"}
    assert vendor.asked == len(vendor.exchanges) + 1 > 20


async def test_client_and_secret_for_a_jwt_by_the_vendors_preset(database: Database) -> None:
    clock = Clock()
    vendor = TokenVendor(now=clock.seconds, mint_limit=30)
    async with vendor.serving():
        grant = {**BOOKING, "base_url": f"http://127.0.0.1:{vendor.port}"}
        async with day(vendor, worker(vendor, database, clock, grant, SECRET), clock):
            pass
    assert set(vendor.exchanges) == {"jwt_exchange"}
    assert len(vendor.exchanges) > 20


async def test_the_31st_token_of_an_hour_is_not_asked_for(database: Database) -> None:
    """Tokens that live for a hundred seconds would take 36 exchanges an hour, by two workers between them."""
    clock = Clock()
    vendor = TokenVendor(lifetime_s=100, now=clock.seconds, mint_limit=30)
    async with vendor.serving():
        grant = {**BOOKING, "base_url": f"http://127.0.0.1:{vendor.port}"}
        async with (
            worker(vendor, database, clock, grant, SECRET) as one,
            worker(vendor, database, clock, grant, SECRET) as two,
        ):
            begun = clock.now()
            for turn in range(30):
                assert await call((one, two)[turn % 2]) == 200
                clock.skip(101)
            assert vendor.asked == 30
            for each in (one, two):
                with pytest.raises(Deferred, match="30 tokens in 3600 s are all the vendor gives") as caught:
                    await call(each)
                assert caught.value.until == begun + timedelta(hours=1)
            assert (vendor.asked, vendor.calls) == (30, 30), "nothing was sent"
            clock.at = begun + timedelta(hours=1, seconds=-20)
            assert await call(two) == 200, "a short wait is waited for"
            assert clock.now() >= begun + timedelta(hours=1)
        assert vendor.asked == 31
    assert (vendor.over_limit, vendor.answers_401) == (0, 0)
    assert most_in_any(vendor.minted, 3600) <= 30


def test_a_preset_is_what_its_vendor_documents_and_gives_way_to_what_is_written() -> None:
    def grant_of(**given: Any) -> Any:
        grant = build_connection(config_of(TokenVendor(), given)).auth.grant
        assert grant is not None
        return grant

    booking = grant_of(**BOOKING)
    assert (booking.kind, booking.base_url) == ("jwt_exchange", "https://connectivity-authentication.booking.com")
    assert (booking.mint.limit, booking.mint.seconds) == (30, 3600)
    assert (booking.client_id_env, booking.client_secret_env) == ("SHOP_ID", "SHOP_SECRET")
    zendesk = grant_of(preset="zendesk", lifetime_s=600, extra={"scope_id": "7"}, **CLIENT)
    assert (zendesk.revokes_old, zendesk.lifetime_s) == (True, 600)
    assert dict(zendesk.extra) == {"expires_in": "172800", "scope_id": "7"}
    for name, kind in (
        ("apaleo", "client_credentials"),
        ("hubspot", "refresh_token"),
        ("salesforce", "refresh_token"),
    ):
        assert grant_of(preset=name, **CLIENT).kind == kind


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ({"preset": "nobody"}, "auth.grant.preset: Input should be 'booking'"),
        ({"kind": "refresh_token"}, "auth.grant: a grant needs its kind and path, or a preset"),
        ({**BOOKING, "client_auth": "none"}, "a jwt_exchange exchange needs a client secret"),
        (
            {"kind": "refresh_token", "path": "/t", "client_auth": "none", "client_secret_env": "SHOP_SECRET"},
            "client_secret_env: with `client_auth: none` no secret is sent",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(grant: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match="connection shop") as caught:
        config_of(TokenVendor(), grant)
    assert said in str(caught.value)
