"""The world of `make dev`, stopped and started again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from sync_pipeline.cli import dev
from sync_pipeline.cli.app import app
from sync_pipeline.cli.demo import BURST
from sync_pipeline.cli.dev import World, simulated
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import running

FEEDS = ("eventbrite/orders", "eventbrite/attendees", "pretix/orders", "pretix/positions")


def world() -> World:
    began = datetime.now(UTC) - timedelta(hours=1)
    return World(seed=2, orders=300, start=began, burst_at=began + timedelta(minutes=1))


def changed(control: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = control.get("/_sim/log").json()["changes"]
    return found


def test_a_world_that_starts_again_has_what_happened_in_it_and_its_burst_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev, "CHANGES_PER_MINUTE", 0)  # what happens by itself would come between the two looks
    made, journal = world(), tmp_path / "data" / "journal"
    with simulated(made, 0, journal=journal) as first, httpx.Client(base_url=first.url) as control:
        assert len(changed(control)) >= 2 * BURST * 0.9
        control.post("/_sim/mutate", json={"vendor": "pretix", "changes": 5}).raise_for_status()
        control.post("/_sim/advance", json={"seconds": 60}).raise_for_status()
        truth = {feed: control.get(f"/_sim/truth/{feed}").json()["rows"] for feed in FEEDS}
        log = changed(control)
    with simulated(made, 0, journal=journal) as again, httpx.Client(base_url=again.url) as control:
        now = datetime.fromisoformat(control.get("/_sim/health").json()["now"])
        assert now >= datetime.now(UTC) - timedelta(seconds=5)
        assert changed(control) == log
        assert {feed: control.get(f"/_sim/truth/{feed}").json()["rows"] for feed in FEEDS} == truth


def test_what_happens_by_itself_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev, "CHANGES_PER_MINUTE", 3000)
    made, journal = world(), tmp_path / "journal"
    with simulated(made, 0, journal=journal) as first, httpx.Client(base_url=first.url) as control:
        burst = len(changed(control))
        while len(log := changed(control)) < burst + 3:
            pass
    with simulated(made, 0, journal=journal) as again, httpx.Client(base_url=again.url) as control:
        assert changed(control)[: len(log)] == log


def test_a_journal_that_does_not_fit_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("what matters")
    with pytest.raises(ConfigurationError, match="is no journal"), simulated(world(), 0, journal=tmp_path / "journal"):
        raise AssertionError("it did start")


def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with running(SimulatorOptions(eventbrite_orders=5, pretix_orders=5)) as other:
        said = f"cannot listen on 127.0.0.1:{other.port}: Address already in use; choose another with "
        with (
            pytest.raises(ConfigurationError, match=f"{said}--simulator-port"),
            simulated(world(), other.port, journal=tmp_path / "journal"),
        ):
            raise AssertionError("it did start")
        done = CliRunner().invoke(app, ["simulator", "--port", str(other.port)])
    assert isinstance(done.exception, ConfigurationError), done.output
    assert str(done.exception) == f"{said}--port"


@pytest.mark.parametrize(
    "arguments",
    [
        *(("simulator", "--port", port) for port in ("0", "-1", "65536")),
        *(("dev", option, "65536") for option in ("--port", "--simulator-port")),
        *(("demo", "--orders", orders) for orders in ("0", "-3", "1000001")),
    ],
)
def test_what_is_no_port_and_no_number_of_orders_is_refused(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for started in ("cli.demo.run_demo", "cli.dev.run_dev", "simulator.server.serve"):
        monkeypatch.setattr(f"sync_pipeline.{started}", lambda *given, **named: 0)
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 2, done.output
    assert "is not in the range" in done.output
