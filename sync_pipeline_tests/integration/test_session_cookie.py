"""A session cookie is a credential like any other: it stands in the secret provider and is rotated without a restart."""

from __future__ import annotations

import random

import pytest

from sync_pipeline.gateway.client import Gateway
from sync_pipeline.kernel.errors import AuthenticationError
from sync_pipeline.kernel.feed import Request
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline.vendors.catalogue import build_connection
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.integration.gateway_setting import SkippingClock, Vendor, answer, send

GET = Request("/regs", "/regs")


async def test_a_session_cookie_is_sent_rotated_and_refused_like_a_key(vendor: Vendor, database: Database) -> None:
    config = ConnectionConfig.parse(
        {
            "name": "shop",
            "vendor": "rest",
            "base_url": vendor.url,
            "token_env": "SHOP_SESSION",
            "auth": {"kind": "header", "name": "Cookie"},
            "limits": [{"limit": 6000, "seconds": 60}],
            "feeds": [{"name": "regs", "contract": "some.module:Contract", "rest": {"path": "/regs"}}],
        },
        where="the test",
    )
    env = {"SHOP_SESSION": "session=one; theme=dark"}
    opened = Gateway(
        build_connection(config),
        database=database,
        secrets=EnvironmentSecrets(env),
        clock=SkippingClock(),
        rng=random.Random(1),
    )
    vendor.script = [answer(200, set_cookie="session=another"), answer(200), answer(200), answer(401)]
    async with opened:
        await send(opened, GET)
        await send(opened, GET)
        env["SHOP_SESSION"] = "session=two"
        await send(opened, GET)
        with pytest.raises(AuthenticationError):
            await send(opened, GET)
        env["SHOP_SESSION"] = "session=three"
        await send(opened, GET)
    assert [headers.get("cookie") for _, headers in vendor.seen] == [
        "session=one; theme=dark",
        "session=one; theme=dark",  # what an answer sets is not taken: whose session it is stands in one place
        "session=two",
        "session=two",
        "session=three",
    ]
