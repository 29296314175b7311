"""One record that nobody foresaw costs only itself: the page is landed, the others are applied, the feed goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.runtime import build_setup, open_runtime
from sync_pipeline.sessions.session import SessionOptions
from sync_pipeline.trust.secrets import EnvironmentSecrets
from sync_pipeline.vendors.catalogue import ConnectionConfig
from sync_pipeline_tests.integration.gateway_setting import Vendor, answer
from sync_pipeline_tests.things import rows

ORDER: dict[str, Any] = {
    "event": "conf", "status": "c", "testmode": False, "email": "a@example.com", "total": "1.00",
    "datetime": "2026-01-01T00:00:00Z", "last_modified": "2026-01-01T00:00:00Z", "positions": [], "payments": [], "refunds": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "code"),
    [({"payments": [{"state": ["confirmed"], "amount": "1.00"}]}, "WRONG_TYPE"), ({"total": "0E-20000"}, "INVALID_MONEY")],
    ids=["a list for a word", "a zero with twenty thousand places"],
)  # fmt: skip
async def test_one_bad_record_costs_only_itself(
    vendor: Vendor, database_url: str, tmp_path: Path, bad: dict[str, Any], code: str
) -> None:
    shown = [{**ORDER, "code": "GOOD"}, {**ORDER, "code": "BAD", **bad}]
    body = json.dumps({"count": 2, "next": None, "previous": None, "results": shown}).encode()
    vendor.default = answer(200, body, content_type="application/json")
    config = ConnectionConfig.parse(
        {"name": "px", "vendor": "pretix", "base_url": vendor.url, "token_env": "T", "organizer": "o", "events": ["conf"],
         "feeds": [{"name": "orders"}, {"name": "positions"}]},
        where="defs.yaml",
    )  # fmt: skip
    setup = build_setup(config, {})
    async with open_runtime(url=database_url, objects=tmp_path, secrets=EnvironmentSecrets({"T": "t"})) as runtime:
        for _ in range(2):
            report = await runtime.run_session(setup, SessionOptions(until_horizon=True))
            assert report.feeds["orders"].error is None
        applied = await rows(runtime.database, "select vendor_id from registrations.registration")
        refused = await rows(runtime.database, "select vendor_id, codes from sync.quarantine")
    assert [*applied, *refused] == [("conf/GOOD",), ("conf/BAD", [code])]
