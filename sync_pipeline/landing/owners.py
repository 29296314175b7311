"""Who holds a lease: a name that tells whether its process still lives, so that a killed worker is not waited for."""

from __future__ import annotations

import os
import socket

import psutil


def this_process(session: str) -> str:
    """`host|pid|started|session` of the running process."""
    return "|".join([socket.gethostname(), str(os.getpid()), _started(os.getpid()), session])


def is_gone(owner: str) -> bool:
    """True only when the owner was a process of this host that has surely ended. Of other hosts nothing is known."""
    host, _, rest = owner.partition("|")
    pid, _, rest = rest.partition("|")
    started, _, _ = rest.partition("|")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return "ended"
        return f"{process.create_time():.2f}"
    except psutil.Error:
        return "ended"
