from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from sync_pipeline.simulator.__main__ import parse
from sync_pipeline.simulator.malformed import FEEDS
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import running
from sync_pipeline.simulator.simulation import Simulation
from sync_pipeline_tests.integration.simulator_setting import setting

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _truth(seed: int, changes: int = 0) -> list[dict[str, Any]]:
    options = SimulatorOptions(seed=seed, eventbrite_orders=120, pretix_orders=120, start=START)
    simulation = Simulation(options)
    simulation.mutate(None, changes)
    rows = [row for feed in FEEDS for row in simulation.truth(feed) or ()]
    # A change carries the moment it was asked for; everything else comes from the seed.
    return [{k: v for k, v in row.items() if not changes or k not in ("modified_at", "visible")} for row in rows]


def test_a_seed_is_a_world() -> None:
    assert _truth(5) == _truth(5)
    assert _truth(5) != _truth(6)


def test_a_seed_also_decides_what_happens() -> None:
    assert (
        _truth(5, 40)
        == _truth(5, 40)
        != [{k: v for k, v in row.items() if k not in ("modified_at", "visible")} for row in _truth(5)]
    )


def test_the_default_world_has_the_documented_size() -> None:
    simulation = Simulation(SimulatorOptions())
    counts = [sum(1 for _ in simulation.truth(feed) or ()) for feed in FEEDS]
    assert counts[0] == 1500
    assert counts[2] == 1200
    assert 2700 < counts[1] < 3300
    assert 2200 < counts[3] < 2800


def test_the_canary_sits_in_every_kind_of_personal_value() -> None:
    with setting(canary="Zyzzyva") as world:
        page = world.eventbrite.get("/organizations/1001/attendees/", params={"page_size": "50"}).text
        pages = [page]
        for path in ("/organizations/1001/orders/",):
            pages += [str(p) for p in world.walk_eventbrite(path, expand="attendees")]
        pages += [answer.text for answer in world.walk_pretix("/organizers/simorg/orders/")]
        text = "".join(pages)
        for trace in ("Zyzzyva Zyzzyva-", "zyzzyva.", "+1 555 Zyzzyva", "ask Zyzzyva"):
            assert trace in text


def test_changes_are_logged_with_their_instants() -> None:
    with setting() as world:
        before = world.control.get("/health").json()["now"]
        done = world.post("/mutate", {"changes": 25})
        assert done["count"] == 25
        log = world.control.get("/log").json()["changes"]
        assert log == done["changes"]
        assert {change["vendor"] for change in log} == {"eventbrite", "pretix"}
        assert [change["seq"] for change in log] == list(range(1, 26))
        for change in log:
            assert change["at"][:19] >= before[:19]
            assert change["visible_at"] >= change["at"][:19]
        assert len(world.control.get("/log", params={"after": "20"}).json()["changes"]) == 5


def test_one_record_can_be_changed_by_name() -> None:
    with setting(max_visibility_s=0, max_commit_lag_s=0) as world:
        attendee = next(iter(world.rows("eventbrite/attendees")))
        wish = {"profile.email": "a@example.org", "refunded": True}
        world.post("/mutate", {"vendor": "eventbrite", "feed": "attendees", "id": attendee, "set": wish})
        row = world.rows("eventbrite/attendees")[attendee]
        assert (row["email"], row["payment_status"]) == ("a@example.org", "REFUNDED")
        order = next(iter(world.rows("pretix/orders")))
        world.post("/mutate", {"vendor": "pretix", "id": order, "set": {"positions.0.attendee_email": "b@example.org"}})
        positions = [row for row in world.rows("pretix/positions").values() if row["order_id"] == order]
        assert [row["email"] for row in positions].count("b@example.org") == 1


@pytest.mark.parametrize(
    "wish",
    [
        {"vendor": "nobody", "changes": 1},
        {"changes": 1, "actions": ["explode"]},
        {"vendor": "pretix", "id": "no/such"},
        {"vendor": "eventbrite", "id": "1"},
        {"id": "1"},
        {"vendor": "eventbrite", "id": "4400000000", "set": {"no.such.path": 1}},
    ],
)
def test_a_change_that_cannot_be_made_is_refused(wish: dict[str, Any]) -> None:
    with setting(eventbrite_orders=5, pretix_orders=5) as world:
        answer = world.control.post("/mutate", json=wish)
        assert answer.status_code == 400
        assert answer.json()["error"]
        assert world.control.get("/log").json()["changes"] == []


def test_things_happen_by_themselves_at_the_wished_rate() -> None:
    with setting(changes_per_minute=3000) as world:
        deadline = time.monotonic() + 10
        while len(world.control.get("/log").json()["changes"]) < 5:
            assert time.monotonic() < deadline


def test_the_sink_counts_keys_and_repetitions() -> None:
    with setting(eventbrite_orders=5, pretix_orders=5) as world:
        send = world.control.post
        answers = [send("/downstream", json={}, headers={"Idempotency-Key": key}) for key in ("a", "b", "a")]
        assert [answer.status_code for answer in answers] == [201, 201, 200]
        assert [answer.json()["duplicate"] for answer in answers] == [False, False, True]
        assert send("/downstream", json={}).status_code == 400
        assert world.control.get("/downstream").json() == {
            "received": 4,
            "distinct": 2,
            "duplicates": 1,
            "without_key": 1,
        }


def test_a_taken_port_is_an_error_and_a_stopped_server_frees_its_own() -> None:
    options = SimulatorOptions(eventbrite_orders=5, pretix_orders=5)
    with running(options) as first:
        port = first.port
        with pytest.raises(OSError, match="in use"), running(options, port):
            pass
    with running(options, port) as second, httpx.Client() as client:
        assert client.get(f"{second.url}/_sim/health").json()["ok"] is True


def test_the_command_line_names_its_options() -> None:
    host, port, options = parse(["--port", "9", "--seed", "3", "--orders", "7", "--self-hosted", "--canary", "X"])
    assert (host, port) == ("127.0.0.1", 9)
    assert options == SimulatorOptions(seed=3, eventbrite_orders=7, pretix_orders=7, pretix_per_minute=None, canary="X")


def test_it_runs_as_a_process_of_its_own() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "error", "-m", "sync_pipeline.simulator", "--port", str(port), "--orders", "20"]
    with subprocess.Popen(command, env=dict(os.environ), stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()
            with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
                health = client.get(f"http://127.0.0.1:{port}/_sim/health")
            assert health.json()["ok"] is True
        finally:
            process.terminate()
            process.wait(20)
        assert b"Traceback" not in process.stderr.read()
