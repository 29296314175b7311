"""Where this checkout keeps its data, and the environment that Dagster and the simulated vendors need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.store.database import dagster_environment, database_url
from sync_pipeline.store.embedded import data_dir
from sync_pipeline.store.migrate import migrate

PROJECT = Path(__file__).resolve().parents[2]

SIMULATED_TOKENS = {"EVENTBRITE_TOKEN": "sim-eventbrite-token", "PRETIX_TOKEN": "sim-pretix-token"}


def working_database() -> str:
    """The URL of the working database, migrated: DATABASE_URL, or the embedded server."""
    url = database_url()
    migrate(url)
    return url


def simulated_vendors(base: str) -> dict[str, str]:
    """Environment that points both registration connections at a simulator."""
    return {
        **SIMULATED_TOKENS,
        "SYNC_EVENTBRITE_BASE_URL": f"{base}/eventbrite/v3",
        "SYNC_EVENTBRITE_ORGANIZATION": "1001",
        "SYNC_PRETIX_BASE_URL": f"{base}/pretix/api/v1",
        "SYNC_PRETIX_ORGANIZER": "simorg",
    }


def dagster_home(url: str) -> dict[str, str]:
    """Prepare Dagster's home beside the data and return the environment that makes Dagster use it.

    The settings are those of the project's dagster.yaml; the storage is a schema of the same database.
    """
    settings = PROJECT / "dagster.yaml"
    if not settings.exists():
        raise ConfigurationError(f"dagster.yaml is missing in {PROJECT}; run from a checkout of the project")
    home = data_dir() / "dagster_home"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(settings, home / "dagster.yaml")
    return {"DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes", **dagster_environment(url)}


def enter(environment: Mapping[str, str]) -> None:
    """Make the settings those of this process and its children."""
    os.environ.update(environment)
