"""Under the project's dagster.yaml our events reach the run's log, masked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sync_pipeline.store.database import dagster_environment
from sync_pipeline.telemetry.logs import TRANSPORT, StderrHandler, configure
from sync_pipeline.trust.logger import TREE, get_logger

SETTINGS = Path(__file__).parents[2] / "dagster.yaml"


@pytest.fixture
def instance(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """A real instance: the project's settings, storage in the tests' Postgres."""
    (tmp_path / "dagster.yaml").write_bytes(SETTINGS.read_bytes())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    for name, value in dagster_environment(database_url).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def configured() -> Iterator[None]:
    configure()
    yield
    for name in (TREE, *TRANSPORT):
        logger = logging.getLogger(name)
        logger.propagate = True
        for handler in [handler for handler in logger.handlers if isinstance(handler, StderrHandler)]:
            logger.removeHandler(handler)


def test_our_events_are_in_the_runs_log(
    instance: dg.DagsterInstance, configured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    @dg.asset
    def talks() -> None:
        log = get_logger("sync_pipeline.sessions.walk")
        log.info("pages landed", feed="orders", pages=3, note="planted@person.example")
        log.debug("not wanted")

    result = dg.materialize([talks], instance=instance)
    messages = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert "pages landed feed=orders pages=3 note=[masked]" in messages
    assert "planted" not in repr(instance.all_logs(result.run_id))
    ours = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line for line in ours if '"event":"pages landed"' in line] == ours
    assert len(ours) == 1


def test_the_storage_is_a_schema_of_the_same_database(instance: dg.DagsterInstance, database_url: str) -> None:
    import psycopg

    with psycopg.connect(database_url) as conn:
        found = conn.execute("select schemaname from pg_tables where tablename in ('runs', 'event_logs', 'job_ticks')")
        assert {row[0] for row in found} == {"dagster"}


def test_the_settings_mean_what_they_say(instance: dg.DagsterInstance) -> None:
    settings = yaml.safe_load(SETTINGS.read_text())
    assert instance.managed_python_loggers == ["sync_pipeline"]
    assert instance.telemetry_enabled is False
    assert instance.get_settings("sensors")["use_threads"] is True
    assert type(instance.run_coordinator).__name__ == settings["run_coordinator"]["class"]
    assert type(instance.compute_log_manager).__name__ == "NoOpComputeLogManager"
