"""Assets above the connections: a domain's table as a whole."""

import dagster as dg

from sync_pipeline.components.naming import key
from sync_pipeline.resources import SyncResource
from sync_pipeline.runtime import load_configs
from sync_pipeline.telemetry.facts import select


def registrations_asset() -> dg.AssetsDefinition:
    """`registrations/registrations`: all feeds together, counted."""
    deps = [
        key(config.name, feed.name, "validated")
        for config in load_configs().values()
        if config.group == "registrations"
        for feed in config.feeds
        if feed.enabled
    ]

    @dg.asset(
        key=dg.AssetKey(["registrations", "registrations"]),
        deps=deps,
        group_name="registrations",
        owners=["team:events"],
        kinds={"postgres", "pandas"},
        tags={"personal": "true"},
        metadata={"dagster/table_name": "registrations.registration"},
        description="All registrations of all connections in one vocabulary: `registrations.registration`.",
        # Some session is nearly always running; plain eager would wait for all of them to rest at once.
        automation_condition=dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_in_progress()),
    )
    async def registrations(context: dg.AssetExecutionContext, sync: SyncResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        import pandas as pd

        async with sync.open() as runtime:
            rows = await select(runtime.database, "registrations_summary")
        frame = pd.DataFrame(rows, columns=["feed", "kind", "payment_status", "tier", "registrations"])
        by_status = frame.pivot_table(
            index="feed", columns="payment_status", values="registrations", aggfunc="sum", fill_value=0
        )
        holders = frame[frame["kind"] == "attendee"]
        by_tier = holders.pivot_table(index="tier", columns="feed", values="registrations", aggfunc="sum", fill_value=0)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": int(frame["registrations"].sum()),
                "by_payment_status": dg.MetadataValue.md(by_status.to_markdown() or ""),
                "by_tier": dg.MetadataValue.md(by_tier.to_markdown() or ""),
            }
        )

    return registrations
