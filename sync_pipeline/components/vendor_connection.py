"""A connection: one YAML document becomes its assets, checks, sensor, schedule and jobs."""

from typing import Any

import dagster as dg
from pydantic import BaseModel

from sync_pipeline.components.deltas_asset import deltas_asset
from sync_pipeline.components.naming import STAGES, key
from sync_pipeline.components.scaffolding import VendorConnectionScaffolder
from sync_pipeline.components.sensor import poll_sensor
from sync_pipeline.components.session_asset import session_asset
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.runtime import build_setup
from sync_pipeline.vendors.config import ConnectionConfig


@dg.scaffold_with(VendorConnectionScaffolder)
class VendorConnection(dg.Component):
    """One account at a vendor: its feeds polled under its quota into raw, validated, quarantine and deltas."""

    def __init__(self, config: ConnectionConfig) -> None:
        self.config = config

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return ConnectionConfig

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        return dg.ComponentTypeSpec(
            description="One account at a vendor, synced into Postgres inside the vendor's quota.",
            owners=["team:sync"],
            tags=["sync"],
        )

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> "VendorConnection":
        if not isinstance(attributes, ConnectionConfig):
            raise TypeError("a VendorConnection needs attributes")
        return cls(attributes)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        config = self.config
        setup = build_setup(config)
        session = session_asset(config, setup)
        deltas = [deltas_asset(config, setup, feed) for feed in setup.feeds]
        stages = [key(config.name, feed, stage) for feed in setup.feeds for stage in STAGES]
        poll = dg.define_asset_job(
            f"poll_{config.name}",
            # Its checks are reported and not planned: see checks.py.
            selection=dg.AssetSelection.assets(*stages).without_checks(),
            description=f"One session of {config.name}: all feeds polled to their horizon and kept there for a while.",
            tags={"connection": config.name},
            executor_def=dg.in_process_executor,
        )
        reconcile = dg.define_asset_job(
            f"reconcile_{config.name}",
            selection=dg.AssetSelection.assets(*(key(config.name, feed, "deltas") for feed in setup.feeds)),
            description=f"List a day of {config.name} again and compare it with the store.",
            tags={"connection": config.name},
            executor_def=dg.in_process_executor,
        )
        daily = _daily(config, reconcile)
        return dg.Definitions(
            assets=[session, *deltas],
            jobs=[poll, reconcile],
            sensors=[poll_sensor(config, setup, poll)],
            schedules=[daily],
        )


def _daily(config: ConnectionConfig, job: Any) -> dg.ScheduleDefinition:
    try:
        return dg.ScheduleDefinition(
            name=f"reconcile_{config.name}_daily",
            job=job,
            cron_schedule=config.reconcile_cron,
            execution_timezone="UTC",
            execution_fn=_yesterday,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Proves yesterday.",
        )
    except dg.DagsterInvalidDefinitionError:
        raise ConfigurationError(
            f"connection {config.name}: reconcile_cron {config.reconcile_cron!r} is no cron expression; write one like "
            "'15 3 * * *'"
        ) from None


def _yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    from datetime import timedelta

    day = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m-%d")
    return dg.RunRequest(partition_key=day)
