"""Vendors that tell their limits in a form of their own, asked by the `rest` vendor."""

from __future__ import annotations

import pytest

from sync_pipeline.kernel.errors import AuthenticationError, Deferred
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.runtime import build_setup
from sync_pipeline.store.database import Database
from sync_pipeline.vendors.catalogue import ConnectionConfig
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer, gateway, send
from sync_pipeline_tests.things import rows

DAY, MINUTE = 86_400.0, 60.0
SPENT = b'[{"errorCode":"REQUEST_LIMIT_EXCEEDED","message":"TotalRequests Limit exceeded."}]'


@pytest.mark.parametrize(
    ("form", "headers", "seconds"),
    [
        ("salesforce", {"sforce_limit_info": "api-usage=1990/2000"}, DAY),
        ("hubspot", {"x_hubspot_ratelimit_daily": "2000", "x_hubspot_ratelimit_daily_remaining": "10"}, DAY),
        ("zendesk", {"x_rate_limit": "2000", "x_rate_limit_remaining": "10"}, MINUTE),
        ("alma", {"x_exl_api_remaining": "10"}, DAY),
    ],
)
async def test_what_a_vendor_says_is_left_is_all_that_is_used(
    vendor: Vendor, database: Database, form: str, headers: dict[str, str], seconds: float
) -> None:
    windows = (QuotaWindow("ours", 2000, seconds, burst=2000),)
    vendor.default = answer(200, **headers)
    if form != "zendesk":  # whose headers are named as anybody's are
        async with gateway(vendor, database, windows=windows) as unheard:
            await send(unheard)
            known = unheard.left()
        assert known is not None
        assert known[0] > 1900, "a form that is not named is not guessed"
    async with gateway(vendor, database, windows=windows, limits_told=form) as opened:
        await send(opened)
        known = opened.left()
    assert known is not None
    assert known[0] == 10


async def test_a_refusal_for_the_limit_is_none_of_the_credential(vendor: Vendor, database: Database) -> None:
    """Salesforce answers 403 to both."""
    vendor.script = [answer(403, SPENT, retry_after="60")]
    async with gateway(vendor, database, limits_told="salesforce") as opened:
        with pytest.raises(Deferred, match="left alone"):
            await send(opened)
    assert await rows(database, "select * from sync.breaker where state <> 'closed'") == []
    assert len(vendor.seen) == 1
    await rows(database, "update sync.quota set blocked_until = null returning 1")
    vendor.script = [answer(403, b'[{"errorCode":"INSUFFICIENT_ACCESS"}]')]
    async with gateway(vendor, database, limits_told="salesforce") as opened:
        with pytest.raises(AuthenticationError):
            await send(opened)


def test_the_form_is_named_in_yaml() -> None:
    feed = {
        "name": "things",
        "contract": "sync_pipeline.contracts.mapped:MappedContract",
        "contract_options": {
            "fields": {"vendor_id": "id", "event_id": "event", "created_at": "at", "modified_at": "at"},
            "status": "state",
            "statuses": {"paid": "COMPLETED"},
        },
        "rest": {"path": "/things"},
    }
    written = {"name": "crm", "vendor": "rest", "base_url": "https://crm.example", "token_env": "T", "feeds": [feed],
               "limits": [{"name": "day", "limit": 100, "seconds": 86400}], "limits_told": "salesforce"}  # fmt: skip
    config = ConnectionConfig.parse(written, where="defs.yaml")
    assert build_setup(config, {}).connection.limits_told == "salesforce"
