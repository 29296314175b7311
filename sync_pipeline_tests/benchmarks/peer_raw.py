"""The limit: fetch, pydantic, COPY and upsert, nothing else. No landing, no quarantine, no quota, no restart.

Stands alone: it runs in an environment of its own, without this project.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import operator
import re
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import aiohttp
import asyncpg
import orjson
import uvloop
from pydantic import BaseModel, Field

BATCH = 5000
NEXT = re.compile(rb'"next_cursor":"([^"]+)"')
TABLE = """
drop table if exists registrations;
create table registrations (
  id text primary key, event_id text, email text, first_name text, last_name text, ticket_sku text, quantity integer,
  unit_price numeric(12, 2), currency text, payment_status text, created_at timestamptz, modified_at timestamptz,
  checked_in boolean, version integer, notes text, metadata jsonb);
create temp table stage (like registrations) on commit delete rows
"""


class Registration(BaseModel):
    id: str = Field(min_length=1)
    event_id: str
    email: str = Field(pattern=r"^[^@\s]+@[^@\s]+$")
    first_name: str
    last_name: str
    ticket_sku: str
    quantity: int
    unit_price: Decimal
    currency: str
    payment_status: Literal["paid", "pending", "refunded", "cancelled", "comp"]
    created_at: datetime
    modified_at: datetime
    checked_in: bool
    version: int
    notes: str
    metadata: dict[str, Any]


class Page(BaseModel):
    data: list[Registration]


COLUMNS = tuple(Registration.model_fields)
PLAIN = operator.attrgetter(*COLUMNS[:-1])
UPSERT = (
    f"insert into registrations as t select * from stage on conflict (id) do update set "
    f"{', '.join(f'{name} = excluded.{name}' for name in COLUMNS[1:])} where t.modified_at < excluded.modified_at"
)


async def bodies(url: str) -> AsyncIterator[bytes]:
    async with aiohttp.ClientSession() as session:
        cursor: str | None = ""
        while cursor is not None:
            async with session.get(url + (f"&cursor={cursor}" if cursor else "")) as answer:
                body = await answer.read()
            found = NEXT.search(body, max(0, len(body) - 80))
            cursor = found.group(1).decode() if found else None
            yield body


async def fetch(url: str, queue: asyncio.Queue[bytes | None]) -> None:
    async for body in bodies(url):
        await queue.put(body)
    await queue.put(None)


async def load(connection: asyncpg.Connection[Any], rows: list[tuple[Any, ...]]) -> None:
    async with connection.transaction():
        await connection.copy_records_to_table("stage", records=rows, columns=COLUMNS)
        await connection.execute(UPSERT)


async def run(url: str, database: str) -> int:
    connection = await asyncpg.connect(database)
    await connection.execute(TABLE)
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=50)
    fetching = asyncio.create_task(fetch(url, queue))
    rows: list[tuple[Any, ...]] = []
    loading: asyncio.Task[None] | None = None
    total = 0
    while (body := await queue.get()) is not None:
        page = Page.model_validate_json(body).data
        rows.extend((*PLAIN(record), orjson.dumps(record.metadata).decode()) for record in page)
        total += len(page)
        if len(rows) >= BATCH:
            if loading is not None:
                await loading
            loading = asyncio.create_task(load(connection, rows))
            rows = []
    if loading is not None:
        await loading
    if rows:
        await load(connection, rows)
    await fetching
    await connection.close()
    return total


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--base-url", required=True)
    options.add_argument("--page-size", type=int, required=True)
    options.add_argument("--database", required=True)
    given = options.parse_args()
    address = f"{given.base_url}/v1/registrations?limit={given.page_size}"
    print(json.dumps({"received": uvloop.run(run(address, given.database))}))
