"""Registrations handed on over real HTTP: each version has one key, and a killed worker hands on again with the same key."""

from __future__ import annotations

import signal

from sync_pipeline.kernel.crash import CrashPoint
from sync_pipeline_tests.acceptance.conftest import Workplace


def test_each_registration_is_handed_on_with_its_key(workplace: Workplace) -> None:
    workplace.extra["SYNC_EVENTBRITE_HANDOFF_URL"] = f"{workplace.simulator.url}/_sim/downstream"
    killed = workplace.run("sync", "eventbrite", SYNC_CRASH_AT=f"{CrashPoint.HANDOFF_SENT}:5")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert workplace.run("sync", "eventbrite").returncode == 0
    [(registrations,)] = workplace.rows(
        "select count(*) from registrations.registration where connection = 'eventbrite'"
    )
    received = workplace.control("downstream")
    assert received["without_key"] == 0
    assert received["distinct"] == registrations
    assert received["duplicates"] == 1, "the one that was sent and not yet noted when the worker was killed"
    assert workplace.rows("select count(*) from sync.outbox") == [(0,)]
