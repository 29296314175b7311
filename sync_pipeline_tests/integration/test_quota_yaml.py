"""What operators write about limits and tokens, from the YAML document to the calls that are charged for it."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
import yaml

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.gateway.quota import tree
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import ConfigurationError, Deferred
from sync_pipeline.kernel.feed import Connection, QuotaNode, QuotaWindow, Request
from sync_pipeline.kernel.grants import MintLimit
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets, Secret
from sync_pipeline.vendors.catalogue import build_connection
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.integration.gateway_setting import SkippingClock, Vendor
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import ENVIRONMENT, KEY, THING, source_of
from sync_pipeline_tests.things import rows

SHOP = """
name: shop
vendor: rest
base_url: https://shop.example/v1
token_env: SHOP_TOKEN
limits: [{name: minute, limit: 100, seconds: 60}]
feeds: [{name: orders, contract: "some.module:Contract", rest: {path: /orders/}}]
"""
ORDERS, ITEMS = Request("/orders/", "/orders/"), Request("/items/", "/items/")


def built(more: str = "", **changes: object) -> Connection:
    return build_connection(
        ConnectionConfig.parse(yaml.safe_load(SHOP) | (yaml.safe_load(more) or {}) | changes, where="defs.yaml")
    )


def gateway(connection: Connection, database: Database, clock: SkippingClock | SystemClock | None = None) -> Gateway:
    secrets = EnvironmentSecrets(ENVIRONMENT | {"SHOP_TOKEN": "a-key", "OTHER_TOKEN": "b-key", "SYNC_TOKEN_KEY": KEY})
    return Gateway(connection, database=database, secrets=secrets, clock=clock or SkippingClock(), rng=random.Random(1))


async def ask(opened: Gateway, request: Request = ORDERS) -> int:
    return (await opened.send(request, feed="orders", correlation_id="c", lane="P0")).status


async def used(database: Database) -> dict[str, int]:
    return dict(await rows(database, "select scope || ': ' || window_name, used from sync.quota_now"))


def test_limits_become_nodes() -> None:
    made = built("""
    account: acme
    endpoint_limits: [{endpoint: /orders/, limits: [{name: second, limit: 2, seconds: 1}]}]
    vendor_limits: [{name: host, limit: 1000, seconds: 60, source: their docs}]
    """)
    assert made.quota == (
        QuotaNode("account acme", (QuotaWindow("minute", 100, 60, source="operator"),)),
        QuotaNode("shop /orders/", (QuotaWindow("second", 2, 1, source="operator"),), endpoint="/orders/"),
        QuotaNode("vendor shop.example", (QuotaWindow("host", 1000, 60, source="their docs"),), shared=True),
    )
    assert built().quota == (QuotaNode("shop", made.windows),)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ("endpoint_limits: [{endpoint: /orders/, limits: []}]", "endpoint_limits.0.limits"),
        ("endpoint_limits: [{endpoint: /o/, limits: [{limit: 5, seconds: 1, burst: 9}]}]", "burst above the limit"),
        ("vendor_limits: [{limit: 5, seconds: 1, burst: 9}]", "burst above the limit"),
        ("vendor_limits: [{limit: 5, seconds: 1, colour: red}]", "unknown key `vendor_limits.0.colour`"),
        ("credential_limits: [{limit: 5, seconds: 1, burst: 9}]", "burst above the limit"),
        ("credential_limits: [{limit: 5, seconds: 1, tint: red}]", "unknown key `credential_limits.0.tint`"),
        ("{credential_limits: [{limit: 5, seconds: 1}], auth: {kind: none}}", "its auth is `none`"),
        ("account: Not A Name", "account"),
        ("auth: {grant: {kind: refresh_token, path: token}}", "auth.grant.path"),
        ("auth: {grant: {kind: magic, path: /token}}", "auth.grant.kind"),
        ("auth: {grant: {kind: refresh_token, path: /token, secret: x}}", "unknown key `auth.grant.secret`"),
    ],
)
def test_what_is_wrong_in_them_is_one_sentence(more: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        built(more)
    assert "\n" not in str(caught.value)


async def test_limits_without_names_are_all_kept(vendor: Vendor, database: Database) -> None:
    limits = [{"limit": 2, "seconds": 3600, "burst": 2}, {"limit": 480, "seconds": 86_400}]
    async with gateway(built(limits=limits, base_url=vendor.url), database) as opened:
        await ask(opened)
        await ask(opened)
        with pytest.raises(Deferred, match="window of shop"):
            await ask(opened)
    assert await used(database) == {"shop: window": 2, "shop: window_2": 2}


async def test_an_account_is_shared_by_its_connections(vendor: Vendor, database: Database) -> None:
    limits = [{"name": "hour", "limit": 6, "seconds": 3600, "burst": 6}]
    one, two = (built(name=name, account="acme", limits=limits, base_url=vendor.url) for name in ("one", "two"))
    alone = built(name="alone", limits=limits, base_url=vendor.url)
    async with gateway(one, database) as first, gateway(two, database) as second, gateway(alone, database) as third:
        for _ in range(3):
            await ask(first)
            await ask(second)
        for opened in (first, second):
            with pytest.raises(Deferred, match="hour of account acme"):
                await ask(opened)
        assert await ask(third) == 200
    assert len(vendor.seen) == 7
    assert await used(database) == {"account acme: hour": 6, "alone: hour": 1}


async def test_an_endpoints_limit_is_charged_beside_the_accounts(vendor: Vendor, database: Database) -> None:
    made = built(
        "endpoint_limits: [{endpoint: /orders/, limits: [{name: hour, limit: 2, seconds: 3600, burst: 2}]}]",
        base_url=vendor.url,
    )
    async with gateway(made, database) as opened:
        await ask(opened)
        await ask(opened)
        with pytest.raises(Deferred, match="hour of shop /orders/"):
            await ask(opened)
        for _ in range(3):
            await ask(opened, ITEMS)
    assert [path for path, _ in vendor.seen] == ["/orders/"] * 2 + ["/items/"] * 3
    assert await used(database) == {"shop: minute": 5, "shop /orders/: hour": 2}


async def test_a_credentials_limit_is_shared_by_who_uses_it(vendor: Vendor, database: Database) -> None:
    """The account has room: its other tokens go on."""
    token = "credential_limits: [{name: hour, limit: 4, seconds: 3600, burst: 4}]"
    one, two = (built(token, name=name, account="acme", base_url=vendor.url) for name in ("one", "two"))
    other = built(token, name="other", account="acme", base_url=vendor.url, token_env="OTHER_TOKEN")
    async with gateway(one, database) as first, gateway(two, database) as second, gateway(other, database) as third:
        for _ in range(2):
            await ask(first)
            await ask(second)
        with pytest.raises(Deferred, match="hour of credential SHOP_TOKEN"):
            await ask(first)
        assert await ask(third) == 200
    assert await used(database) == {
        "account acme: minute": 5,
        "credential SHOP_TOKEN: hour": 4,
        "credential OTHER_TOKEN: hour": 1,
    }


async def test_a_vendors_limit_is_shared_by_all_accounts_on_its_host(vendor: Vendor, database: Database) -> None:
    host = "vendor_limits: [{name: hour, limit: 4, seconds: 3600, burst: 4}]"
    one, two = (built(host, name=name, base_url=vendor.url) for name in ("one", "two"))
    async with gateway(one, database) as first, gateway(two, database) as second:
        for _ in range(2):
            await ask(first)
            await ask(second)
        with pytest.raises(Deferred, match=r"hour of vendor 127\.0\.0\.1"):
            await ask(second)
    assert await used(database) == {"one: minute": 2, "two: minute": 2, "vendor 127.0.0.1: hour": 4}


async def test_a_day_is_that_of_its_zone(vendor: Vendor, database: Database) -> None:
    """Spent, it is deferred to the vendor's midnight."""
    zone = "Asia/Kolkata"
    limits = [{"name": "day", "limit": 3, "seconds": 86_400, "kind": "daily", "zone": zone}]
    async with gateway(built(limits=limits, base_url=vendor.url), database) as opened:
        before = datetime.now(ZoneInfo(zone)).date()
        for _ in range(3):
            await ask(opened)
        if datetime.now(ZoneInfo(zone)).date() != before:
            pytest.skip("the day has just changed there")
        with pytest.raises(Deferred, match="day of shop") as caught:
            await ask(opened)
    until = caught.value.until.astimezone(ZoneInfo(zone))
    assert (until.date() - before).days == 1
    assert until.hour == until.minute == 0
    assert await rows(database, "select day, used, zone from sync.quota") == [(before, 3, zone)]


