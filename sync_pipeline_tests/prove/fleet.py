"""Starting, killing and listening to a proof's vendor, workers and database."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from sync_pipeline.store.embedded import Embedded
from sync_pipeline.store.migrate import migrate

DATABASE = "prove"


@dataclass
class Heard:
    """What the workers reported: by second since the start and lane. Waits and costs of grants in all."""

    started: float = field(default_factory=time.monotonic)
    calls: dict[tuple[int, str], int] = field(default_factory=lambda: defaultdict(int))
    waits: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    grants_ms: list[float] = field(default_factory=list)
    reports: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    """When (monotonic seconds) a process told what it called in the second before, by lane."""

    def listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if not line.startswith("{"):
                    continue
                found = json.loads(line)
                at = time.monotonic()
                self.reports.append((at, found["calls"]))
                second = int(at - self.started)
                for lane, calls in found["calls"].items():
                    self.calls[second, lane] += calls
                for lane, waits in found["waits"].items():
                    self.waits[lane] += [(second, wait) for wait in waits]
                self.grants_ms += found["grants_ms"]


@dataclass
class Fleet:
    """A vendor with a limit, and processes of workers that share its quota through one database."""

    server: Embedded
    windows: str
    """The vendor's limit: `limit/seconds`, several separated by commas. The workers are told the same."""
    processes: Sequence[str]
    """The lanes of each process's workers."""
    flags: Sequence[str] = ()
    told_windows: str | None = None
    heard: Heard = field(default_factory=Heard)

    def __enter__(self) -> Fleet:
        url = self.server.ensure("postgres")
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(DATABASE)))
        migrate(self.server.ensure(DATABASE))
        self.vendor = subprocess.Popen(
            [sys.executable, "-m", "sync_pipeline_tests.prove.vendor", "--windows", self.windows],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.vendor.stdout is not None
        self.port = int(self.vendor.stdout.readline())
        self.workers = [self._start(number) for number in range(len(self.processes))]
        return self

    def __exit__(self, *exc: object) -> None:
        for process in [*self.workers, self.vendor]:
            process.kill()
            process.wait()
        if self.vendor.stdout:
            self.vendor.stdout.close()

    def _start(self, number: int, seed: int = 0) -> subprocess.Popen[str]:
        skew = 5.0 * (number % 3 - 1)
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "sync_pipeline_tests.prove.worker"),
                *("--database", self.server.url(DATABASE), "--port", str(self.port)),
                *("--windows", self.told_windows or self.windows, "--lanes", self.processes[number]),
                *("--skew", str(skew), "--seed", str(seed + number)),
                *self.flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self.heard.listen, args=(process,), daemon=True).start()
        return process

    def kill_one(self, rng: random.Random) -> None:
        """SIGKILL one process of workers; a new one takes its place."""
        number = rng.randrange(len(self.workers))
        self.workers[number].kill()
        self.workers[number].wait()
        self.workers[number] = self._start(number, seed=rng.randrange(10**6))

    def join(self, lanes: str) -> None:
        """One more process of workers, the last one."""
        self.processes = [*self.processes, lanes]
        self.workers.append(self._start(len(self.processes) - 1))

    def leave(self) -> None:
        """The last process ends."""
        self.processes = self.processes[:-1]
        worker = self.workers.pop()
        worker.kill()
        worker.wait()

    def crash_database(self, away_s: float = 0) -> None:
        """SIGKILL the server, then start it again, `away_s` later: what it had not flushed is lost."""
        pid = int((self.server.base / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        time.sleep(away_s)
        self.server.ensure(DATABASE)

    def ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as line:
            line.sendall(command.encode() + b"\n")
            return line.makefile().readline().strip()

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("stats"))
        return found


@contextmanager
def own_server(folder: Path) -> Iterator[Embedded]:
    server = Embedded(folder / "postgres")
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.base, ignore_errors=True)
