"""When to stop asking: one breaker an endpoint (and one for the credential).

Fed by error classes: transient failures open the endpoint's, refused credentials the credential's, permanent none. What opens
one is decided where all workers' answers come together, in SQL (`sync.breaker_failed`); what a worker may do meanwhile here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

CREDENTIAL = "credential"
THRESHOLD = 8
"""Transient failures in a row that open an endpoint's breaker: at a tenth of requests failing at random, once in 10^8."""

FIRST_COOL_DOWN_S = 5.0
LONGEST_COOL_DOWN_S = 300.0
CREDENTIAL_COOL_DOWN_S = 60.0
PROBE_TTL_S = 60.0


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an open breaker waits before its next probe: doubling from `first_s` to `longest_s`; a refused credential
    `credential_s` at first. `probe_s`: how long after its last sign of life a probe is held for dead, and another worker
    sends one. All in seconds."""

    first_s: float = FIRST_COOL_DOWN_S
    longest_s: float = LONGEST_COOL_DOWN_S
    credential_s: float = CREDENTIAL_COOL_DOWN_S
    probe_s: float = PROBE_TTL_S
    poll_s: float = 1.0
    """How stale a closed breaker may be, and how often a waiting worker looks."""

    @property
    def unnoted_s(self) -> float:
        """How long good answers may come without anybody noting one: a worker looks at most `poll_s` later whether there is a
        failure that its answer ends; and as long again for its way."""
        return 2 * self.poll_s

    @classmethod
    def scaled(cls, share: float) -> Timing:
        """The same in faster time, for proofs."""
        return cls(
            FIRST_COOL_DOWN_S * share,
            LONGEST_COOL_DOWN_S * share,
            CREDENTIAL_COOL_DOWN_S * share,
            PROBE_TTL_S * share,
            share,
        )


TIMING = Timing()


def credential_scope(secret: str | None, settings: str) -> str:
    """The breaker of one credential in one place. `settings`: where it is used, and for what; when either is corrected,
    another breaker stands for it. Sixteen bits of a hash tell them apart and tell nothing of the secret."""
    digest = hashlib.sha256(f"{settings}\n{secret or ''}".encode()).hexdigest()
    return f"{CREDENTIAL} {digest[:4]}"


def is_credential(scope: str) -> bool:
    return scope == CREDENTIAL or scope.startswith(f"{CREDENTIAL} ")


Outcome = Literal["good", "transient", "auth", "permanent"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """`retry_in_s`: seconds until a probe may go (negative: it may go now). Times by the database's clock."""

    scope: str
    state: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    retry_in_s: float = 0.0
    cool_down_s: float = 0.0
    probe_expires_in_s: float | None = None
    reason: str = ""
    """Why it was opened."""
    good: bool = False
    """A good answer has been noted at least once."""


def admit(breaker: Breaker) -> Literal["send", "probe", "wait"]:
    """May a request go? `probe`: only if this worker wins the one probe lease."""
    if breaker.state == "closed":
        return "send"
    if breaker.state == "open":
        return "probe" if breaker.retry_in_s <= 0 else "wait"
    expired = breaker.probe_expires_in_s is not None and breaker.probe_expires_in_s <= 0
    return "probe" if expired else "wait"