@pytest.mark.parametrize("limit", [1, 2**31 - 1])
@pytest.mark.parametrize("seconds", [0.01, 366 * 86_400])
async def test_any_limit_that_is_taken_can_be_counted(
    vendor: Vendor, database: Database, limit: int, seconds: float
) -> None:
    """The view is everybody's: a window that it cannot count would hide all others."""
    limits = [{"name": "odd", "limit": limit, "seconds": seconds}]
    async with gateway(built(limits=limits, base_url=vendor.url), database, SystemClock()) as opened:
        assert await ask(opened) == 200
    assert (await used(database)).keys() == {"shop: odd"}


def test_a_zone_that_does_not_exist_is_named() -> None:
    limits = [{"name": "day", "limit": 3, "seconds": 86_400, "kind": "daily", "zone": "Europe/Bonn"}]
    made = built(limits=limits)
    with pytest.raises(ConfigurationError, match="unknown time zone 'Europe/Bonn'; write one like Europe/Berlin"):
        tree(made.name, made.quota)


GRANT = """
token_env: null
auth:
  kind: bearer
  grant:
    kind: refresh_token
    path: /oauth/token
    client_id_env: SHOP_ID
    client_secret_env: SHOP_SECRET
    extra: {redirect_uri: "https://us.example/back"}
    grace_s: 5
    mint_limit: {limit: 30, seconds: 3600, source: their docs}
"""


