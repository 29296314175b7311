"""Records on their way into Postgres by COPY: to the stage, or straight to their table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

from psycopg import AsyncConnection

from sync_pipeline.kernel.canonical import NULL, Canonical, copy_fields
from sync_pipeline.ledger.checked import Target
from sync_pipeline.ledger.newest import Shown
from sync_pipeline.ledger.statements import Statements
from sync_pipeline.store.database import text_array


async def copy_to_stage(conn: AsyncConnection[Any], statements: Statements, pages: Sequence[Shown]) -> None:
    """COPY records into the stage table, in which each vendor id may stand once."""
    async with conn.cursor().copy(statements.copy) as copy:
        for page_id, records in pages:
            parents = [NULL if record.parent is None else copy_fields((record.parent,)) for record in records]
            await copy.write(lines([f"{parent}\t{page_id}" for parent in parents], records))


async def copy_new(conn: AsyncConnection[Any], target: Target, statements: Statements, pages: Sequence[Shown]) -> bool:
    """COPY records into the canonical table, if nothing is known of any of them; returns whether it was done.

    Each vendor id may stand once, and none may have a parent: it might have to be held.
    """
    ids = [record.vendor_id for _, records in pages for record in records]
    asked = {**statements.parameters, "ids": text_array(ids)}
    found = await (await conn.execute(statements.unknown, asked)).fetchone()
    if found != (True,):
        return False
    names = copy_fields((target.feed.connection, target.feed.feed, target.contract.version))
    async with conn.cursor().copy(statements.copy_new) as copy:
        for page_id, records in pages:
            await copy.write(lines(repeat(f"{names}\t{page_id}"), records))
    if target.handoff:
        await conn.execute(statements.hand_on, asked)
    return True


def lines(begin: Iterable[str], records: Sequence[Canonical]) -> bytes:
    """A line for each record: what it begins with, then stamp, hash, vendor id and the contract's columns."""
    ids = "".join([record.vendor_id for record in records])
    plain = ids.isprintable() and "\\" not in ids
    parts: list[bytes] = []
    for before, (vendor_id, modified_at, content_hash, row, _) in zip(begin, records, strict=False):
        name = vendor_id if plain else copy_fields((vendor_id,))
        parts += (f"{before}\t{modified_at}\t\\\\x{content_hash.hex()}\t{name}\t".encode(), row, b"\n")
    return b"".join(parts)
