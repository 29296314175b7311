"""Whose limit it is: connections that the vendor counts together are counted together here, without being told to."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.errors import ConfigurationError, Deferred
from sync_pipeline.kernel.feed import Connection
from sync_pipeline.runtime import COMPONENT, load_setups
from sync_pipeline.store.database import Database
from sync_pipeline.vendors.catalogue import build_connection
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.things import rows

HOUR = [{"name": "hour", "limit": 20, "seconds": 3600, "burst": 20}]
EVENTBRITE: dict[str, Any] = {
    "vendor": "eventbrite", "base_url": "https://x.example/v3", "token_env": "T", "feeds": [{"name": "orders"}], "limits": HOUR,
}  # fmt: skip
EAST, WEST = {**EVENTBRITE, "organization": "1"}, {**EVENTBRITE, "organization": "2"}
PRETIX: dict[str, Any] = {
    "vendor": "pretix", "base_url": "https://x.example/api/v1", "token_env": "T", "organizer": "acme", "limits": HOUR,
    "feeds": [{"name": "orders"}, {"name": "positions"}],
}  # fmt: skip


def built(*documents: dict[str, Any]) -> list[Connection]:
    named = [{"name": f"c{number}", **document} for number, document in enumerate(documents)]
    return [build_connection(ConnectionConfig.parse(document, where="defs.yaml")) for document in named]


async def granted(database: Database, connections: Sequence[Connection]) -> int:
    """Calls that the connections may make at once, together."""
    total = 0
    for one in connections:
        quota = Quota(one.name, one.quota, database=database, clock=SystemClock(), monotonic=time.monotonic,
                      random=random.random)  # fmt: skip
        await quota.open()
        try:
            while total <= 100:
                await quota.acquire(lane="P0")
                total += 1
        except Deferred:
            continue
    return total


@pytest.mark.parametrize(
    ("documents", "calls"),
    [
        ([EAST, WEST], 20),
        ([EAST, {**WEST, "token_env": "OTHER"}], 40),
        ([{**EAST, "account": "east"}, {**WEST, "account": "west"}], 40),
        ([{**EAST, "account": "both"}, {**WEST, "account": "both", "token_env": "OTHER"}], 20),
        ([PRETIX, {**PRETIX, "token_env": "OTHER"}], 20),
        ([PRETIX, {**PRETIX, "organizer": "other"}], 40),
        ([PRETIX, {**PRETIX, "base_url": "https://y.example/api/v1"}], 40),
    ],
    ids=[
        "one token", "two tokens", "one token, two accounts", "two tokens, one account",
        "one organizer", "two organizers", "two servers",
    ],
)  # fmt: skip
async def test_who_is_counted_together(database: Database, documents: list[dict[str, Any]], calls: int) -> None:
    assert await granted(database, built(*documents)) == calls


async def test_a_node_is_named_by_what_the_vendor_counts(database: Database) -> None:
    await granted(database, built(EAST, PRETIX, {**EAST, "account": "acme", "credential_limits": HOUR}))
    assert await rows(database, "select scope from sync.quota order by 1") == [
        ("account acme",),
        ("credential T",),
        ("organizer x.example/acme",),
        ("token T",),
    ]


def documents(folder: Path, **more: dict[str, Any]) -> Path:
    for name, changes in more.items():
        (folder / name).mkdir()
        document = {"type": COMPONENT, "attributes": {"name": name, **changes}}
        (folder / name / "defs.yaml").write_text(yaml.safe_dump(document))
    return folder


def test_connections_that_share_a_limit_say_the_same_about_it(tmp_path: Path) -> None:
    sourced = [{**HOUR[0], "source": "their docs"}]
    assert len(load_setups(documents(tmp_path, east=EAST, west={**WEST, "limits": sourced}))) == 2
    documents(tmp_path, north={**WEST, "organization": "3", "limits": [{**HOUR[0], "limit": 30}]})
    with pytest.raises(
        ConfigurationError, match="east and north share the limit of `token T` and say different things"
    ):
        load_setups(tmp_path)
