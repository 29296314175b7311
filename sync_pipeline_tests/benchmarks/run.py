"""`make bench`: our worker beside dlt and a raw script, on the same vendor, the same Postgres, in interleaved rounds.

Every program is measured as a whole process, from its start to its exit, imports and connecting included, and starts
from an empty database each time. Progress goes to stderr; the last line on stdout is one JSON object (medians).

What the figures mean:
- `vs_dlt_default`, `vs_dlt_tuned`, `vs_dlt_tuned_csv`: their seconds by ours (more is better); how dlt is tuned is said in
  `peer_dlt.py`. `vs_raw_limit`: our seconds by those of the raw script (fetch, pydantic, COPY, upsert; it keeps no raw page
  and survives nothing), less is better.
- `peak_rss_mb`: our process tree. `rss_growth_500k`: how much more it takes for five times the records (0.1 = 10 %);
  bench compares 100,000 with 500,000, bench-quick 20,000 with 100,000.
- `incremental_requests_ratio`: after about 1 % of the records changed at the vendor, requests of the next pull by the
  pages that the changed records fill (changed records by page size, rounded up).
- `noop_wal_mb`: WAL of the database while all records are listed again from the start and none differs;
  `noop_rows_written` counts canonical rows written meanwhile.
- `grant_share`: of a session's wall time, what its grants cost: as many as asked the store (one call in ten, here), at the median
  of one that is asked for alone (`grant_ms`). `grant_wait_share`: how long the stage that fetches waited for their answers,
  while pages were checked and applied on the same event loop.
- `empty_poll_cpu_ms`: CPU of our process for one poll that finds nothing, inside a session.
- `usable_cores`: how much more two busy processes got done than one, between the runs (median). Ours and the raw script keep the
  worker, Postgres and the vendor busy at once, dlt mostly one process at a time: on a machine whose two processors are one core's
  threads (1.0 to 1.3) they gain little by that, and our ratios to dlt come out lower than on two cores (2.0).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from sync_pipeline.store.embedded import OWNER, Embedded
from sync_pipeline_tests.benchmarks.environments import python_of
from sync_pipeline_tests.benchmarks.machine import usable_cores
from sync_pipeline_tests.benchmarks.measure import Measured, measure, tree_cpu_s

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
PAGE_SIZE = 100
IDLE_POLLS = 200
ENOUGH_CORES = 1.7
DATABASES = ("ours", "raw", "dlt")
SERVER = {
    "shared_buffers": "1GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "30min",
    "autovacuum_naptime": "1min",
}
"""For all programs a server with room and the usual autovacuum, which is what peers have: our embedded one is small and looks
every five seconds, and to that our tables are fitted."""


@dataclass(frozen=True, slots=True)
class Sizes:
    records: int
    growth_records: int
    rounds: int


FULL = Sizes(records=100_000, growth_records=500_000, rounds=3)
QUICK = Sizes(records=20_000, growth_records=100_000, rounds=2)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Vendor:
    """The vendor server, in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    @classmethod
    @contextlib.contextmanager
    def serving(cls, records: int) -> Iterator[Vendor]:
        say(f"vendor with {records:,} records")
        command = [sys.executable, "-m", "sync_pipeline_tests.benchmarks.vendor", "--records", str(records)]
        process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield cls(int(process.stdout.readline()))
        finally:
            process.terminate()
            process.wait()

    def admin(self, what: str) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.url}/admin/{what}", timeout=60) as answer:
            found: dict[str, int] = json.load(answer)
        return found


class Store:
    """The one Postgres for everybody, with a database for each program."""

    def __init__(self, folder: Path) -> None:
        self._server = Embedded(folder)
        self._server.ensure()
        with psycopg.connect(self._server.url(), autocommit=True) as conn:
            for name, value in SERVER.items():
                conn.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        self._server.stop()
        self._server.ensure()
        self.socket, self.base = str(self._server.socket), self._server.base

    def url(self, database: str) -> str:
        return self._server.url(database)

    def fresh(self, database: str) -> str:
        """An empty database, and the only one: what the others left would be vacuumed meanwhile, on this one's time."""
        with psycopg.connect(self._server.url(), autocommit=True) as conn:
            for other in DATABASES:
                conn.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(other)))
            conn.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
            conn.execute("checkpoint")
        return self.url(database)

    def one(self, database: str, query: str, *given: object) -> Any:
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            row = conn.execute(query, given).fetchone()
            return None if row is None else row[0]

    def settle(self, database: str) -> None:
        """What autovacuum and the checkpointer do in time, so that their work is not booked on the next run."""
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            conn.execute("vacuum analyze")
            conn.execute("checkpoint")

    def wal(self) -> int:
        return int(self.one("postgres", "select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint"))

    def cpu_s(self) -> float:
        return tree_cpu_s(int((self._server.data / "postmaster.pid").read_text().split()[0]))

    def stop(self) -> None:
        self._server.stop()


