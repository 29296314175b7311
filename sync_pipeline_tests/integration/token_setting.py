"""Clocks for tokens, and the operator who enrols one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.gateway.token_source import GrantSource
from sync_pipeline.trust.secrets import Secret
from sync_pipeline_tests.integration.token_vendor import TokenVendor


class Clock:
    """Time that passes only when told to, or slept."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def seconds(self) -> float:
        return self.at.timestamp()

    def skip(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.skip(seconds)
        await asyncio.sleep(0)


class StandingClock(Clock):
    """Many sleep at once: time does not add up their sleeps."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.01)


async def enrol(source: GrantSource, vendor: TokenVendor) -> None:
    access, refresh = vendor.authorise()
    await source.enrol(Pair(Secret(access), Secret(refresh)), vendor.lifetime_s)
