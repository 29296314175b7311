"""`make prove` in short: processes of workers on one quota, killed, their database crashed; and an outage."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sync_pipeline.store.embedded import Embedded
from sync_pipeline_tests.prove.fleet import Fleet, own_server
from sync_pipeline_tests.prove.run import QUICK, foreign, outage

RATE = 100


@pytest.fixture(scope="module")
def crashing() -> Iterator[Embedded]:
    """A server of its own: it is killed."""
    with tempfile.TemporaryDirectory() as folder, own_server(Path(folder)) as server:
        yield server


def calls_reach(fleet: Fleet, number: int, *, within_s: float) -> int:
    """Wait until the vendor has counted so many."""
    ends = time.monotonic() + within_s
    while (found := int(fleet.stats()["calls"])) < number:
        assert time.monotonic() < ends, f"{found} of {number} calls in {within_s} s"
        time.sleep(0.05)
    return found


def test_kills_and_a_crash_of_the_database_breach_nothing(crashing: Embedded) -> None:
    """Four processes, clocks five seconds off, a window of two seconds beside one of eight."""
    lanes = ("P4,P4", "P4,P2:0.05", "P4,P1:0.1", "P4,P0:0.05")
    rng = random.Random(5)
    with Fleet(crashing, f"{RATE * 8}/8,{RATE * 2}/2", lanes) as fleet:
        calls_reach(fleet, 2 * RATE, within_s=15)
        fleet.kill_one(rng)
        before = calls_reach(fleet, 4 * RATE, within_s=10)
        fleet.crash_database()
        calls_reach(fleet, before + 2 * RATE, within_s=15)
        stats = fleet.stats()
        lanes_heard = {lane for _, lane in fleet.heard.calls}
    print(f"{stats['calls']} calls, {stats['breaches']} breaches")
    assert stats["breaches"] == 0
    assert lanes_heard == {"P0", "P1", "P2", "P4"}


def test_what_others_use_on_the_key_is_left_to_them(crashing: Embedded) -> None:
    """One refusal in ten thousand calls is what may be: none in these few."""
    found = foreign(crashing, replace(QUICK, foreign_s=8), window_s=5)
    print(found)
    assert found["foreign_429_per_10k"] == 0
    assert found["foreign_quota_use"] > 0.5, "they go on beside the others"


def test_an_outage_gets_no_more_probes_than_intervals(crashing: Embedded) -> None:
    """At a twentieth of its time: the first cool-downs are 0.25, 0.5, 1, 2 seconds."""
    found = outage(crashing, replace(QUICK, outage_s=4))
    print(found)
    assert found["probes_per_interval"] <= 1
    assert found["recovery_intervals"] <= 1.2, "within one cool-down, and a look at the breaker"
