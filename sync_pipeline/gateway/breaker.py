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


def decide(breaker: Breaker, failures: int, outcome: Outcome) -> Action:
    """After an answer. `failures`: transient failures in a row on this endpoint, this one included."""
    if outcome == "good":
        return Action("close") if breaker.state != "closed" else Action("none")
    if outcome == "auth":
        return Action("open", max(CREDENTIAL_COOL_DOWN_S, min(LONGEST_COOL_DOWN_S, breaker.cool_down_s * 2)))
    if outcome == "transient" and (breaker.state != "closed" or failures >= THRESHOLD):
        return Action("open", min(LONGEST_COOL_DOWN_S, max(FIRST_COOL_DOWN_S, breaker.cool_down_s * 2)))
    return Action("none")
