"""The sensor that decides: reads the store, asks no vendor, requests at most one session. It judges drift on its way."""

import asyncio
from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.components.checks import drift_between
from sync_pipeline.polling.schedule import Decision, plan
from sync_pipeline.resources import SyncResource
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.telemetry.facts import Standing, feed_states, quota_left, standings
from sync_pipeline.vendors.config import ConnectionConfig

RUNNING = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def poll_sensor(config: ConnectionConfig, setup: Setup, job: Any) -> dg.SensorDefinition:
    """`<connection>_poll`: every ten seconds, is anything due under the quota?"""

    @dg.sensor(
        name=f"{config.name}_poll",
        job=job,
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests a session of {config.name} when one of its feeds is due, and judges `cursor_drift` while none "
        "runs, too. It sends nothing to the vendor.",
    )
    def poll(context: dg.SensorEvaluationContext, sync: SyncResource) -> dg.SensorResult | dg.SkipReason:
        if not setup.sources():
            return dg.SkipReason("no feed of this connection is enabled")
        in_session = bool(
            context.instance.get_run_records(dg.RunsFilter(job_name=f"poll_{config.name}", statuses=RUNNING), limit=1)
        )
        decisions, standing = asyncio.run(_look(sync, setup))
        drift = drift_between(context.instance, config.name, standing, in_session=in_session)
        if in_session:
            return dg.SensorResult(skip_reason="a session of this connection is running", asset_events=drift)
        due = [decision for decision in decisions if decision.due]
        if not due:
            nearest = decisions[0]
            return dg.SensorResult(skip_reason=f"{nearest.feed}: {nearest.why}", asset_events=drift)
        why = "; ".join(f"{decision.feed}: {decision.why}" for decision in due)
        request = dg.RunRequest(run_key=None, tags={"connection": config.name, "why": why[:250]})
        return dg.SensorResult([request], asset_events=drift)

    return poll


async def _look(sync: SyncResource, setup: Setup) -> tuple[list[Decision], Mapping[str, Standing]]:
    """What is due, and where each feed stands that has a place in the UI."""
    async with sync.open() as runtime:
        states = await feed_states(runtime.database, setup.connection.name, setup.sources())
        left = await quota_left(runtime.database, [node.scope for node in setup.connection.quota])
        known = await standings(runtime.database, setup.connection.name)
        return plan(states, runtime.clock.now(), left), {feed: known[feed] for feed in setup.feeds if feed in known}
