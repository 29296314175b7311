"""Processes of token workers, and the operator who enrols their token."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.kernel.crash import CrashPoint
from sync_pipeline.store.database import Database
from sync_pipeline.trust.secrets import Secret
from sync_pipeline_tests.integration.token_vendor import TokenVendor
from sync_pipeline_tests.integration.token_worker import source_of

WORKER = "sync_pipeline_tests.integration.token_worker"
STEPS = [point for point in CrashPoint if point.startswith("refresh_")]


async def enrolled(vendor: TokenVendor, database: Database, lifetime_s: float) -> None:
    access, refresh = vendor.authorise()
    async with source_of(database, vendor.port) as source:
        await source.enrol(Pair(Secret(access), Secret(refresh)), lifetime_s)


async def worker(database: Database, port: int, grace_s: float, tasks: int, seconds: float, crash: str = "") -> Any:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", WORKER, database.url, str(port), str(grace_s), str(tasks), str(seconds),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | {"SYNC_CRASH_AT": crash},
    )  # fmt: skip
    try:
        out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == -signal.SIGKILL:
        return None
    assert process.returncode == 0, err.decode()[-2000:]
    return json.loads(out)
