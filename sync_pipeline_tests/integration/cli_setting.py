"""The command line in this process, on a database of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg
from click.testing import Result
from typer.testing import CliRunner

from sync_pipeline.cli.app import app
from sync_pipeline.store.database import Database


class Terminal:
    """A command line on a database of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    def say(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.output

    def json(self, *arguments: str) -> dict[str, Any]:
        return _last_line(self.say(*arguments, "--json"))

    def failing_json(self, *arguments: str) -> dict[str, Any]:
        """What a command prints that ends with another code than 0."""
        done = self.run(*arguments, "--json")
        assert done.exit_code, done.output
        return _last_line(done.output)

    def within(self, work: Callable[[Database], Awaitable[object]]) -> None:
        async def run() -> None:
            async with Database.open(self.url) as database:
                await work(database)

        asyncio.run(run())

    def claimed_by_a_demo(self) -> None:
        with psycopg.connect(self.url) as conn:
            conn.execute("insert into sync.origin (kind, detail) values ('demo', '{\"seed\": 1}')")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as conn:
            return conn.execute(query).fetchall()


def _last_line(output: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found
