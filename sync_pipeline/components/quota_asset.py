"""`operations/quota`: the quota audit, hourly, as tables and a picture; and the check that no breaker is open."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from sync_pipeline.resources import SyncResource
from sync_pipeline.runtime import load_setups
from sync_pipeline.telemetry.facts import select
from sync_pipeline.telemetry.quota_audit import QuotaAudit, quota_audit
from sync_pipeline.telemetry.quota_picture import as_markdown, hourly_png

ASSET = dg.AssetKey(["operations", "quota"])
GROUP = "operations"


def quota_asset() -> dg.AssetsDefinition:
    @dg.asset(
        key=ASSET,
        group_name=GROUP,
        owners=["team:operations"],
        kinds={"postgres", "pandas"},
        description="What each vendor's limit has left, who used it (lanes, feeds, others on the same key), who waits for it, "
        "and what the day's end will be at this pace. The same as `sync-pipeline quota`.",
        automation_condition=dg.AutomationCondition.on_cron("5 * * * *"),
        check_specs=[
            dg.AssetCheckSpec(
                "breakers_closed",
                asset=ASSET,
                description="No endpoint or credential is being spared because of failures.",
            ),
            dg.AssetCheckSpec(
                "not_refused",
                asset=ASSET,
                description="No vendor refused a call for its limit (429) in the last 24 hours.",
            ),
        ],
    )
    async def quota(context: dg.AssetExecutionContext, sync: SyncResource):  # type: ignore[no-untyped-def]
        connections = [setup.connection for setup in load_setups().values()]
        async with sync.open() as runtime:
            audit = await quota_audit(runtime.database, connections, runtime.clock.now())
            breakers = await select(runtime.database, "breakers_open")
        refused = sum(row["answers_429"] for row in audit.use)
        yield dg.MaterializeResult(
            asset_key=ASSET,
            metadata={
                "calls": sum(row["calls"] for row in audit.use),
                "answers_429": refused,
                "foreign_calls": sum(row["calls"] for row in audit.foreign),
                "waited_s": round(sum(row["waited_s"] for row in audit.use), 1),
                "picture": dg.MetadataValue.md(_picture(audit)),
                **{
                    title.lower().replace(" ", "_"): dg.MetadataValue.md(_table(rows))
                    for title, rows in audit.tables.items()
                },
            },
        )
        yield dg.AssetCheckResult(
            asset_key=ASSET,
            check_name="breakers_closed",
            passed=not breakers,
            severity=dg.AssetCheckSeverity.WARN,
            description="all closed"
            if not breakers
            else "; ".join(f"{row['connection']} {row['endpoint']}: {row['state']}" for row in breakers),
            metadata={"open": len(breakers), "breakers": dg.MetadataValue.md(_table(breakers))},
        )
        yield dg.AssetCheckResult(
            asset_key=ASSET,
            check_name="not_refused",
            passed=refused == 0,
            severity=dg.AssetCheckSeverity.WARN,
            description="no answer 429"
            if not refused
            else f"{refused} answers 429: the limit in the YAML is above the vendor's, or others use the same key",
            metadata={"answers_429": refused},
        )

    return quota


def _picture(audit: QuotaAudit) -> str:
    title = f"Calls an hour by lane, last {audit.hours} hours (UTC)"
    return as_markdown(hourly_png(audit.by_hour, title=title, until=audit.at, span=audit.hours), title)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "nothing"
    import pandas as pd

    return pd.DataFrame(rows).fillna("").to_markdown(index=False) or ""
