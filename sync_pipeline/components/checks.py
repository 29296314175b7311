"""Verdicts as Dagster shows them: of a session, and of the store between sessions.

A run that plans a check hides the last verdict until it ends. Sessions run nearly all the time, so their jobs plan none:
a session says what it found when it ends, and the sensor judges in between what may change without a session.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from sync_pipeline.components.naming import check_stage, key
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.telemetry import verdicts
from sync_pipeline.telemetry.facts import Standing
from sync_pipeline.telemetry.verdicts import Verdict

AGAIN_EVERY_S = 300.0
"""How old the sentence of a check that goes on failing may grow."""


def check_key(feed: FeedId, check: str) -> dg.AssetCheckKey:
    return dg.AssetCheckKey(key(feed.connection, feed.feed, check_stage(check)), check)


def severity(check: str) -> dg.AssetCheckSeverity:
    return dg.AssetCheckSeverity.WARN if check == "lag" else dg.AssetCheckSeverity.ERROR


def planned(feed: FeedId, check: str, verdict: Verdict) -> dg.AssetCheckResult:
    """What a run must yield that planned the check: one that somebody started in the UI."""
    return dg.AssetCheckResult(**_shown(feed, check, verdict))


def unplanned(feed: FeedId, check: str, verdict: Verdict) -> dg.AssetCheckEvaluation:
    """The same, where nothing was planned."""
    return dg.AssetCheckEvaluation(**_shown(feed, check, verdict))


def _shown(feed: FeedId, check: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "asset_key": check_key(feed, check).asset_key,
        "check_name": check,
        "passed": verdict.passed,
        "severity": severity(check),
        "description": verdict.why,
        "metadata": {"why": verdict.why, **verdict.numbers},
    }


def drift_between(
    instance: dg.DagsterInstance, connection: str, standings: Mapping[str, Standing], *, in_session: bool
) -> list[dg.AssetCheckEvaluation]:
    """`cursor_drift` of each feed for which the UI shows another verdict, or a failure that is five minutes old.

    A feed in its very first window is left to its session.
    """
    found = []
    for name, standing in standings.items():
        if in_session and standing.caught_up_at is None:
            continue
        feed = FeedId(connection, name)
        verdict = verdicts.cursor_drift(feed, standing)
        shown = instance.get_latest_asset_check_evaluation_record(check_key(feed, "cursor_drift"))
        outcome = shown.status.value if shown is not None else None
        if outcome == ("SUCCEEDED" if verdict.passed else "FAILED"):
            assert shown is not None
            if verdict.passed or standing.now.timestamp() - shown.create_timestamp < AGAIN_EVERY_S:
                continue
        found.append(unplanned(feed, "cursor_drift", verdict))
    return found
