"""`sync-pipeline`: what operators and scripts type."""

from __future__ import annotations

import sys

from sync_pipeline.cli.outcome import exit_code
from sync_pipeline.kernel.collector import calm_collector
from sync_pipeline.kernel.errors import SyncError


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 not verified, 2 an operator must act, 3 may pass by itself."""
    calm_collector()
    from sync_pipeline.cli.app import app
    from sync_pipeline.telemetry.logs import configure, wanted_level

    try:
        configure(level=wanted_level("WARNING"))
        app()
    except SyncError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
