"""Conditional requests: what a URL's last answer was known by (RFC 9110, 13)."""

from __future__ import annotations

import hashlib

from sync_pipeline.kernel.feed import Reply, Request
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


class Validators:
    """ETag and Last-Modified of a connection's conditional requests, shared by all workers."""

    def __init__(self, connection: str, database: Database) -> None:
        self._connection = connection
        self._db = database

    def _key(self, request: Request) -> str:
        said = "\x1f".join([request.method, request.path, *(f"{name}={value}" for name, value in request.params)])
        return hashlib.sha256(said.encode()).hexdigest()

    async def headers(self, request: Request) -> dict[str, str]:
        """If-None-Match / If-Modified-Since for a URL that was answered before; empty otherwise."""
        if not request.conditional:
            return {}
        async with self._db.transaction() as conn:
            found = await conn.execute(
                SQL.validator_get, {"connection": self._connection, "url_key": self._key(request)}
            )
            row = await found.fetchone()
        if row is None:
            return {}
        etag, last_modified = row
        return ({"if-none-match": etag} if etag else {}) | (
            {"if-modified-since": last_modified} if last_modified else {}
        )

    async def remember(self, request: Request, reply: Reply) -> None:
        etag, last_modified = reply.headers.get("etag"), reply.headers.get("last-modified")
        if not request.conditional or reply.status != 200 or not (etag or last_modified):
            return
        async with self._db.transaction() as conn:
            await conn.execute(
                SQL.validator_put,
                {
                    "connection": self._connection,
                    "url_key": self._key(request),
                    "etag": etag,
                    "last_modified": last_modified,
                },
            )
