"""The asset that polls: one bounded session of a connection, from vendor to canonical rows, with its checks."""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from sync_pipeline.components.checks import check_key, planned, unplanned
from sync_pipeline.components.naming import STAGES, check_stage, key
from sync_pipeline.components.specs import session_checks, session_specs
from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.errors import ConfigurationError, SyncError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.kernel.loop import run_worker
from sync_pipeline.resources import SyncResource
from sync_pipeline.runtime import Runtime
from sync_pipeline.sessions.reading import derive_again
from sync_pipeline.sessions.session import SessionOptions
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.sessions.steps import PollResult
from sync_pipeline.telemetry import facts as facts_of
from sync_pipeline.telemetry import verdicts
from sync_pipeline.telemetry.facts import FeedFacts, Rejections
from sync_pipeline.telemetry.verdicts import Verdict
from sync_pipeline.vendors.config import ConnectionConfig

OBSERVE_EVERY_S = 30.0
Result = dg.MaterializeResult[Any] | dg.AssetCheckResult


class SessionConfig(dg.Config):
    """Bounds of the session; the defaults suit the sensor."""

    max_seconds: float | None = Field(
        default=None, description="Longest time to poll; default the connection's session_s."
    )
    max_calls: int | None = Field(default=None, description="Most vendor calls.")
    until_horizon: bool = Field(default=False, description="Stop when every feed has reached its horizon once.")


def session_asset(config: ConnectionConfig, setup: Setup) -> dg.AssetsDefinition:
    """The multi-asset `<connection>_session`. Without any `raw` selected, rows are derived again from landed pages."""

    @dg.multi_asset(
        name=f"{config.name}_session",
        specs=session_specs(config, setup),
        check_specs=session_checks(config, setup),
        can_subset=True,
        op_tags={"connection": config.name},
    )
    def session(context: dg.AssetExecutionContext, config: SessionConfig, sync: SyncResource):  # type: ignore[no-untyped-def]
        chosen = {
            feed: [stage for stage in STAGES if key(connection, feed, stage) in context.selected_asset_keys]
            for feed in setup.feeds
        }
        results, fault = run_worker(_session(context, sync, setup, config, chosen, session_s))
        yield from results
        if fault is not None:
            raise dg.Failure(f"{type(fault).__name__}: {fault}", allow_retries=False)

    connection, session_s = config.name, config.session_s
    return session


async def _session(
    context: dg.AssetExecutionContext,
    sync: SyncResource,
    setup: Setup,
    config: SessionConfig,
    chosen: Mapping[str, list[str]],
    session_s: float,
) -> tuple[list[Result], SyncError | None]:
    """What to report of each feed's chosen stages, and the error that an operator must act on, if any."""
    async with sync.open() as runtime:
        asked = [feed for feed, stages in chosen.items() if "raw" in stages]
        derived = [feed for feed, stages in chosen.items() if stages and "raw" not in stages]
        horizons = await _horizons(runtime, setup)
        started = time.monotonic()
        fault = await _poll(context, runtime, setup, config, asked, session_s) if asked else None
        again = {
            feed: await derive_again(setup, runtime.landing, runtime.ledger, runtime.objects, feed) for feed in derived
        }
        results: list[Result] = []
        for feed, stages in chosen.items():
            seconds = time.monotonic() - started
            found, broken = await _results(
                context, runtime, setup, feed, stages, seconds, again.get(feed), horizons.get(feed)
            )
            results += found
            fault = fault or broken
    return results, fault


async def _horizons(runtime: Runtime, setup: Setup) -> dict[str, Any]:
    """When each feed last stood at its horizon, before this session: what changed earlier has no lag."""
    found = {}
    for feed in setup.feeds:
        known = await facts_of.feed_facts(runtime.database, FeedId(setup.connection.name, feed), "")
        found[feed] = known.caught_up_at
    return found


async def _poll(
    context: dg.AssetExecutionContext,
    runtime: Runtime,
    setup: Setup,
    config: SessionConfig,
    feeds: list[str],
    session_s: float,
) -> SyncError | None:
    """Run the session; returns the error that an operator must act on, if any."""
    seen: dict[str, float] = {}

    def progress(source: str, result: PollResult) -> None:
        now = time.monotonic()
        if now - seen.get(source, now - OBSERVE_EVERY_S) < OBSERVE_EVERY_S:
            return
        seen[source] = now
        counts = sum(result.counts.values(), Counts())
        context.log_event(
            dg.AssetObservation(
                asset_key=key(setup.connection.name, source, "raw"),
                metadata={"pages": result.pages, "received": counts.received, "applied": counts.applied},
            )
        )

    options = SessionOptions(
        max_seconds=config.max_seconds or session_s, max_calls=config.max_calls, until_horizon=config.until_horizon
    )
    report = await runtime.run_session(setup, options, feeds=feeds, progress=progress, session_id=context.run.run_id)
    for name, feed in report.feeds.items():
        if feed.error is not None:
            context.log.warning("%s/%s: %s: %s", setup.connection.name, name, type(feed.error).__name__, feed.error)
    if report.handoff_error is not None:
        error = report.handoff_error
        context.log.warning("%s, handing on: %s: %s", setup.connection.name, type(error).__name__, error)
    try:
        report.raise_for_fault()
    except SyncError as error:
        return error
    return None


