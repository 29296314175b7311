"""The sensor that decides: reads the store, asks no vendor, requests at most one session."""

import asyncio
from typing import Any

import dagster as dg

from sync_pipeline.polling.schedule import Decision, plan
from sync_pipeline.resources import SyncResource
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.telemetry.facts import feed_states, quota_left
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
        description=f"Requests a session of {config.name} when one of its feeds is due. It sends nothing to the vendor.",
    )
    def poll(context: dg.SensorEvaluationContext, sync: SyncResource) -> dg.SensorResult | dg.SkipReason:
        in_flight = context.instance.get_run_records(
            dg.RunsFilter(job_name=f"poll_{config.name}", statuses=RUNNING), limit=1
        )
        if in_flight:
            return dg.SkipReason("a session of this connection is running")
        if not setup.sources():
            return dg.SkipReason("no feed of this connection is enabled")
        decisions = asyncio.run(_decide(sync, setup))
        due = [decision for decision in decisions if decision.due]
        if not due:
            nearest = decisions[0]
            return dg.SkipReason(f"{nearest.feed}: {nearest.why}")
        why = "; ".join(f"{decision.feed}: {decision.why}" for decision in due)
        return dg.SensorResult([dg.RunRequest(run_key=None, tags={"connection": config.name, "why": why[:250]})])

    return poll


async def _decide(sync: SyncResource, setup: Setup) -> list[Decision]:
    async with sync.open() as runtime:
        states = await feed_states(runtime.database, setup.connection.name, setup.sources())
        left = await quota_left(runtime.database, [node.scope for node in setup.connection.quota])
        return plan(states, runtime.clock.now(), left)
