"""Everything about a simulator that its starter may choose."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

EVENTBRITE_TOKEN = "sim-eventbrite-token"  # noqa: S105 - opens nothing but the simulator
PRETIX_TOKEN = "sim-pretix-token"  # noqa: S105 - opens nothing but the simulator

PORT = 8700
"""Where it is served unless its starter says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """How the simulated vendors behave. Durations in seconds unless the name says otherwise.

    `None` for a limit means that the vendor has none (a self-hosted pretix).
    `max_visibility_s`: an Eventbrite change is seen 1..max seconds after it happened; 300 is what the vendor admits to.
    `max_commit_lag_s`: a pretix change carries a `last_modified` up to this much older than its commit.
    `canary`: a marker put into the personal values of every twentieth person, to be searched for where it must not be.
    `start`: the world's first instant (aware); when omitted that of the journal, or the wall clock. History lies in the days
    before it.
    `journal`: a file from which the same world starts again as it was left. Another world's is written anew.
    """

    seed: int = 1
    eventbrite_orders: int = 1500
    pretix_orders: int = 1200
    history_days: int = 60
    max_visibility_s: float = 3.0
    max_commit_lag_s: float = 1.0
    changes_per_minute: float = 0.0
    canary: str = ""
    eventbrite_token: str = EVENTBRITE_TOKEN
    pretix_token: str = PRETIX_TOKEN
    eventbrite_per_hour: int | None = 2000
    eventbrite_per_day: int | None = 48_000
    eventbrite_retry_after: bool = False
    pretix_per_minute: int | None = 360
    latency_s: float = 0.0
    start: datetime | None = None
    journal: Path | None = None