def test_a_grant_is_built() -> None:
    grant = built(GRANT).auth.grant
    assert grant is not None
    assert (grant.kind, grant.path, grant.client_id_env, grant.client_secret_env) == (
        "refresh_token",
        "/oauth/token",
        "SHOP_ID",
        "SHOP_SECRET",
    )
    assert (grant.extra, grant.grace_s, grant.rotates) == ((("redirect_uri", "https://us.example/back"),), 5, True)
    assert grant.mint == MintLimit(30, 3600, "their docs")
    with pytest.raises(ConfigurationError, match="token_env is missing"):
        built("token_env: null")


async def test_a_granted_token_is_renewed_once_for_all_calls_that_met_its_401(database: Database) -> None:
    """Sixteen calls of two gateways share a token that the vendor no longer takes: one exchange, and each call succeeds."""
    async with TokenVendor(lifetime_s=3600).serving() as vendor:
        async with source_of(database, vendor.port) as source:
            access, refresh = vendor.authorise()
            await source.enrol(Pair(Secret(access), Secret(refresh)), 3600)
        # A young token that is refused means a refused credential: let this one be an hour old but for a little.
        await rows(database, "update sync.token set issued_at = issued_at - interval '40 minutes' returning 1")
        vendor.access.clear()
        made = built(GRANT, base_url=f"http://127.0.0.1:{vendor.port}")
        async with gateway(made, database, SystemClock()) as one, gateway(made, database, SystemClock()) as two:
            answers = await asyncio.gather(*(ask((one, two)[turn % 2], THING) for turn in range(16)))
        assert answers == [200] * 16
        assert len(vendor.exchanges) == 1
        assert vendor.breaches == 0
    audited = await rows(database, "select count(*) from sync.audit where lane = 'P0' and endpoint = '/oauth/token'")
    assert audited == [(1,)], "an exchange is granted and audited as any call"
    generations = await rows(
        database, "select distinct token_generation from sync.audit where endpoint <> '/oauth/token' order by 1"
    )
    assert generations == [(1,), (2,)], "each call names the generation it was made with"
    windows = await used(database)
    # (a grant that has grown old before a connection was free is counted and not used)
    assert vendor.calls + 1 <= windows["shop: minute"] <= 2 * (vendor.calls + 1)
