"""Which error a session's exit code comes from, and which code it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sync_pipeline.cli.outcome import deciding, exit_code
from sync_pipeline.kernel.errors import (
    AuthenticationError,
    ConfigurationError,
    CursorExpired,
    Deferred,
    Fenced,
    InvariantViolation,
    PermanentError,
    SyncError,
    TransientError,
)

DOWN = TransientError("down")
GONE = PermanentError("gone", status=404)
WRONG = AuthenticationError("wrong")
WAIT = Deferred(datetime(2026, 1, 1, tzinfo=UTC), "quota")
TAKEN = Fenced("taken")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DOWN, 3), (WAIT, 3), (TAKEN, 3), (WRONG, 2), (ConfigurationError("x"), 2), (GONE, 2), (CursorExpired("x"), 2),
        (InvariantViolation("x"), 2),
    ],
)  # fmt: skip
def test_codes(error: SyncError, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], None), ([None, None], None), ([None, TAKEN], None), ([DOWN, None], DOWN), ([WAIT], WAIT),
        ([DOWN, GONE], GONE), ([DOWN, GONE, WRONG], WRONG), ([TAKEN, WAIT], WAIT),
    ],
)  # fmt: skip
def test_what_an_operator_must_do_comes_first(errors: list[SyncError | None], expected: SyncError | None) -> None:
    assert deciding(errors) is expected
