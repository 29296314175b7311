"""What was done to a world, written down so that another process can start the same world again.

A world follows from its options, from what was asked of it in what order, and from what its clock said meanwhile. A line of
the file is one thing that was asked, with the clock's readings; the first line says which world it is.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sync_pipeline.simulator.clock import SimClock
from sync_pipeline.simulator.options import SimulatorOptions

P = ParamSpec("P")
R = TypeVar("R")

_WORLD = (
    "seed", "eventbrite_orders", "pretix_orders", "history_days", "max_visibility_s", "max_commit_lag_s", "canary"
)  # fmt: skip
"""Options that decide what happens. The others decide how it is served."""

_HEAD = b'{"world":'


class TapeError(ValueError):
    """A journal that does not fit this simulator."""


class Tape:
    """The journal of one world. Without a path nothing is written and nothing was done before."""

    def __init__(self, path: Path | None, options: SimulatorOptions) -> None:
        self.start = options.start
        self._told = options.start is not None
        self._path = path
        self._lines: list[dict[str, Any]] = []
        self._end = 0
        self._world = {name: getattr(options, name) for name in _WORLD}
        if path is not None and path.exists():
            self._read(path)

    def _read(self, path: Path) -> None:
        """Lines that were written whole. Another world's journal counts as none."""
        lines, end = [], 0
        with path.open("rb") as file:
            if not _HEAD.startswith(file.read(len(_HEAD))):  # a beginning of it: its writer was killed at once
                raise TapeError(f"{path} is no journal of a simulator; choose another place")
            file.seek(0)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # its writer was killed
                lines.append(self._parsed(line))
                end += len(line)
        if not lines or lines[0].get("world") != self._world:
            return
        try:
            start = datetime.fromisoformat(lines[0]["start"])
        except (KeyError, TypeError, ValueError):
            raise self._misfit() from None
        if self.start is None or self.start == start:
            self.start, self._lines, self._end = start, lines[1:], end

    def _parsed(self, line: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(line)
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise self._misfit()
        return parsed

    def _misfit(self) -> TapeError:
        return TapeError(
            f"{self._path} does not fit this version of the simulator, or is damaged; remove it, and run `make demo` for a new "
            "world"
        )

    def replay(self, world: Taped) -> None:
        """Do again what was done to this world, then write on. Raises TapeError where the two do not fit."""
        for line in self._lines:
            try:
                again = getattr(type(world), line["do"]).__wrapped__
                with world.clock.reading_again(line["clock"]):
                    self._do_again(
                        functools.partial(again, world, *line["with"], **line["named"]), failed=line["failed"]
                    )
            except Exception as problem:
                raise self._misfit() from problem
        if (
            self._lines and not self._told
        ):  # a clock of its own follows the wall's, also over the time it was not running
            world.clock.advance(max(0.0, (datetime.now(UTC) - world.clock.now()).total_seconds()))
        self._lines.clear()
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._end:
                os.truncate(self._path, self._end)
            else:
                self._path.unlink(missing_ok=True)
                self._write({"world": self._world, "start": world.clock.start.isoformat()})

    @staticmethod
    def _do_again(action: Callable[[], object], *, failed: bool) -> None:
        try:
            action()
        except (ValueError, KeyError, TypeError, AttributeError):
            if not failed:
                raise

    def do(self, world: Taped, action: Callable[[], R], line: dict[str, Any]) -> R:
        """Do something and write it down before anybody can see it: nothing else runs on this event loop meanwhile.

        What fails is written down as well: it may have drawn from the world's chances before.
        """
        if self._path is None:
            return action()
        failed = True
        with world.clock.listening() as heard:
            try:
                done = action()
                failed = False
            finally:
                self._write({**line, "clock": heard, "failed": failed})
        return done

    def _write(self, line: dict[str, Any]) -> None:
        assert self._path is not None
        with self._path.open("ab") as file:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


class Taped(Protocol):
    """A world that has a journal."""

    tape: Tape
    clock: SimClock


W = TypeVar("W", bound=Taped)


def taped(method: Callable[Concatenate[W, P], R]) -> Callable[Concatenate[W, P], R]:
    """What changes a world goes through its journal. Its arguments are what JSON can hold."""

    @functools.wraps(method)
    def noted(world: W, /, *given: P.args, **named: P.kwargs) -> R:
        line = {"do": method.__name__, "with": given, "named": named}
        return world.tape.do(world, functools.partial(method, world, *given, **named), line)

    return noted
