"""What a command's end means to whoever called it: exit codes, and the error of a session that decides it."""

from __future__ import annotations

from collections.abc import Iterable

from sync_pipeline.kernel.errors import ClientFault, Deferred, Fenced, PermanentError, SyncError, TransientError

DONE, MUST_ACT, MAY_PASS = 0, 2, 3


def exit_code(error: SyncError) -> int:
    """3 for what may pass by itself: an outage, a wait for quota or a breaker, another worker at it. Else 2."""
    return MAY_PASS if isinstance(error, TransientError | Deferred | Fenced) else MUST_ACT


def deciding(errors: Iterable[SyncError | None]) -> SyncError | None:
    """The error that a session's exit code comes from: what an operator must act on before what may pass.

    None when every feed was polled, or is being polled by another worker.
    """
    found = [error for error in errors if error is not None and not isinstance(error, Fenced)]
    kinds = (ClientFault, PermanentError, SyncError)
    return next((error for kind in kinds for error in found if isinstance(error, kind)), None)
