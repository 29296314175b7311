"""Which feeds there are: what the YAML describes, and what the store has anything of, described or not."""

from __future__ import annotations

from collections.abc import Iterable

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)


async def refuse_unknown_feed(
    database: Database, described: Iterable[FeedId], *, connection: str | None, feed: str | None
) -> None:
    """Refuse a filter that no feed can pass; None does not narrow. A feed that has left the YAML keeps its rows, and they can
    be reached. Raises ConfigurationError."""
    if connection is None and feed is None:
        return
    known = {*described, *(FeedId(*row) for row in await database.statement(SQL.feeds_ever, {}))}
    if not any(connection in (None, one.connection) and feed in (None, one.feed) for one in known):
        wanted = "/".join(filter(None, (connection, feed)))
        raise ConfigurationError(f"there is no feed {wanted!r}; known are: {', '.join(sorted(map(str, known)))}")
