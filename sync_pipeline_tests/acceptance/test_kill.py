"""kill -9 at every point between two effects: the next worker goes on, and nothing is lost or counted twice."""

from __future__ import annotations

import signal

import pytest

from sync_pipeline.kernel.crash import CrashPoint
from sync_pipeline_tests.acceptance.conftest import Workplace

SESSION_POINTS = [
    point
    for point in CrashPoint
    if point not in (CrashPoint.REPLAY_BEFORE_COMMIT, CrashPoint.HANDOFF_SENT) and not point.startswith("refresh_")
]


@pytest.mark.parametrize("point", SESSION_POINTS)
def test_a_killed_worker_loses_nothing(workplace: Workplace, point: CrashPoint) -> None:
    workplace.control("faults", {"rates": {"malformed": 0.03}})
    nth = 1 if point is CrashPoint.WINDOW_CLOSED else 2
    killed = workplace.run("sync", "pretix", SYNC_CRASH_AT=f"{point}:{nth}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = workplace.run("sync", "pretix")
    assert done.returncode == 0, done.stderr
    workplace.verified()
    [(orders,)] = workplace.rows("select count(*) from registrations.registration where feed = 'orders'")
    [(bad,)] = workplace.rows("select count(distinct key) from sync.quarantine where feed = 'orders'")
    assert orders + bad == 220


def test_a_killed_replay_is_done_again(workplace: Workplace) -> None:
    workplace.control("faults", {"malformed": {"rate": 0.2, "kinds": ["unknown_status"], "feeds": ["pretix/orders"]}})
    assert workplace.run("sync", "pretix").returncode == 0
    before = workplace.json("quarantine", "list", "--limit", "1000")["quarantine"]
    assert before
    killed = workplace.run("quarantine", "replay", SYNC_CRASH_AT=CrashPoint.REPLAY_BEFORE_COMMIT)
    assert killed.returncode == -signal.SIGKILL
    again = workplace.json("quarantine", "replay")
    assert again["tried"] == len(before)
    assert again["passing"] == 0
    assert {tuple(row["codes"]) for row in workplace.json("quarantine", "list", "--limit", "1000")["quarantine"]} == {
        ("UNKNOWN_STATUS",)
    }