async def _results(
    context: dg.AssetExecutionContext,
    runtime: Runtime,
    setup: Setup,
    feed: str,
    stages: list[str],
    seconds: float,
    again: tuple[int, Counts] | None,
    horizon: Any,
) -> tuple[list[Result], SyncError | None]:
    """The feed's materializations and verdicts, and what fails the run: Dagster does that for a blocking check that it
    planned, and for no other."""
    if not stages:
        return [], None
    feed_id = FeedId(setup.connection.name, feed)
    contract = setup.feeds[feed].contract
    facts = await facts_of.feed_facts(runtime.database, feed_id, context.run.run_id)
    if again is not None:
        facts = facts.derived(*again)
    rejections = await facts_of.rejections(runtime.database, feed_id, facts.first_page)
    rows, lag_p95_s = await facts_of.row_facts(
        runtime.database, feed_id, contract.table, first_page=facts.first_page, since=horizon
    )
    columns = await facts_of.table_columns(runtime.database, contract.table)
    results: list[Result] = [
        dg.MaterializeResult(
            asset_key=key(setup.connection.name, feed, stage),
            metadata=_metadata(stage, facts, rejections.codes, rows, lag_p95_s, seconds, derived=again is not None),
        )
        for stage in stages
    ]
    found: Mapping[str, Verdict] = {
        "schema": verdicts.schema(frozenset(column.name for column in contract.columns), columns, contract.drift()),
        "conservation": verdicts.conservation(facts),
        "rejection_rate": await _rejection_rate(runtime, feed_id, facts, rejections),
        "cursor_drift": verdicts.cursor_drift(feed_id, facts),
        "lag": verdicts.lag(lag_p95_s, setup.feeds[feed].wishes.target_lag_s) if again is None else verdicts.no_lag(),
    }
    for check, verdict in found.items():
        if check_key(feed_id, check) in context.selected_asset_check_keys:
            results.append(planned(feed_id, check, verdict))
        elif check_stage(check) in stages:
            context.log_event(unplanned(feed_id, check, verdict))
    broken = None if found["schema"].passed else ConfigurationError(f"{feed_id}: {found['schema'].why}")
    return results, broken


async def _rejection_rate(runtime: Runtime, feed: FeedId, facts: FeedFacts, rejections: Rejections) -> Verdict:
    if facts.received:
        return verdicts.rejection_rate(facts, rejections)
    last = await facts_of.last_cycle(runtime.database, feed)
    return verdicts.rejections_left(last, await facts_of.rejections(runtime.database, feed, last.first_page))


def _metadata(
    stage: str,
    facts: FeedFacts,
    codes: Mapping[str, int],
    rows: int,
    lag_p95_s: float | None,
    seconds: float,
    *,
    derived: bool,
) -> dict[str, Any]:
    """Numbers only, so that the UI can plot them; no value of a record, no id."""
    shown: dict[str, Any] = {"seconds": round(seconds, 2)}
    if derived:
        shown |= {"derived_from_pages": facts.pages, "received": facts.received, "applied": facts.applied,
                  "unchanged": facts.unchanged, "superseded": facts.superseded, "held": facts.held,
                  "quarantined": facts.quarantined}  # fmt: skip
    else:
        shown |= {"pages": facts.pages, "received": facts.received}
    if stage == "raw":
        shown |= {"requests": facts.requests, "answers_429": facts.answers_429, "retries": facts.retries,
                  "waited_s": round(facts.waited_s, 2)}  # fmt: skip
        shown["why"] = verdicts.waiting(facts) or facts.last_error or facts.why or "at its horizon"
        if facts.watermark is not None:
            shown["watermark"] = dg.MetadataValue.timestamp(facts.watermark)
        if facts.next_due is not None:
            shown["next_due"] = dg.MetadataValue.timestamp(facts.next_due)
    if stage == "validated":
        shown["dagster/row_count"] = rows
        if not derived:
            shown |= {"applied": facts.applied, "unchanged": facts.unchanged, "superseded": facts.superseded,
                      "held": facts.held, "quarantined": facts.quarantined, "held_now": facts.held_now}  # fmt: skip
        if lag_p95_s is not None:
            shown["lag_p95_s"] = round(lag_p95_s, 2)
    if stage == "quarantine":
        shown |= {"dagster/row_count": facts.open_quarantine, "dead_letters": facts.dead_letters}
        if not derived:
            shown["quarantined"] = facts.quarantined
        if codes:
            shown["codes"] = dg.MetadataValue.table(
                [dg.TableRecord({"code": code, "records": number}) for code, number in codes.items()]
            )
    return shown
