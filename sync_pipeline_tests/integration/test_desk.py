"""A command beside a demo or `dev` asks the vendors that run there, and nobody else's commands do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sync_pipeline.cli.desk import FILE, at_desk, join_desk
from sync_pipeline.cli.places import simulated_vendors
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import Running, running
from sync_pipeline.store.embedded import Embedded
from sync_pipeline_tests.conftest import fresh_database
from sync_pipeline_tests.integration.cli_setting import Terminal

VARIABLES = tuple(simulated_vendors(""))


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    with running(SimulatorOptions(seed=1, eventbrite_orders=20, pretix_orders=20, max_visibility_s=1.0)) as serving:
        yield serving


@pytest.fixture
def demo(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A database that a demo has claimed, and an environment that says nothing of its vendors."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
    terminal.claimed_by_a_demo()
    return terminal


def test_commands_ask_the_simulator_of_the_desk(demo: Terminal, simulator: Running) -> None:
    with at_desk(simulator.url, demo.url):
        done = demo.run("sync", "pretix")
        assert done.exit_code == 0, done.output
        assert f"Asking the simulated vendors that run on this data: {simulator.url}" in done.stderr
        assert "Asking" not in done.stdout
        [(orders,)] = demo.rows("select count(*) from registrations.registration where feed = 'orders'")
        assert orders > 0
        done = demo.run("resync", "pretix/orders", "--from", "beginning")
        assert done.exit_code == 0, done.output


def test_env_prints_what_it_set(demo: Terminal, simulator: Running) -> None:
    with at_desk(simulator.url, demo.url):
        printed = demo.run("env").stdout.splitlines()
    for name, value in simulated_vendors(simulator.url).items():
        assert f"export {name}={value}" in printed
    for name in VARIABLES:
        os.environ[name] = ""
    assert not any(line.startswith("export SYNC_PRETIX") for line in demo.run("env").stdout.splitlines())


def test_what_the_environment_says_of_a_connection_holds(
    demo: Terminal, simulator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_PRETIX_BASE_URL", "https://tickets.example.org/api/v1")
    with at_desk(simulator.url, demo.url):
        settings = join_desk(demo.url)
    assert sorted(settings) == ["EVENTBRITE_TOKEN", "SYNC_EVENTBRITE_BASE_URL", "SYNC_EVENTBRITE_ORGANIZATION"]
    assert os.environ["SYNC_PRETIX_BASE_URL"] == "https://tickets.example.org/api/v1"
    assert os.environ["PRETIX_TOKEN"] == ""


def test_nothing_is_joined_after_its_end(demo: Terminal, simulator: Running, tmp_path: Path) -> None:
    with at_desk(simulator.url, demo.url):
        assert (tmp_path / FILE).exists()
    assert join_desk(demo.url) == {}
    assert not (tmp_path / FILE).exists()


def test_another_database_does_not_join(demo: Terminal, simulator: Running, server: Embedded) -> None:
    with at_desk(simulator.url, demo.url), fresh_database(server) as other:
        assert join_desk(other) == {}


def test_a_simulator_that_does_not_answer_is_not_joined(demo: Terminal) -> None:
    with at_desk("http://127.0.0.1:1", demo.url):
        assert join_desk(demo.url) == {}


def test_what_a_killed_desk_left_behind_is_not_joined(demo: Terminal, simulator: Running, tmp_path: Path) -> None:
    """Its port may be another desk's by now."""
    code = (
        "import os, signal, sys\nfrom sync_pipeline.cli.desk import at_desk\n"
        "with at_desk(*sys.argv[1:]):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, simulator.url, demo.url], check=False, timeout=60)
    assert json.loads((tmp_path / FILE).read_bytes())["url"] == simulator.url
    assert join_desk(demo.url) == {}


def test_of_two_desks_the_later_one_stands(demo: Terminal, simulator: Running, tmp_path: Path) -> None:
    with at_desk(simulator.url, demo.url):
        with at_desk("http://127.0.0.1:1", demo.url):
            pass
        assert not (tmp_path / FILE).exists()
    with at_desk("http://127.0.0.1:1", demo.url):
        later = at_desk(simulator.url, demo.url)
        later.__enter__()
    assert join_desk(demo.url)
    later.__exit__(None, None, None)
    (tmp_path / FILE).write_text("half")
    assert join_desk(demo.url) == {}
