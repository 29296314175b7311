"""The one error tree.

    SyncError
    ├── TransientError     the vendor or the network failed; the same request may succeed later
    │   ├── ReceiverAway     the receiver of handed-on changes takes none of them now
    │   └── TransactionConflict  the database gave up a transaction for another one; it may be done again at once
    ├── ClientFault        our side is wrong and an operator must act
    │   ├── ConfigurationError   YAML, environment, database URL
    │   ├── AuthenticationError  the vendor refused our credential
    │   └── StoreRefused         the database refused a statement; its transaction was rolled back
    ├── PermanentError     this request can never succeed as it is
    │   ├── CursorExpired    the vendor no longer knows our token: fall back to window + last key
    │   └── ExpansionFailed  the vendor cannot add what was asked for beside the records: fall back to them alone
    ├── Deferred           not an error: the work waits until `until` and holds no worker
    └── InvariantViolation the transaction was rolled back; nothing was lost
        └── Fenced         another worker holds the feed's lease; this one wrote nothing

A message says what failed, for which connection and feed, and what happens next. It never holds a record's value or a
secret: only names, numbers, codes and endpoint templates may be put into one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

Awaited = Literal["quota", "breaker", "token"]


class SyncError(Exception):
    """Base of all errors this package raises on purpose."""


class TransientError(SyncError):
    """The vendor, the network or a store failed in a way that may pass.

    `retry_after` is what the vendor asked for, to be honoured exactly. `unsent` is true when the request surely never
    reached the vendor, so that even a request that is not idempotent may be sent again.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        throttled: bool = False,
        unsent: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.throttled = throttled
        self.unsent = unsent
        self.status = status


class ReceiverAway(TransientError):
    """The receiver, or the way to it, takes nothing that it is handed, whichever registration it was asked with."""


class TransactionConflict(TransientError):
    """Two transactions stood in each other's way (a deadlock, a serialization failure) and the database gave up this one: nothing
    of it was done, and the connection lives. Done again, from its first statement, it is likely to succeed."""

    def __init__(self, message: str, *, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ClientFault(SyncError):
    """Something on our side is wrong; retrying cannot help until an operator changes it."""


class ConfigurationError(ClientFault):
    """YAML, environment or database settings are missing or contradict each other."""


class AuthenticationError(ClientFault):
    """The vendor refused the credential (401, 403)."""


class StoreRefused(ClientFault):
    """The database refused a statement, whatever the record was that it could not take: its own words may quote that one, so
    only `sqlstate` is kept (None: the driver refused it)."""

    def __init__(self, message: str, *, sqlstate: str | None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class PermanentError(SyncError):
    """The vendor understood the request and will always refuse it."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class CursorExpired(PermanentError):
    """The vendor's paging token is spent; the window is walked again from its start."""


class ExpansionFailed(PermanentError):
    """The vendor could not add to the records what was asked for beside them; `Request.plain` asks for them alone."""


class Deferred(SyncError):
    """The work waits until `until`, for what `awaits` says; its state is saved and no worker is held."""

    def __init__(self, until: datetime, reason: str, *, awaits: Awaited = "quota") -> None:
        super().__init__(f"{reason}; deferred until {until:%Y-%m-%dT%H:%M:%SZ}")
        self.until = until
        self.reason = reason
        self.awaits = awaits


class InvariantViolation(SyncError):
    """A promise of the ledger would have been broken; the transaction was rolled back."""


class Fenced(InvariantViolation):
    """Another worker has taken the feed's lease since; this worker's transaction was rolled back."""
