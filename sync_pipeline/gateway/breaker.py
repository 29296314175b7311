"""When to stop asking: one breaker an endpoint (and one for the credential), a pure decision.

Fed by error classes: transient failures open the endpoint's, refused credentials the credential's, permanent none.
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
    `credential_s` at first. `probe_s`: how long a probe may take before another worker sends one. All in seconds."""

    first_s: float = FIRST_COOL_DOWN_S
    longest_s: float = LONGEST_COOL_DOWN_S
    credential_s: float = CREDENTIAL_COOL_DOWN_S
    probe_s: float = PROBE_TTL_S
    poll_s: float = 1.0
    """How stale a closed breaker may be, and how often a waiting worker looks."""

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


@dataclass(frozen=True, slots=True)
class Action:
    """What to write: open for `cool_down_s`, close, or nothing."""

    kind: Literal["none", "open", "close"]
    cool_down_s: float = 0.0


def admit(breaker: Breaker) -> Literal["send", "probe", "wait"]:
    """May a request go? `probe`: only if this worker wins the one probe lease."""
    if breaker.state == "closed":
        return "send"
    if breaker.state == "open":
        return "probe" if breaker.retry_in_s <= 0 else "wait"
    expired = breaker.probe_expires_in_s is not None and breaker.probe_expires_in_s <= 0
    return "probe" if expired else "wait"


def decide(breaker: Breaker, failures: int, outcome: Outcome, timing: Timing = TIMING) -> Action:
    """After an answer. `failures`: transient failures in a row on this endpoint, this one included."""
    if outcome == "good":
        return Action("close") if breaker.state != "closed" else Action("none")
    if outcome == "auth":
        return Action("open", max(timing.credential_s, min(timing.longest_s, breaker.cool_down_s * 2)))
    if outcome == "transient" and (breaker.state != "closed" or failures >= THRESHOLD):
        return Action("open", min(timing.longest_s, max(timing.first_s, breaker.cool_down_s * 2)))
    return Action("none")
