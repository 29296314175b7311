"""What opens a door leaves a store that kept it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.types.json import Jsonb

import sync_pipeline.store.migrate as migration
from sync_pipeline.store.embedded import Embedded
from sync_pipeline_tests.integration.migration_setting import store_before

NEW = "0026_barcodes.sql"
CODES = [{"barcode": "4427", "status": "unused"}, "odd", {"status": "used"}]
KEPT = [{"status": "unused"}, "odd", {"status": "used"}]


def put(conn: psycopg.Connection[Any], key: str, version: str, metadata: dict[str, Any]) -> None:
    conn.execute(
        """
        insert into registrations.registration
        values ('e', 'attendees', %s, 'attendee', 'o', 'ev', 'a@example.com', 'x', 'x', 'x', 'x', 'x', 'VIP', 1, 5, 'XXX',
                'COMPLETED', 'p', false, false, 'en', now(), %s, now(), 'h', 1, %s)
        """,
        (key, Jsonb(metadata), version),
    )


def held(conn: psycopg.Connection[Any], key: str, metadata: dict[str, Any]) -> None:
    conn.execute(
        "insert into sync.held (connection, feed, vendor_id, parent_feed, parent_id, modified_at, content_hash, page_id,"
        " contract_version, row_data, table_name) values ('e', 'attendees', %s, 'orders', 'o', now(), 'h', 1, 'eventbrite-4', %s,"
        " 'registrations.registration')",
        (key, Jsonb({"vendor_id": key, "metadata": metadata})),
    )


def test_the_codes_of_barcodes_leave_rows_and_what_is_held(server: Embedded) -> None:
    with store_before(server, NEW) as url:
        with psycopg.connect(url) as conn:
            put(conn, "1", "eventbrite-4+tiers-x", {"barcodes": CODES, "team": "kept"})
            put(conn, "2", "eventbrite-4+tiers-x", {"barcodes": None})
            put(conn, "3", "eventbrite-4+tiers-x", {"barcodes": []})
            put(conn, "4", "mapped-3+tiers-x", {"barcodes": CODES})
            held(conn, "5", {"barcodes": CODES, "team": "kept"})
            held(conn, "6", {})
        assert NEW in migration.migrate(url)
        with psycopg.connect(url) as conn:
            rows = conn.execute("select metadata from registrations.registration order by vendor_id").fetchall()
            assert [metadata for (metadata,) in rows] == [
                {"barcodes": KEPT, "team": "kept"},
                {"barcodes": None},
                {"barcodes": []},
                {"barcodes": CODES},
            ]
            rows = conn.execute("select row_data from sync.held order by vendor_id").fetchall()
            assert [found["metadata"] for (found,) in rows] == [{"barcodes": KEPT, "team": "kept"}, {}]