@dataclass(frozen=True, slots=True)
class Bench:
    store: Store
    folder: Path
    sizes: Sizes

    def ours(self, vendor: Vendor, *more: str, fresh: bool = True) -> Measured:
        objects = self.folder / "objects"
        if fresh:
            shutil.rmtree(objects, ignore_errors=True)
        url = self.store.fresh("ours") if fresh else self.store.url("ours")
        command = [
            sys.executable,
            "-m",
            "sync_pipeline_tests.benchmarks.ours",
            "--port",
            str(vendor.port),
            "--url",
            url,
        ]
        return measure([*command, "--objects", objects, "--page-size", str(PAGE_SIZE), *more], cwd=PROJECT)

    def raw(self, vendor: Vendor) -> Measured:
        url = self.store.fresh("raw")
        command: list[str | Path] = [
            python_of("raw"),
            HERE / "peer_raw.py",
            "--base-url",
            vendor.url,
            "--database",
            url,
        ]
        return measure([*command, "--page-size", str(PAGE_SIZE)], cwd=self.folder)

    def dlt(self, vendor: Vendor, mode: str) -> Measured:
        self.store.fresh("dlt")
        work = self.folder / "dlt"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        command: list[str | Path] = [
            python_of("dlt"),
            HERE / "peer_dlt.py",
            "--mode",
            mode,
            "--base-url",
            vendor.url,
            "--work",
            work,
        ]
        place = ["--socket", self.store.socket, "--database", "dlt", "--user", OWNER]
        return measure([*command, *place, "--page-size", str(PAGE_SIZE)], cwd=work)

    def rounds(self, vendor: Vendor) -> tuple[dict[str, list[Measured]], list[float]]:
        """The runs of each program, and the usable cores between them. The short programs run after each of the long ones: a
        machine's speed changes by the minute, and what takes five seconds meets but one of its moods."""
        long: dict[str, Callable[[], Measured]] = {
            "dlt_default": lambda: self.dlt(vendor, "default"),
            "dlt_tuned": lambda: self.dlt(vendor, "tuned"),
            "dlt_tuned_csv": lambda: self.dlt(vendor, "tuned_csv"),
        }
        short: dict[str, Callable[[], Measured]] = {
            "raw_limit": lambda: self.raw(vendor),
            "ours": lambda: self.ours(vendor),
        }
        found: dict[str, list[Measured]] = {name: [] for name in (*long, *short)}
        cores: list[float] = []
        for number in range(1, self.sizes.rounds + 1):
            for peer, run_peer in long.items():
                for name, program in {peer: run_peer, **short}.items():
                    done = program()
                    received = done.shown["pull"]["applied"] if name == "ours" else done.shown["received"]
                    if received != self.sizes.records:
                        raise RuntimeError(f"{name} kept {received} of {self.sizes.records} records")
                    found[name].append(done)
                    cores.append(usable_cores())
                    took = f"{done.seconds:7.2f} s  {done.peak_rss_mb:6.0f} MB"
                    say(f"round {number}: {name:13} {took}, then {cores[-1]:.2f} usable cores")
        return found, cores

    def unchanged(self, vendor: Vendor) -> dict[str, float]:
        """List everything again after a full pull: nothing differs, so no row may be written."""
        self.store.settle("ours")
        before, at = self.store.wal(), self.store.one("ours", "select clock_timestamp()")
        done = self.ours(vendor, "--again", fresh=False)
        wal = self.store.wal() - before
        written = self.store.one("ours", "select count(*) from registrations.registration where applied_at >= %s", at)
        pull = done.shown["pull"]
        if pull["unchanged"] != self.sizes.records:
            raise RuntimeError(f"{pull['unchanged']} of {self.sizes.records} records were found unchanged")
        say(f"all again: {done.seconds:.2f} s, {wal / 1e6:.2f} MB of WAL, {written} rows written")
        return {"noop_wal_mb": round(wal / 1e6, 2), "noop_rows_written": written, "noop_s": round(done.seconds, 2)}

    def incremental(self, vendor: Vendor) -> dict[str, float]:
        """A pull after 1 % changed, then polls that find nothing."""
        time.sleep(2)  # so that the changes lie after the last window, overlap included
        changed = vendor.admin("mutate")["changed"]
        vendor.admin("reset")
        done = self.ours(vendor, fresh=False)
        pull = done.shown["pull"]
        asked = vendor.admin("stats")["requests"]
        if pull["applied"] != changed or asked != pull["requests"]:
            raise RuntimeError(f"{pull['applied']} of {changed} changes applied, {asked} requests seen by the vendor")
        needed = -(-changed // PAGE_SIZE)
        say(f"1 % changed: {changed} records, {asked} requests where {needed} pages hold the changes")
        time.sleep(5)  # so that the last change lies before the overlap of the polls that shall find nothing
        before = self.store.cpu_s()
        idle = self.ours(vendor, "--idle", str(IDLE_POLLS), fresh=False).shown["idle"]
        postgres = 1000 * (self.store.cpu_s() - before) / idle["polls"]
        say(f"empty poll: {idle['poll_cpu_ms']:.2f} ms CPU (and {postgres:.2f} ms of Postgres)")
        return {
            "incremental_requests_ratio": round(asked / needed, 3),
            "incremental_changed": changed,
            "incremental_requests": asked,
            "empty_poll_cpu_ms": round(idle["poll_cpu_ms"], 2),
            "empty_poll_postgres_cpu_ms": round(postgres, 2),
            "grant_ms": round(idle["grant_ms"], 3),
        }

    def growth(self) -> Measured:
        with Vendor.serving(self.sizes.growth_records) as vendor:
            done = self.ours(vendor)
        say(f"{self.sizes.growth_records:,} records: {done.seconds:.2f} s, {done.peak_rss_mb:.0f} MB")
        return done


def bench(sizes: Sizes) -> dict[str, float]:
    for peer in ("dlt", "raw"):
        python_of(peer)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sync-bench-")))
        folder.chmod(0o755)  # the server may run under another account
        store = Store(folder / "postgres")
        stack.callback(shutil.rmtree, store.base, ignore_errors=True)
        stack.callback(store.stop)
        run = Bench(store, folder, sizes)
        with Vendor.serving(sizes.records) as vendor:
            rounds, cores = run.rounds(vendor)
            second = {**run.unchanged(vendor), **run.incremental(vendor)}
        large = run.growth()
    usable = statistics.median(cores)
    if usable < ENOUGH_CORES:
        say(
            f"{usable:.2f} usable cores: the machine is shared, and the ratios to dlt are lower than on two; run it again"
        )
    seconds = {name: statistics.median(done.seconds for done in runs) for name, runs in rounds.items()}
    rss = statistics.median(done.peak_rss_mb for done in rounds["ours"])
    session = statistics.median(done.shown["pull"]["seconds"] for done in rounds["ours"])
    asks = statistics.median(done.shown["pull"]["asks"] for done in rounds["ours"])
    asking = statistics.median(
        done.shown["pull"]["asking_s"] / done.shown["pull"]["seconds"] for done in rounds["ours"]
    )
    return {
        "records": sizes.records,
        "ours_s": round(seconds["ours"], 2),
        "dlt_default_s": round(seconds["dlt_default"], 2),
        "dlt_tuned_s": round(seconds["dlt_tuned"], 2),
        "raw_limit_s": round(seconds["raw_limit"], 2),
        "vs_dlt_default": round(seconds["dlt_default"] / seconds["ours"], 2),
        "vs_dlt_tuned": round(seconds["dlt_tuned"] / seconds["ours"], 2),
        "vs_raw_limit": round(seconds["ours"] / seconds["raw_limit"], 2),
        "peak_rss_mb": round(rss, 1),
        "rss_growth_500k": round(large.peak_rss_mb / rss - 1, 3),
        "incremental_requests_ratio": second.pop("incremental_requests_ratio"),
        "noop_wal_mb": second.pop("noop_wal_mb"),
        "dlt_tuned_csv_s": round(seconds["dlt_tuned_csv"], 2),
        "vs_dlt_tuned_csv": round(seconds["dlt_tuned_csv"] / seconds["ours"], 2),
        "ours_session_s": round(session, 2),
        "grant_share": round(asks * second["grant_ms"] / 1000 / session, 4),
        "grant_wait_share": round(asking, 4),
        "usable_cores": round(usable, 2),
        "growth_records": sizes.growth_records,
        "growth_s": round(large.seconds, 2),
        **second,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="20,000 records, in under three minutes")
    found = bench(QUICK if options.parse_args().quick else FULL)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
