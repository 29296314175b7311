"""A session on a connection that is YAML and nothing else, with everything on, and what it took."""

from __future__ import annotations

import argparse
import statistics
import time

import yaml

from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.runtime import Runtime, build_setup, open_runtime
from sync_pipeline.sessions.session import SessionOptions
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.vendors.catalogue import ConnectionConfig

FEED = "registrations"
DOCUMENT = """
name: bench
vendor: rest
base_url: http://127.0.0.1:{port}
auth: {{kind: none}}
limits: [{{name: minute, limit: 600000, seconds: 60, source: the benchmark}}]
feeds:
  - name: registrations
    floor_s: 0.01
    ceiling_s: 0.02
    target_lag_s: 0.02
    contract: sync_pipeline.contracts.mapped:MappedContract
    contract_options:
      fields: {{vendor_id: id, event_id: event_id, email: email, first_name: first_name, last_name: last_name,
               ticket_sku: ticket_sku, quantity: quantity, amount: unit_price, currency: currency,
               created_at: created_at, modified_at: modified_at, checked_in: checked_in}}
      status: payment_status
      statuses: {{paid: COMPLETED, pending: PENDING, refunded: REFUNDED, cancelled: FAILED, comp: COMPLETED}}
      known: [version, notes, metadata]
    rest:
      path: /v1/registrations
      records: data
      page_size_param: limit
      page_size: {page_size}
      overlap_s: 1
      modified: {{field: modified_at, param: modified_since, format: iso_millis}}
      paging: {{kind: cursor, param: cursor, token: next_cursor}}
"""


async def pull(runtime: Runtime, setup: Setup) -> dict[str, float]:
    """One session to the horizon. Raises RuntimeError when it did not get there."""
    started, cpu = time.perf_counter(), time.process_time()
    report = await runtime.run_session(setup, SessionOptions(max_seconds=3600, until_horizon=True))
    done = report.feeds[FEED]
    if done.error is not None or done.cursor.is_open:
        raise RuntimeError(f"the session did not reach its horizon: {done.error}")
    counts = done.counts.get(FEED)
    return {
        "seconds": time.perf_counter() - started,
        "cpu_s": time.process_time() - cpu,
        "asks": report.asks,
        "asking_s": report.asking_s,
        "requests": done.requests,
        "received": counts.received if counts else 0,
        "applied": counts.applied if counts else 0,
        "unchanged": counts.unchanged if counts else 0,
    }


async def idle(runtime: Runtime, setup: Setup, polls: int) -> dict[str, float]:
    """CPU of this process for each poll of a session that finds nothing; the session's own start is shared out."""
    cpu = time.process_time()
    report = await runtime.run_session(setup, SessionOptions(max_seconds=3600, max_calls=polls))
    spent = time.process_time() - cpu
    done = report.feeds[FEED]
    if done.error is not None or done.pages:
        raise RuntimeError(f"the polls were not empty: {done.pages} pages, {done.error}")
    return {"polls": done.polls, "poll_cpu_ms": 1000 * spent / done.polls, "grant_ms": await grant_ms(runtime, setup)}


async def grant_ms(runtime: Runtime, setup: Setup) -> float:
    """One grant with nothing else on the event loop: the median of 300."""
    quota = Quota(
        setup.connection.name,
        setup.connection.quota,
        database=runtime.database,
        clock=runtime.clock,
        monotonic=time.monotonic,
        random=runtime.rng.random,
    )
    await quota.open()
    costs = []
    for _ in range(300):
        await quota.close()  # nothing in hand: each one asks
        started = time.perf_counter()
        await quota.acquire()
        costs.append(1000 * (time.perf_counter() - started))
    await quota.close()
    return statistics.median(costs)


async def run(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """`given`: what `ours` was told on its command line. Raises RuntimeError for a session that did not do its work."""
    config = ConnectionConfig.parse(
        yaml.safe_load(DOCUMENT.format(port=given.port, page_size=given.page_size)), where="the benchmark"
    )
    setup = build_setup(config, env={})
    async with open_runtime(url=given.url, objects=given.objects) as runtime:
        if given.again:
            await runtime.landing.reset(setup.connection.feed_id(FEED), since=None)
        shown = {"pull": await pull(runtime, setup)}
        if given.idle:
            shown["idle"] = await idle(runtime, setup, given.idle)
    return shown
