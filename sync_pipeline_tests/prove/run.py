"""`make prove`: the promises about limits, waiting and freshness, at size. Progress on stderr; one JSON object last.

- `calls`, `breaches`: calls made by 16 workers in 4 processes (clocks 5 s off, killed at random, the database killed too) and
  how many of them the vendor's own limiter refused. `quota_use`: calls by the vendor's limit, in whole windows without kills;
  `quota_use_disturbed` with them.
- `p0_wait_p99_s`: from asking to answered, in lane P0, while P4 saturates. `lanes_starved`: lanes and minutes without a call.
- `foreign_429_per_10k`: refusals while others use 30 % of the limit, after the first twenty seconds of it.
- `calls_before_retry_after`: calls sent after a refusal was booked and before its `Retry-After` was over.
- `probes_per_interval`, `recovery_intervals`: an outage of an hour at a twentieth of its time; calls that reached the vendor
  while it was down, after the breaker opened, by the cool-downs that passed; cool-downs from its end to the first good answer.
- `refreshes_per_generation`: exchanges by the token generations they made, 32 workers contending for a rotating refresh
  token; `spent_refresh_uses` of them and of runs in which a worker is killed at each step of a refresh; `expiry_401`:
  answers 401 in a week of simulated time.
- `staleness_vs_optimum`, `lag_vs_optimum` (1.05 = 5 % worse; `_wrong_prior`: having believed in thirty times the rate): the
  worst of all worlds. The optimum is the best constant schedule of one who knows all mean rates, in closed form.
  `gain_captured_min`: of what is possible over round robin, where rates are constant.
- `rhythm_vs_optimum`: the same, the worst of the worlds with daily and weekly rhythm. Who knows the rhythm too can do better
  than any constant schedule, `rhythm_least_possible` of its loss where that is most (a solver's lower bound);
  `rhythm_vs_least_possible`: ours beside it. `..._vs_told`: beside this policy told every rate and rhythm.
  `rhythm_vs_ideal_learner`: beside one that is told every rate and the three rhythms there are, and learns by Bayes' rule only
  which source has which (`simulation/ideal.py`).
- The hotel world:
  `round_robin_over_ours`, `cron_over_ours`: weighted staleness with as many requests by turns and with a fixed interval, beside
  ours; `..._hinted`: beside ours with webhook hints. `detection_round_robin_over_ours`, `detection_cron_over_ours`: the same for
  the mean time from a change to the poll that sees it.
- `grant_p50_ms`: one grant by one worker on an idle machine: the least of twelve medians, half of them taken before
  `limits` and half after, since what else the machine does comes and goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sync_pipeline.gateway.breaker import FIRST_COOL_DOWN_S, LONGEST_COOL_DOWN_S
from sync_pipeline.gateway.quota_store import Quota
from sync_pipeline.kernel.clock import SystemClock
from sync_pipeline.kernel.feed import QuotaNode, QuotaWindow
from sync_pipeline.kernel.loop import run_worker
from sync_pipeline.store.database import Database
from sync_pipeline.store.embedded import Embedded
from sync_pipeline.store.migrate import migrate
from sync_pipeline_tests.prove import tokens
from sync_pipeline_tests.prove.fleet import DATABASE, Fleet, Heard, own_server
from sync_pipeline_tests.prove.freshness import EVERY as EVERY_WORLD
from sync_pipeline_tests.prove.freshness import FULL as WORLDS
from sync_pipeline_tests.prove.freshness import QUICK as QUICK_WORLDS
from sync_pipeline_tests.prove.freshness import freshness

Figures = dict[str, Any]
Proof = Callable[[], Figures]
TOKENS = "prove_tokens"
"""The token proof's own database: it runs beside others."""

PROMISED: Mapping[str, tuple[str, ...]] = {
    "grant": ("grant_p50_ms",),
    "limits": ("calls", "breaches", "quota_use", "p0_wait_p99_s", "lanes_starved"),
    "foreign": ("foreign_429_per_10k",),
    "retry_after": ("calls_before_retry_after",),
    "outage": ("probes_per_interval", "recovery_intervals"),
    "tokens": ("refreshes_per_generation", "spent_refresh_uses", "expiry_401"),
    "freshness": (
        "staleness_vs_optimum", "staleness_vs_optimum_wrong_prior", "lag_vs_optimum", "gain_captured_min",
        "round_robin_over_ours", "cron_over_ours", "ceiling_violations",
    ),
}  # fmt: skip
"""What each proof has to give; it may give more."""

