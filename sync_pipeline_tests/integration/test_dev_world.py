"""The world of `make dev`, stopped and started again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from sync_pipeline.cli import dev
from sync_pipeline.cli.demo import BURST
from sync_pipeline.cli.dev import World, simulated
from sync_pipeline.kernel.errors import ConfigurationError

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
