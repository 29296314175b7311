"""Named crash points: places where a worker may be killed so that tests can prove that a restart converges.

`SYNC_CRASH_AT=name` kills the process (SIGKILL) the first time it gets there, `name:3` the third time.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class CrashPoint(StrEnum):
    """Every place between two effects where losing the process could matter."""

    REQUEST_GRANTED = "request_granted"
    REPLY_RECEIVED = "reply_received"
    OBJECT_WRITTEN = "object_written"
    LANDING_BEFORE_COMMIT = "landing_before_commit"
    LANDING_AFTER_COMMIT = "landing_after_commit"
    LEDGER_STAGED = "ledger_staged"
    LEDGER_BEFORE_COMMIT = "ledger_before_commit"
    LEDGER_AFTER_COMMIT = "ledger_after_commit"
    REPLAY_BEFORE_COMMIT = "replay_before_commit"
    HANDOFF_SENT = "handoff_sent"
    WINDOW_CLOSED = "window_closed"
    REFRESH_LOCKED = "refresh_locked"
    REFRESH_ASKED = "refresh_asked"
    REFRESH_ANSWERED = "refresh_answered"
    REFRESH_BEFORE_COMMIT = "refresh_before_commit"
    REFRESH_AFTER_COMMIT = "refresh_after_commit"


class CrashPlan:
    """Counts passages and kills at the planned one. The plan without a name does nothing."""

    def __init__(self, plan: str = "") -> None:
        name, _, nth = plan.partition(":")
        self._point = CrashPoint(name) if name else None
        self._left = int(nth) if nth else 1

    @classmethod
    def from_environment(cls) -> CrashPlan:
        return cls(os.environ.get("SYNC_CRASH_AT", ""))

    def reach(self, point: CrashPoint) -> None:
        if point is not self._point:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