MIXED = ("P4,P4,P4,P4", "P4,P4,P3:0.05,P3:0.05", "P4,P2:0.1,P2:0.1,P1:0.2", "P4,P4,P0:0.05,P0:0.1")
"""Sixteen workers in four processes; seconds between the calls of those that do not saturate."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Seconds of each proof; the calm part of the first one ends when `calls` are made."""

    rate: int
    calls: int
    disturbed_s: float
    foreign_s: float
    refusals: int
    outage_s: float
    contention_s: float


FULL = Sizes(rate=2400, calls=1_000_000, disturbed_s=120, foreign_s=150, refusals=20, outage_s=180, contention_s=30)
QUICK = Sizes(rate=600, calls=36_000, disturbed_s=12, foreign_s=15, refusals=3, outage_s=15, contention_s=6)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else max(values, default=0.0)


def limits(server: Embedded, sizes: Sizes, rng: random.Random) -> Figures:
    """A million calls, killed workers and a killed database."""
    limit = sizes.rate * 60
    with Fleet(server, f"{limit}/60,{sizes.rate * 3 // 2}/1", MIXED) as fleet:
        while fleet.stats()["calls"] == 0:
            time.sleep(0.05)
        calm_from = time.monotonic()
        windows = calls = 0
        while windows == 0 or calls < sizes.calls * 0.8:
            windows += 1
            time.sleep(max(0, calm_from + 60 * windows - time.monotonic()))
            calls = fleet.stats()["calls"]
            say(f"  {calls} calls in {windows} windows")
        calm_s = time.monotonic() - calm_from
        use = calls / calm_s / sizes.rate
        starved = _starved(fleet.heard, calm_s)
        waits = [wait for second, wait in fleet.heard.waits["P0"] if second > 5]
        say(f"  use {use:.3f}, P0 p99 {p99(waits):.3f} s; now with kills")
        disturbed_from, calls_from = time.monotonic(), calls
        crashes = 0
        while (passed := time.monotonic() - disturbed_from) < sizes.disturbed_s or fleet.stats()["calls"] < sizes.calls:
            time.sleep(rng.uniform(2, 6))
            fleet.kill_one(rng)
            if passed > (crashes + 1) * sizes.disturbed_s / 3:
                crashes += 1
                say(f"  database killed, {fleet.stats()['calls']} calls")
                fleet.crash_database()
        stats = fleet.stats()
        return {
            "calls": stats["calls"],
            "breaches": stats["breaches"],
            "quota_use": round(use, 4),
            "quota_use_disturbed": round(
                (stats["calls"] - calls_from) / (time.monotonic() - disturbed_from) / sizes.rate, 4
            ),
            "p0_wait_p99_s": round(p99(waits), 4),
            "lanes_starved": starved,
        }


