"""Asset and check specs of a connection, in the words of its users."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from sync_pipeline.components.naming import CHECKS, STAGES, check_stage, key
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.vendors.config import ConnectionConfig

DESCRIPTIONS = {
    "raw": "Pages of `{feed}` as {vendor} sent them, landed before anything else happens to them.",
    "validated": "Canonical rows of `{feed}` in `{table}`: one per record, newest version, contract held. Materialized "
    "without `raw`, it is derived again from the landed pages, without asking {vendor}.",
    "quarantine": "Records of `{feed}` that failed their contract: raw payload, codes, paths. See `sync-pipeline quarantine`.",
    "deltas": "One day of `{feed}` listed again at {vendor} and compared with the store: what differed, why, and what was "
    "done. A backfill of days proves each day.",
}
CHECK_DESCRIPTIONS = {
    "schema": "The canonical table has the contract's columns.",
    "conservation": "Every record received is applied, unchanged, superseded, held or quarantined.",
    "rejection_rate": "At most 5 % of what a cycle was shown is rejected.",
    "cursor_drift": "The feed stood at its horizon within the last ten minutes, or rests until its next poll. Judged while "
    "no session runs, too.",
    "lag": "95 % of changes are in the store within twice the freshness target.",
    "parity": "No difference between vendor and store waits for review.",
}
KINDS = {"raw": {"json"}, "validated": {"postgres", "pydantic"}, "quarantine": {"postgres"}, "deltas": {"pandas"}}


def column_schema(setup: Setup, feed: str) -> dg.TableSchema:
    """The canonical table's columns; personal ones are tagged."""
    columns = [
        dg.TableColumn("connection", "text", description="Connection"),
        dg.TableColumn("feed", "text", description="Feed"),
        dg.TableColumn("vendor_id", "text", description="The vendor's id: with connection and feed the key"),
    ]
    for column in setup.feeds[feed].contract.columns:
        tags = {"personal": "true"} if column.personal else {}
        columns.append(dg.TableColumn(column.name, column.type, description=column.description, tags=tags))
    columns.append(dg.TableColumn("modified_at", "timestamptz", description="When the vendor last changed it, UTC"))
    return dg.TableSchema(columns)


def spec(config: ConnectionConfig, setup: Setup, feed: str, stage: str, **more: Any) -> dg.AssetSpec:
    """One asset of a feed."""
    contract = setup.feeds[feed].contract
    metadata: dict[str, Any] = {"vendor": config.vendor, "contract": contract.version}
    if stage == "validated":
        metadata |= {"dagster/column_schema": column_schema(setup, feed), "dagster/table_name": contract.table}
    deps = {
        "raw": [],
        "validated": [key(config.name, feed, "raw")],
        "quarantine": [key(config.name, feed, "raw")],
        "deltas": [key(config.name, feed, "validated")],
    }[stage]
    return dg.AssetSpec(
        key(config.name, feed, stage),
        deps=deps,
        description=DESCRIPTIONS[stage].format(feed=feed, vendor=config.vendor.capitalize(), table=contract.table),
        group_name=config.group,
        owners=list(config.owners),
        kinds=KINDS[stage],
        tags={"connection": config.name, "vendor": config.vendor, "personal": "true"},
        metadata=metadata,
        **more,
    )


def session_specs(config: ConnectionConfig, setup: Setup) -> list[dg.AssetSpec]:
    """The stages that a session materializes, of every feed, with freshness from the feed's target."""
    specs: list[dg.AssetSpec] = []
    for feed, feed_setup in setup.feeds.items():
        seconds = max(600.0, 3 * feed_setup.wishes.ceiling_s)
        policy = dg.FreshnessPolicy.time_window(
            fail_window=timedelta(seconds=2 * seconds), warn_window=timedelta(seconds=seconds)
        )
        specs += [spec(config, setup, feed, stage, skippable=True, freshness_policy=policy) for stage in STAGES]
    return specs


def session_checks(config: ConnectionConfig, setup: Setup) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            check,
            asset=key(config.name, feed, check_stage(check)),
            description=CHECK_DESCRIPTIONS[check],
            blocking=check == "schema",
        )
        for feed in setup.feeds
        for check in CHECKS
    ]
