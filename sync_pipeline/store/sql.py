"""Named SQL: each room keeps its statements in one `queries.sql`, each behind a line `-- name: what_it_does`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

NAME = re.compile(r"^-- name: ([a-z_]+)\s*$", re.MULTILINE)


class Queries:
    """The statements of one room as attributes. An unknown name raises AttributeError at once."""

    def __init__(self, room: str, text: str) -> None:
        self._room = room
        parts = NAME.split(text)
        self._statements = {name: body.strip() for name, body in zip(parts[1::2], parts[2::2], strict=True)}

    def __getattr__(self, name: str) -> str:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._room}/queries.sql has no statement named {name}") from None

    def names(self) -> frozenset[str]:
        return frozenset(self._statements)


@cache
def queries(package: str) -> Queries:
    """The statements of the package's `queries.sql`."""
    return Queries(package, files(package).joinpath("queries.sql").read_text(encoding="utf-8"))