def _starved(heard: Heard, seconds: float) -> int:
    minutes = range(max(1, int(seconds // 60)))
    lanes = {lane for _, lane in heard.calls}
    return sum(
        not any(heard.calls.get((second, lane)) for second in range(minute * 60, minute * 60 + 60))
        for minute in minutes
        for lane in lanes
    )


def foreign(server: Embedded, sizes: Sizes, *, window_s: int = 20) -> Figures:
    """Others take 30 % of the limit on the same key; the vendor says what is left. Measured from one window on."""
    rate = 600
    with Fleet(server, f"{rate * window_s}/{window_s}", ("P4,P4", "P4,P2:0.05"), flags=("--told",)) as fleet:
        fleet.ask(f"foreign {0.3 * rate}")
        time.sleep(window_s)
        before = fleet.stats()
        time.sleep(sizes.foreign_s)
        after = fleet.stats()
    calls = after["calls"] - before["calls"]
    refused = after["breaches"] - before["breaches"]
    others = after["foreign"] - before["foreign"]
    say(f"  {calls} calls beside {others} of others, {refused} refused")
    return {
        "foreign_429_per_10k": round(refused / calls * 10_000, 3),
        "foreign_quota_use": round((calls + others) / sizes.foreign_s / rate, 4),
    }


def retry_after(server: Embedded, sizes: Sizes, rng: random.Random) -> Figures:
    """The vendor refuses without a reason we could know of; sixteen workers share the news."""
    with Fleet(server, "2400/60", MIXED) as fleet:
        time.sleep(3)
        for _ in range(sizes.refusals):
            fleet.ask(f"refuse {rng.uniform(1, 3):.2f}")
            time.sleep(4.5)
        return {"calls_before_retry_after": fleet.stats()["early"]}


def outage(server: Embedded, sizes: Sizes) -> Figures:
    """An hour's outage at a twentieth of its time: cool-downs from a quarter of a second to fifteen."""
    scale = 0.05
    lanes = ",".join(["P2:0.02"] * 4)
    flags = ("--breaker", "--scale", str(scale))
    with Fleet(server, "60000/60", (lanes,) * 4, flags=flags) as fleet:
        time.sleep(3)
        fleet.ask("down 1")
        down_at = time.monotonic()
        time.sleep(sizes.outage_s)
        fleet.ask("down 0")
        healed_at = time.monotonic()
        while (stats := fleet.stats())["first_good"] is None:
            time.sleep(0.05)
        first_good = stats["first_good"]
        time.sleep(1)
        calls_after = fleet.stats()["calls"] - stats["calls"]
    opened = min(1.0, sizes.outage_s / 4)
    probes = [at - down_at for at in stats["while_down"] if at - down_at > opened]
    cool_down, intervals, at = FIRST_COOL_DOWN_S * scale, 0, 0.0
    while at < sizes.outage_s:
        at += cool_down
        intervals += at > opened
        cool_down = min(LONGEST_COOL_DOWN_S * scale, cool_down * 2)
    say(
        f"  {len(stats['while_down'])} calls into the outage, {len(probes)} probes in {intervals} intervals; {calls_after} after"
    )
    return {
        "probes_per_interval": round(len(probes) / intervals, 3),
        "recovery_intervals": round((first_good - healed_at) / cool_down, 3),
    }


async def _grant_cost(server: Embedded) -> float:
    migrate(server.ensure(DATABASE))
    async with Database.open(server.url(DATABASE)) as database:
        quota = Quota(
            "cost",
            [QuotaNode("cost", (QuotaWindow("minute", 1_000_000, 60),))],
            database=database,
            clock=SystemClock(),
            monotonic=time.monotonic,
            random=random.random,
        )
        await quota.open()
        medians = []
        for _ in range(6):
            costs = []
            for _ in range(300):
                await quota.close()  # nothing in hand: each one asks
                started = time.perf_counter()
                await quota.acquire()
                costs.append((time.perf_counter() - started) * 1000)
            medians.append(statistics.median(costs))
    return min(medians)


async def _tokens(server: Embedded, sizes: Sizes) -> Figures:
    migrate(server.ensure(TOKENS))
    async with Database.open(server.url(TOKENS)) as database:
        return await tokens.contention(database, sizes.contention_s) | await tokens.week(database)


def _run(proofs: Mapping[str, Proof], only: Sequence[str] | None) -> Figures:
    """One after the other."""
    figures: Figures = {}
    for name, proof in proofs.items():
        if only is None or name in only:
            started = time.monotonic()
            say(f"{name} ...")
            found = proof()
            if missing := set(PROMISED[name]) - found.keys():
                raise KeyError(f"{name} gives no {', '.join(sorted(missing))}")
            figures |= found
            say(f"{name}: {found} ({time.monotonic() - started:.0f} s)")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the same figures at small size, in three minutes")
    parser.add_argument("--only", nargs="*", help="some of the proofs")
    parser.add_argument("--every-world", action="store_true", help="freshness in each world there is: hours")
    options = parser.parse_args()
    worlds = QUICK_WORLDS if options.quick else EVERY_WORLD if options.every_world else WORLDS
    sizes = QUICK if options.quick else FULL
    rng = random.Random(11)
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder, own_server(Path(folder)) as server:
        alone: dict[str, Proof] = {
            "grant": lambda: {"grant_p50_ms": round(run_worker(_grant_cost(server)), 3)},
            "limits": lambda: limits(server, sizes, rng),
        }
        fleets: dict[str, Proof] = {
            "foreign": lambda: foreign(server, sizes),
            "retry_after": lambda: retry_after(server, sizes, rng),
            "outage": lambda: outage(server, sizes),
        }
        beside: dict[str, Proof] = {
            "tokens": lambda: asyncio.run(_tokens(server, sizes)),
            "freshness": lambda: freshness(worlds, hotels=100 if options.quick else 1000, say=say),
        }
        figures |= _run(alone, options.only)
        if "grant_p50_ms" in figures:
            figures["grant_p50_ms"] = min(figures["grant_p50_ms"], _run(alone, ["grant"])["grant_p50_ms"])
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(_run, group, options.only) for group in (fleets, beside)]:
                figures |= done.result()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
