"""URLs as vendors write them, changed without quoting anything anew."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote_plus


def without(url: str, names: Collection[str]) -> str:
    """The URL less its query parameters of these names, and less what is empty in its query."""
    bare, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and unquote_plus(part.partition("=")[0]) not in names]
    return f"{bare}?{'&'.join(kept)}" if kept else bare
