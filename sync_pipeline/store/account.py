"""The operating-system account that the embedded server runs as, and where it keeps its files: Postgres refuses to be root.

A process of another account is never forked from ours. What other threads registered for a fork (gRPC in Dagster's code
servers) would run in the child, and sometimes aborts it. Python forks whenever it is told a `user`; told none, it starts a
child without those hooks (vfork). So a small program of its own, started as we are, becomes the account.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sync_pipeline.kernel.errors import ConfigurationError, TransientError

ELSEWHERE = Path("/var/lib/sync_pipeline")
TIMES_ASKED = 3

BECOME = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGPIPE, signal.SIG_DFL)\n"  # Python ignores it, and a child would inherit that
    "os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]))\n"
)
RUN = BECOME + "os.execv(sys.argv[3], sys.argv[3:])"
YES, NO = 0, 3
LOOK = BECOME + f"sys.exit({YES} if os.access(sys.argv[3], os.R_OK | os.W_OK | os.X_OK) else {NO})"
"""Codes of its own: whatever else it ends with is no answer."""


@dataclass(frozen=True, slots=True)
class Other:
    """An account that is not ours, by its numbers; without supplementary groups."""

    name: str
    user: int
    group: int


@dataclass(frozen=True, slots=True)
class Account:
    """Who the server is. `other` is None where it is who we are. `elsewhere`: where data goes that it could not reach."""

    other: Other | None = None
    elsewhere: Path = ELSEWHERE

    @classmethod
    def choose(cls) -> Account:
        if os.geteuid() != 0:
            return cls()
        for name in (os.environ.get("SYNC_PG_OS_USER"), "postgres", "nobody"):
            if name is None:
                continue
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(Other(name, entry.pw_uid, entry.pw_gid))
        raise ConfigurationError("running as root, and there is no account for Postgres; set SYNC_PG_OS_USER")

    def home(self, wanted: Path) -> Path:
        """The base directory, made and given to the account.

        Below a folder that the account may not enter (root's own home, say) it is a place under /var/lib instead, named
        after the wanted one: opening a private folder is not ours to do. That is chosen once: where a cluster is, it is
        found again, so that no process ever starts an empty one beside it.

        Raises ConfigurationError when the directory cannot be made, TransientError when nobody answered which it is.
        """
        self._make(wanted)
        if self.other is None or _has_cluster(wanted):
            return wanted
        base = self.elsewhere / hashlib.sha256(os.fsencode(wanted)).hexdigest()[:16]
        if not _has_cluster(base) and self._enters(self.other, wanted):
            return wanted
        self._make(base)
        return base

    def _make(self, base: Path) -> None:
        try:
            if base.parent == self.elsewhere:
                self.elsewhere.mkdir(exist_ok=True, mode=0o755)
            base.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.give(base)
            if not os.access(base, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise ConfigurationError(
                f"the embedded Postgres cannot have its files in {base} ({error.strerror}); set SYNC_DATA_DIR to a folder "
                "that can be written, or DATABASE_URL to a server of your own"
            ) from None

    def _enters(self, other: Other, folder: Path) -> bool:
        """Asked of the system and not read from the modes, which know no access list. Only before there is a cluster."""
        command = [*_python(LOOK, other), str(folder)]
        for _ in range(TIMES_ASKED):
            code = subprocess.run(command, capture_output=True, check=False).returncode
            if code in (YES, NO):
                return code == YES
        raise TransientError(
            f"whether account {other.name} may enter {folder} could not be found out: what asked ended with {code}, "
            f"{TIMES_ASKED} times; no database was made, and the next start asks again"
        )

    def runs(self, program: Path) -> bool:
        """Whether the account can run a program, with all that it loads. Raises TransientError when nobody answered."""
        for _ in range(TIMES_ASKED):
            code = subprocess.run(self.command(program, "--version"), capture_output=True, check=False).returncode
            if code >= 0:
                return code == 0
        raise TransientError(
            f"whether {program} runs here could not be found out: it was ended by signal {-code}, {TIMES_ASKED} times; "
            "nothing was started, and the next start asks again"
        )

    def command(self, *parts: str | Path) -> Sequence[str]:
        """What runs a program as this account."""
        return [*([] if self.other is None else _python(RUN, self.other)), *(str(part) for part in parts)]

    def give(self, path: Path) -> None:
        if self.other is not None:
            os.chown(path, self.other.user, self.other.group)


def _has_cluster(base: Path) -> bool:
    return (base / "data" / "PG_VERSION").exists()


def _python(code: str, other: Other) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code, str(other.user), str(other.group)]
