"""Records on their way into Postgres by COPY: to the stage, or straight to their table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection

from sync_pipeline.kernel.canonical import NULL, Canonical, copy_fields
from sync_pipeline.ledger.checked import Target
from sync_pipeline.ledger.newest import Shown
from sync_pipeline.ledger.statements import Statements


async def copy_to_stage(conn: AsyncConnection[Any], statements: Statements, pages: Sequence[Shown]) -> None:
    """COPY records into the stage table, in which each vendor id may stand once."""
    async with conn.cursor().copy(statements.copy) as copy:
        await copy.write(b"".join([stage_lines(page_id, records) for page_id, records in pages]))


async def copy_new(conn: AsyncConnection[Any], target: Target, statements: Statements, pages: Sequence[Shown]) -> bool:
    """COPY records into the canonical table, if nothing is known of any of them; returns whether it was done.

    Each vendor id may stand once, and none may have a parent: it might have to be held.
    """
    ids = [record.vendor_id for _, records in pages for record in records]
    asked = {**statements.parameters, "ids": ids}
    found = await (await conn.execute(statements.unknown, asked)).fetchone()
    if found != (True,):
        return False
    async with conn.cursor().copy(statements.copy_new) as copy:
        await copy.write(b"".join([table_lines(target, page_id, records) for page_id, records in pages]))
    if target.handoff:
        await conn.execute(statements.hand_on, asked)
    return True


def stage_lines(page_id: int, records: Sequence[Canonical]) -> bytes:
    """A line of the stage table for each record."""
    lines: list[bytes] = []
    for vendor_id, modified_at, content_hash, row, parent in records:
        names = f"{NULL if parent is None else copy_fields((parent,))}\t{copy_fields((vendor_id,))}"
        lines += (f"{page_id}\t{modified_at}\t\\\\x{content_hash.hex()}\t{names}\t".encode(), row, b"\n")
    return b"".join(lines)


def table_lines(target: Target, page_id: int, records: Sequence[Canonical]) -> bytes:
    """A line of the canonical table for each record."""
    feed, contract = target.feed, target.contract
    begin = f"{copy_fields((feed.connection, feed.feed, contract.version))}\t{page_id}"
    lines: list[bytes] = []
    for vendor_id, modified_at, content_hash, row, _ in records:
        names = f"{begin}\t{modified_at}\t\\\\x{content_hash.hex()}\t{copy_fields((vendor_id,))}\t"
        lines += (names.encode(), row, b"\n")
    return b"".join(lines)
