"""Rejections of a feed that is disabled or no longer in the YAML: nothing can be said of them, and they hold up no others."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from sync_pipeline.cli import quarantine
from sync_pipeline.sessions.replay import QuarantineFilter

ROWS = "select feed, status, attempts from sync.quarantine order by feed"


@pytest.mark.parametrize("dry_run", [True, False])
def test_they_are_counted_and_left_as_they_are(
    small_pretix: str, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    with psycopg.connect(small_pretix, autocommit=True) as conn:
        for feed in ("gone", "orders"):
            conn.execute(
                "insert into sync.quarantine (key, connection, feed, vendor_id, page_id, raw, codes, problems,"
                " contract_version) values (%(feed)s, 'pretix', %(feed)s, 'x', 1, '{}', '{BAD}', '[]', '1')",
                {"feed": feed},
            )
        asyncio.run(quarantine.replay(QuarantineFilter(), dry_run=dry_run, as_json=False))
        told = capsys.readouterr().out
        assert "0 of 1 records" in told
        assert "pretix/gone: 1 were not tried: the feed is no longer in the YAML" in told
        assert conn.execute(ROWS).fetchall() == [("gone", "open", 0), ("orders", "open", 0 if dry_run else 1)]
