"""Tokens that a worker took in advance are for at once: what it has not used by then goes back."""

from __future__ import annotations

from sync_pipeline.gateway.quota import LEASE_S, LEASE_TOKENS
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import QuotaNode, QuotaWindow
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import rows


async def test_a_token_in_hand_is_not_used_after_its_time(database: Database) -> None:
    seconds = [1000.0]
    node = QuotaNode("shop", (QuotaWindow("minute", 60_000, 60, burst=10_000),))
    quota = Quota(
        "shop", [node], database=database, clock=SystemClock(), monotonic=lambda: seconds[0], random=lambda: 0.0
    )

    async def booked() -> int:
        [(counted,)] = await rows(database, "select counted from sync.quota")
        return int(counted)

    await quota.open()
    await quota.acquire()
    seconds[0] += 0.9 * LEASE_S
    await quota.acquire()
    assert await booked() == LEASE_TOKENS, "the second was in hand"
    seconds[0] += 0.1 * LEASE_S
    await quota.acquire()
    assert await booked() == 2 + LEASE_TOKENS, "what was left of the first went back, and others were taken"
    seconds[0] += LEASE_S
    await quota.close()
    assert await booked() == 3
