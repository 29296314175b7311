"""Who holds a lease: a name that tells whether its process still lives, so that a killed worker is not waited for."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path

PROC = Path("/proc")
STATE, STARTED = 0, 19
"""Places in /proc/<pid>/stat, counted from behind the program's name."""


def this_process(session: str) -> str:
    """`place|pid|started|session` of the running process."""
    return "|".join([_place(), str(os.getpid()), _started(os.getpid()), session])


def is_gone(owner: str) -> bool:
    """True only when the owner was a process of this place that has surely ended. Of other places nothing is known, and that
    is what an owner is from whose name lacks what this process knows of its own place."""
    place, _, rest = owner.partition("|")
    pid, _, rest = rest.partition("|")
    started, _, _ = rest.partition("|")
    if place != _place() or not pid.isdigit():
        return False
    return _started(int(pid)) != started


def _place() -> str:
    """Where a pid means one process: this host; on Linux, this boot and this namespace of pids, since two containers, or two
    machines, may have one host name."""
    namespace = _namespace()
    return f"{socket.gethostname()}@{namespace}" if namespace else socket.gethostname()


@functools.cache
def _namespace() -> str | None:
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux, or nothing of it is shown
        return None


def _started(pid: int) -> str:
    return _started_by_wall_clock(pid) if _namespace() is None else _started_since_boot(pid)


def _started_since_boot(pid: int) -> str:
    """In the kernel's ticks: by the wall clock a process would have started at another time once the clock has been set."""
    try:
        told = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "ended"
    return "ended" if told[STATE] in "ZX" else told[STARTED]


def _started_by_wall_clock(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return "ended"
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return "ended"
