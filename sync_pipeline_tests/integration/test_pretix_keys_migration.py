"""A store of contract pretix-1 becomes one whose positions are keyed by their own id: nobody lost, no ghost left."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
import psycopg
import pytest
from psycopg.types.json import Jsonb

import sync_pipeline.store.migrate as migration
from sync_pipeline.store.embedded import Embedded
from sync_pipeline_tests.integration.migration_setting import store_before

NEW = "0008_pretix_keys_and_open_deltas.sql"
THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def before(server: Embedded) -> Iterator[str]:
    with store_before(server, NEW) as url:
        yield url


def put(
    conn: psycopg.Connection[Any], key: str, *, day: int, version: str = "pretix-1+tiers-x", **metadata: Any
) -> None:
    event, code, *_ = key.split("/")
    conn.execute(
        """
        insert into registrations.registration
        values ('p', %s, %s, %s, %s, %s, 'a@example.com', 'x', 'x', 'x', 'x', 'x', 'VIP', 1, 5, 'XXX', 'COMPLETED', 'p',
                false, false, 'en', now(), %s, %s, 'h', %s, %s)
        """,
        ("orders" if version == "pretix-1" else "positions", key, "order" if version == "pretix-1" else "attendee",
         f"{event}/{code}", event, Jsonb(metadata), THEN.replace(day=day), day, version),
    )  # fmt: skip


def noted(conn: psycopg.Connection[Any], key: str) -> None:
    conn.execute("insert into sync.handoff values ('p', 'positions', %s, now(), 'h')", (key,))
    conn.execute(
        "insert into sync.outbox (connection, feed, vendor_id, modified_at, content_hash, page_id, table_name)"
        " values ('p', 'positions', %s, now(), 'h', 1, 'registrations.registration')",
        (key,),
    )


def quarantined(conn: psycopg.Connection[Any], key: str | None, raw: bytes) -> None:
    conn.execute(
        "insert into sync.quarantine (key, connection, feed, vendor_id, page_id, raw, codes, problems, contract_version)"
        " values (%s, 'p', 'positions', %s, 1, %s, '{BAD}', '[]', 'pretix-1+tiers-x')",
        (hashlib.sha256(raw).hexdigest(), key, raw),
    )


def delta(conn: psycopg.Connection[Any], key: str, *, day: int, verified: bool = False) -> None:
    conn.execute(
        "insert into sync.delta (connection, feed, vendor_id, cause, action, found_at, verified)"
        " values ('p', 'positions', %s, 'missing_at_vendor', 'review', %s, %s)",
        (key, THEN.replace(day=day), verified),
    )


def test_each_person_once_and_no_code_left(before: str) -> None:
    with psycopg.connect(before) as conn:
        put(conn, "conf/OLD/1", day=1, id=37, secret="door", pdf_data={"secret": "door"})
        put(conn, "conf/OLD/2", day=1, id=38, secret="door")  # the ghost: split off since
        put(conn, "conf/NEW/2", day=2, id=38, secret="door")
        put(conn, "fest/NEW/1", day=1, id=39)
        put(conn, "conf/OLD", day=2, version="pretix-1", secret="page", url="https://x/page", comment="kept")
        card = {
            "provider": "giftcard",
            "payment_url": "https://x/page",
            "details": {"gift_card": {"id": 5, "secret": "money"}},
        }
        put(conn, "conf/PAID", day=2, version="pretix-1", payments=[{"payment_url": None}, card], refunds=[])
        put(conn, "conf/ODD/1", day=1)  # nothing names it
        put(conn, "conf/E/1", day=1, version="eventbrite-1+tiers-x", id=40, secret="not pretix")
        for key in ("conf/OLD/1", "conf/OLD/2", "conf/NEW/2"):
            noted(conn, key)
        quarantined(conn, "conf/OLD/3", orjson.dumps({"id": 41, "attendee_email": "x"}))
        quarantined(conn, "conf/OLD/4", b'{"id": 42, "attendee_name": "\\u0000"}')
        quarantined(conn, "conf/OLD/5", b'{"id": \xff}')
        quarantined(conn, None, b'"odd"')
        for day in (3, 4, 5):
            delta(conn, "conf/OLD/2", day=day)
        delta(conn, "conf/OLD/2", day=1, verified=True)
        delta(conn, "conf/OLD/1", day=3)

    assert migration.migrate(before)[0] == NEW

    with psycopg.connect(before) as conn:
        found = conn.execute(
            "select vendor_id, order_id, metadata from registrations.registration order by feed desc, vendor_id"
        ).fetchall()
        assert found == [
            ("conf/37", "conf/OLD", {"positionid": 1}),
            ("conf/38", "conf/NEW", {"positionid": 2}),
            ("conf/E/1", "conf/E", {"id": 40, "secret": "not pretix"}),
            ("conf/ODD/1", "conf/ODD", {}),
            ("fest/39", "fest/NEW", {"positionid": 1}),
            ("conf/OLD", "conf/OLD", {"comment": "kept"}),
            (
                "conf/PAID",
                "conf/PAID",
                {"payments": [{}, {"provider": "giftcard", "details": {"gift_card": {"id": 5}}}], "refunds": []},
            ),
        ]
        assert conn.execute("select vendor_id from sync.handoff order by 1").fetchall() == [("conf/37",), ("conf/38",)]
        waiting = conn.execute("select vendor_id, count(*) from sync.outbox group by 1 order by 1").fetchall()
        assert waiting == [("conf/37", 1), ("conf/38", 2)]
        names = conn.execute("select vendor_id from sync.quarantine where vendor_id is not null order by 1").fetchall()
        assert names == [("conf/41",), ("conf/42",), ("conf/OLD/5",)]
        open_ones = conn.execute(
            "select vendor_id, extract(day from found_at)::int, extract(day from last_seen)::int from sync.delta"
            " where not verified order by 1"
        ).fetchall()
        assert open_ones == [("conf/37", 3, 3), ("conf/38", 3, 5)]
        assert conn.execute("select count(*) from sync.delta where verified").fetchone() == (1,)


def test_a_held_position_is_held_once_under_its_own_id(before: str) -> None:
    with psycopg.connect(before) as conn:
        for key, code, day in (("conf/OLD/2", "OLD", 1), ("conf/NEW/2", "NEW", 2)):
            row = {
                "vendor_id": key,
                "event_id": "conf",
                "order_id": f"conf/{code}",
                "metadata": {"id": 38, "secret": "d"},
            }
            conn.execute(
                "insert into sync.held (connection, feed, vendor_id, parent_feed, parent_id, page_id, modified_at,"
                " content_hash, contract_version, table_name, row_data)"
                " values ('p', 'positions', %s, 'orders', %s, 1, %s, 'h', 'pretix-1+tiers-x', 't', %s)",
                (key, f"conf/{code}", THEN.replace(day=day), Jsonb(row)),
            )
    migration.migrate(before)
    with psycopg.connect(before) as conn:
        found = conn.execute("select vendor_id, parent_id, row_data from sync.held").fetchall()
    kept = {"vendor_id": "conf/38", "event_id": "conf", "order_id": "conf/NEW", "metadata": {}}
    assert found == [("conf/38", "conf/NEW", kept)]
