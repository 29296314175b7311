"""The door Dagster opens."""

from pathlib import Path

import dagster as dg

from sync_pipeline.components.domain_assets import registrations_asset
from sync_pipeline.components.quota_asset import GROUP, quota_asset
from sync_pipeline.components.replay_job import replay_quarantine
from sync_pipeline.resources import SyncResource
from sync_pipeline.telemetry.logs import configure, wanted_level


@dg.definitions
def defs() -> dg.Definitions:
    """Everything under defs/, the domain assets and the operators' jobs, with the resources that runs need.

    Nothing is asked of a database or a vendor here.
    """
    configure(level=wanted_level())
    loaded = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(
        loaded,
        dg.Definitions(
            assets=[registrations_asset(), quota_asset()],
            jobs=[replay_quarantine],
            sensors=[
                dg.AutomationConditionSensorDefinition(
                    "domain_assets",
                    target=dg.AssetSelection.groups("registrations", GROUP),
                    default_status=dg.DefaultSensorStatus.RUNNING,
                    minimum_interval_seconds=30,
                )
            ],
            resources={"sync": SyncResource()},
            executor=dg.in_process_executor,
        ),
    )
