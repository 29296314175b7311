"""Real workers against real HTTP: the simulator, a database, and the command line in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from sync_pipeline.cli.places import simulated_vendors
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import Running, running


@dataclass
class Workplace:
    """A simulator, an empty database and a data directory."""

    simulator: Running
    url: str
    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **os.environ,
            **simulated_vendors(self.simulator.url),
            "DATABASE_URL": self.url,
            "SYNC_DATA_DIR": str(self.folder),
            **self.extra,
            **more,
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`sync-pipeline <arguments>` in a process of its own."""
        command = [sys.executable, "-m", "sync_pipeline.cli", *arguments]
        return subprocess.run(
            command, env=self.environment(**environment), capture_output=True, text=True, timeout=120, check=False
        )

    def json(self, *arguments: str, **environment: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json", **environment)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found

    def control(self, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        """The simulator's control plane: GET, or POST with a document."""
        with httpx.Client(base_url=self.simulator.url, timeout=60) as client:
            answer = client.get(f"/_sim/{path}") if document is None else client.post(f"/_sim/{path}", json=document)
            answer.raise_for_status()
            shown: dict[str, Any] = answer.json()
            return shown

    def rows(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as conn:
            return conn.execute(query, parameters).fetchall()

    def verified(self) -> None:
        """The promises hold and the store equals the vendors' truth."""
        found = self.json("verify", "--deep", "--truth", self.simulator.url)
        assert found["ok"], found
        assert self.rows("select count(*) from sync.page where status = 'landed'") == [(0,)]


@pytest.fixture
def workplace(database_url: str, tmp_path: Path) -> Iterator[Workplace]:
    with running(
        SimulatorOptions(seed=3, eventbrite_orders=160, pretix_orders=220, max_visibility_s=1.0, canary="Zyxcanary")
    ) as simulator:
        yield Workplace(simulator, database_url, tmp_path / "data dir")
