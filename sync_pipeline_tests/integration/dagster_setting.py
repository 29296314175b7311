"""The Dagster side on a real database and a simulated vendor, as operators have it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import psycopg
import pytest

from sync_pipeline.cli.places import simulated_vendors
from sync_pipeline.definitions import defs
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import running


@dataclass
class Desk:
    """Definitions, an instance, a database and a simulated vendor."""

    definitions: dg.Definitions
    instance: dg.DagsterInstance
    simulator: str
    url: str

    def run(
        self, job: str, *, partition: str | None = None, only: list[dg.AssetKey] | None = None
    ) -> dg.ExecuteInProcessResult:
        config = {"ops": {"pretix_session": {"config": {"until_horizon": True}}}} if job == "poll_pretix" else None
        return self.definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            run_config=config,
            partition_key=partition,
            asset_selection=only,
            raise_on_error=False,
        )

    def control(self, path: str, document: dict[str, Any] | None = None) -> dict[str, Any]:
        with httpx.Client(base_url=self.simulator, timeout=30) as client:
            answer = client.get(f"/_sim/{path}") if document is None else client.post(f"/_sim/{path}", json=document)
            shown: dict[str, Any] = answer.raise_for_status().json()
            return shown

    def asked(self) -> int:
        number: int = self.control("stats")["vendors"]["pretix"]["requests"]
        return number

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def at_desk(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    options = SimulatorOptions(seed=5, eventbrite_orders=5, pretix_orders=120, max_commit_lag_s=0.0, canary="Zyxcanary")
    with running(options) as simulator:
        for name, value in {
            **simulated_vendors(simulator.url),
            "DATABASE_URL": database_url,
            "SYNC_DATA_DIR": str(tmp_path),
        }.items():
            monkeypatch.setenv(name, value)
        with dg.DagsterInstance.ephemeral() as instance:
            yield Desk(defs(), instance, simulator.url, database_url)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        f"{found.asset_key.to_user_string()}:{found.check_name}": found
        for found in result.get_asset_check_evaluations()
    }


def key(*parts: str) -> dg.AssetKey:
    return dg.AssetKey(list(parts))
