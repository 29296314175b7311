"""The developer's and evaluator's desk: simulator and Dagster UI together, on the demo's data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from sync_pipeline.cli.places import PROJECT, dagster_home, enter, simulated_vendors, working_database
from sync_pipeline.kernel.errors import ConfigurationError

CHANGES_PER_MINUTE = 30


def run_dev(*, port: int, simulator_port: int, seed: int) -> int:
    """Run until interrupted; returns the exit code of the process that ended first."""
    from sync_pipeline.simulator.options import SimulatorOptions
    from sync_pipeline.simulator.server import running

    console = Console(stderr=True, highlight=False)
    url = working_database()
    options = SimulatorOptions(seed=seed, changes_per_minute=CHANGES_PER_MINUTE)
    with running(options, port=simulator_port) as simulator:
        enter({**simulated_vendors(simulator.url), **dagster_home(url)})
        console.print(f"Simulated vendors: {simulator.url} (they change {CHANGES_PER_MINUTE} records a minute)")
        console.print(f"Dagster UI:        http://127.0.0.1:{port}  (Ctrl-C stops both)")
        command = [_dg(), "dev", "--host", "127.0.0.1", "--port", str(port)]
        process = subprocess.Popen(command, cwd=PROJECT, env=dict(os.environ))
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            return process.wait()


def _dg() -> str:
    beside = Path(sys.executable).parent / "dg"
    found = str(beside) if beside.exists() else shutil.which("dg")
    if found is None:
        raise ConfigurationError("the `dg` command is not installed beside this Python; run `make dev` once")
    return found
