"""Names that the UI shows: asset keys, jobs, checks."""

from __future__ import annotations

import dagster as dg

STAGES = ("raw", "validated", "quarantine")
CHECKS = ("schema", "conservation", "rejection_rate", "cursor_drift", "lag")


def key(connection: str, feed: str, stage: str) -> dg.AssetKey:
    return dg.AssetKey([connection, feed, stage])


def check_stage(check: str) -> str:
    """The stage a check belongs to."""
    return {"rejection_rate": "quarantine", "cursor_drift": "raw"}.get(check, "validated")
