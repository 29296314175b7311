"""What a session does its work with."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.crash import CrashPlan
from sync_pipeline.kernel.feed import Lane, Reply, Request
from sync_pipeline.landing.objects import ObjectStore
from sync_pipeline.landing.pages import Landing
from sync_pipeline.ledger.apply import Ledger


class Sender(Protocol):
    """The gateway, as a session sees it."""

    async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply: ...


@dataclass(frozen=True, slots=True)
class Effects:
    """All that reaches outside the process. Passed in, so that a test can pass its own."""

    gateway: Sender
    landing: Landing
    ledger: Ledger
    objects: ObjectStore
    clock: Clock
    rng: random.Random
    crash: CrashPlan
