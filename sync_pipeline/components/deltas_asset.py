"""The asset that proves: days listed again at the vendor, compared, mended, reported."""

from datetime import date, timedelta

import dagster as dg

from sync_pipeline.components.naming import key
from sync_pipeline.components.specs import CHECK_DESCRIPTIONS, spec
from sync_pipeline.kernel.loop import run_worker
from sync_pipeline.reconcile.report import frame, save, summary
from sync_pipeline.reconcile.window import WindowReport, reconcile_days
from sync_pipeline.resources import SyncResource
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.embedded import data_dir
from sync_pipeline.telemetry import verdicts
from sync_pipeline.vendors.config import ConnectionConfig

FIRST_DAY = "2020-01-01"
"""Days before it are listed again by a `resync` only."""
SHOWN = 20


def deltas_asset(config: ConnectionConfig, setup: Setup, feed: str) -> dg.AssetsDefinition:
    """`<connection>/<feed>/deltas`, partitioned by the day a record was last modified (UTC)."""
    asset = key(config.name, feed, "deltas")

    @dg.multi_asset(
        name=f"{config.name}_{feed}_deltas",
        specs=[
            spec(config, setup, feed, "deltas", partitions_def=dg.DailyPartitionsDefinition(FIRST_DAY, end_offset=1))
        ],
        check_specs=[dg.AssetCheckSpec("parity", asset=asset, description=CHECK_DESCRIPTIONS["parity"])],
        backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=31),
        op_tags={"connection": config.name},
    )
    def deltas(context: dg.AssetExecutionContext, sync: SyncResource):  # type: ignore[no-untyped-def]
        first, last = context.partition_key_range
        start, end = date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1)
        report = run_worker(_reconcile(sync, setup, feed, start, end, context.run.run_id))
        csv, parquet = save(report, data_dir() / "reports")
        verdict = verdicts.parity(report.open, f"{first} to {last}" if first != last else first)
        yield dg.MaterializeResult(
            asset_key=asset,
            metadata={
                "dagster/row_count": len(report.deltas),
                "listed": report.listed,
                "pages": report.pages,
                "open": report.open,
                "without_effect": report.without_effect,
                "summary": dg.MetadataValue.md(summary(report).to_markdown(index=False) or ""),
                "deltas": dg.MetadataValue.md(_table(report)),
                "csv": dg.MetadataValue.path(csv.name),
                "parquet": dg.MetadataValue.path(parquet.name),
            },
        )
        yield dg.AssetCheckResult(
            passed=verdict.passed,
            asset_key=asset,
            check_name="parity",
            severity=dg.AssetCheckSeverity.ERROR,
            description=verdict.why,
            metadata={"why": verdict.why, **verdict.numbers},
        )

    return deltas


async def _reconcile(sync: SyncResource, setup: Setup, feed: str, start: date, end: date, session: str) -> WindowReport:
    async with sync.open() as runtime, runtime.gateway(setup) as gateway:
        return await reconcile_days(runtime, setup, feed, gateway, start=start, end=end, session=session)


def _table(report: WindowReport) -> str:
    if not report.deltas:
        return "No differences."
    return frame(report).head(SHOWN).to_markdown(index=False) or ""
