"""`python -m sync_pipeline.simulator --port N --seed S`: the vendors, until interrupted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.server import ListenError, serve
from sync_pipeline.simulator.tape import TapeError


def parse(arguments: Sequence[str] | None = None) -> tuple[str, int, SimulatorOptions]:
    """Host, port and options from the command line."""
    default = SimulatorOptions()
    parser = argparse.ArgumentParser(prog="python -m sync_pipeline.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8770)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--orders", type=int, help="orders at each vendor")
    parser.add_argument("--max-visibility", type=float, default=default.max_visibility_s, metavar="SECONDS")
    parser.add_argument("--max-commit-lag", type=float, default=default.max_commit_lag_s, metavar="SECONDS")
    parser.add_argument("--changes-per-minute", type=float, default=default.changes_per_minute)
    parser.add_argument("--canary", default=default.canary)
    parser.add_argument("--self-hosted", action="store_true", help="pretix without a limit")
    parser.add_argument("--journal", type=Path, help="file from which the same world starts again as it was left")
    given = parser.parse_args(arguments)
    options = SimulatorOptions(
        seed=given.seed,
        eventbrite_orders=default.eventbrite_orders if given.orders is None else given.orders,
        pretix_orders=default.pretix_orders if given.orders is None else given.orders,
        max_visibility_s=given.max_visibility,
        max_commit_lag_s=given.max_commit_lag,
        changes_per_minute=given.changes_per_minute,
        canary=given.canary,
        journal=given.journal,
        pretix_per_minute=None if given.self_hosted else default.pretix_per_minute,
    )
    return given.host, given.port, options


def main() -> int:
    """Exit code 0 after an interruption, 1 when the port cannot be had, or the journal does not fit or cannot be kept."""
    host, port, options = parse()
    sys.stderr.write(f"simulator on http://{host}:{port} (control plane under /_sim/)\n")
    sys.stderr.flush()
    try:
        serve(host, port, options)
    except TapeError as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    except ListenError as problem:
        sys.stderr.write(f"{problem}; choose another with --port\n")
        return 1
    except OSError as problem:
        sys.stderr.write(f"the journal {options.journal} cannot be kept: {problem.strerror}; choose another place\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
