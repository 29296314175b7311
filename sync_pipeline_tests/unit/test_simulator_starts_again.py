"""A simulated world goes on where it was left, however its process ended."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sync_pipeline.simulator import __main__ as command
from sync_pipeline.simulator.malformed import FEEDS
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.simulation import MutationError, Simulation
from sync_pipeline.simulator.tape import TapeError

START = datetime(2026, 11, 2, 8, tzinfo=UTC)


def world(journal: Path, *, seed: int = 3, start: datetime | None = START) -> Simulation:
    return Simulation(SimulatorOptions(seed=seed, eventbrite_orders=40, pretix_orders=40, start=start, journal=journal))


def truth(simulation: Simulation) -> dict[str, Any]:
    """All that is or will be there: late changes have come into sight."""
    simulation.clock.advance(60)
    return {feed: list(simulation.truth(feed) or ()) for feed in FEEDS}


def versions(simulation: Simulation) -> list[Any]:
    feeds = (simulation.eventbrite.orders, simulation.eventbrite.attendees, simulation.pretix.orders)
    return [
        (entity.id, version.doc, version.changed, version.visible_at)
        for feed in feeds
        for entity in feed.entities.values()
        for version in entity.versions
    ]


def live(simulation: Simulation) -> None:
    """A bit of everything that may happen to a world."""
    simulation.mutate(None, 30)
    simulation.mutate("pretix", 3, ["split"])
    simulation.advance(3600)
    first, second, *_ = simulation.pretix.orders.entities
    simulation.mutate_one("pretix", first, {"email": "someone@example.com"})
    simulation.mutate_one("pretix", second, {"email": "other@example.com"}, stamped=False)
    simulation.delete("pretix", second)
    with suppress(MutationError):
        simulation.mutate(None, 5, ["no_such_thing"])
    simulation.configure_faults({"seed": 8, "malformed": {"rate": 0.2}, "rates": {"http_503": 0.5}})
    simulation.grant("other-token", [next(iter(simulation.pretix.events))], None)
    for _ in range(10):
        simulation.mutate(None, 1)


def test_a_world_that_starts_again_is_the_same_and_goes_on_as_it_would_have(tmp_path: Path) -> None:
    first = world(tmp_path / "journal")
    live(first)
    again = world(tmp_path / "journal")
    assert versions(again) == versions(first)
    assert list(again.journal.changes) == list(first.journal.changes)
    assert again.grants == first.grants
    assert again.faults.malformed == first.faults.malformed
    assert again.clock.now() >= first.journal.changes[-1].at
    assert truth(again) == truth(first)
    went_on = [change.id for change in again.mutate(None, 20)]
    third = world(tmp_path / "journal")
    assert versions(third) == versions(again), "it goes on writing where it was read"
    assert went_on == [change.id for change in first.mutate(None, 20)]


def test_what_was_half_written_did_not_happen(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = world(path)
    first.mutate("pretix", 1)
    before = versions(first)
    whole = path.read_bytes()
    first.mutate("pretix", 1)
    path.write_bytes(path.read_bytes()[:-9])
    assert versions(world(path)) == before
    assert path.read_bytes() == whole


def test_another_worlds_journal_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    world(path).mutate("pretix", 1)
    for seed, start in ((4, START), (4, START + timedelta(seconds=1))):
        other = world(path, seed=seed, start=start)
        assert not other.journal.changes
        assert len(path.read_text().splitlines()) == 1
        other.mutate("pretix", 1)


def test_a_world_whose_start_is_not_told_begins_where_its_journal_does_and_stands_at_the_present(
    tmp_path: Path,
) -> None:
    first = world(tmp_path / "journal", start=None)
    first.mutate(None, 3)
    again = world(tmp_path / "journal", start=None)
    assert again.clock.start == first.clock.start
    assert versions(again) == versions(first)
    assert abs(datetime.now(UTC) - again.clock.now()) < timedelta(seconds=30)


def test_a_journal_that_does_not_fit_is_refused_and_nothing_else_is_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    world(path).mutate("pretix", 3)
    head, line = path.read_text().splitlines()
    entry = json.loads(line)
    entry["clock"].pop()
    path.write_text(f"{head}\n{json.dumps(entry)}\n")
    with pytest.raises(TapeError, match="does not fit this version"):
        world(path)
    (tmp_path / "notes").write_text("what matters")
    monkeypatch.setattr("sys.argv", ["simulator", "--journal", str(tmp_path / "notes"), "--port", "0"])
    assert command.main() == 1
    assert "is no journal of a simulator" in capsys.readouterr().err
    assert (tmp_path / "notes").read_text() == "what matters"


def test_nothing_is_written_where_no_journal_is_wished_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Simulation(SimulatorOptions(eventbrite_orders=5, pretix_orders=5)).mutate(None, 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [b"\0\0\0\0\n", b"\xff\xfe{}\n", b'{"do": \n', b"[]\n", b"{}\n", b'{"do": "no_such_thing", "clock": []}\n'],
)
def test_a_whole_line_that_cannot_be_read_is_a_journal_that_does_not_fit(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal"
    world(path).mutate("pretix", 3)
    damaged = path.read_bytes() + line
    path.write_bytes(damaged)
    with pytest.raises(TapeError, match="or is damaged; remove it, and run `make demo` for a new world"):
        world(path)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("start", [{}, {"start": None}, {"start": "soon"}])
def test_a_first_line_without_its_start_does_not_fit(tmp_path: Path, start: dict[str, Any]) -> None:
    path = tmp_path / "journal"
    world(path)
    head = json.loads(path.read_bytes())
    path.write_text(json.dumps({"world": head["world"], **start}, separators=(",", ":")) + "\n")
    with pytest.raises(TapeError, match="or is damaged"):
        world(path)


def test_a_first_line_that_was_half_written_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    world(path)
    whole = path.read_bytes()
    for size in (0, 4, len(whole) - 1):
        path.write_bytes(whole[:size])
        world(path)
        assert path.read_bytes() == whole


def test_a_journal_that_cannot_be_kept_and_a_port_that_cannot_be_had_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, said in (
        (["--port", "0", "--journal", str(tmp_path)], f"the journal {tmp_path} cannot be kept: Is a directory"),
        (["--port", "99999"], "cannot listen on 127.0.0.1:99999: ports are 0 to 65535; choose another with --port"),
        (["--port", "-1"], "cannot listen on 127.0.0.1:-1: ports are 0 to 65535"),
    ):
        monkeypatch.setattr("sys.argv", ["simulator", "--orders", "1", *arguments])
        assert command.main() == 1
        assert said in capsys.readouterr().err
