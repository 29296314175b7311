"""Our worker, started as the command line starts: see `our_session` for what it does.

`--idle N` adds a second session of N polls that find nothing, and grants alone; `--again` asks for everything once more from the
start.
Prints one JSON object.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sync_pipeline.kernel.collector import calm_collector


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--page-size", type=int, default=100)
    options.add_argument("--url", required=True)
    options.add_argument("--objects", type=Path, required=True)
    options.add_argument("--again", action="store_true")
    options.add_argument("--idle", type=int, default=0)
    given = options.parse_args()
    calm_collector()
    import orjson

    from sync_pipeline.kernel.loop import run_worker
    from sync_pipeline_tests.benchmarks.our_session import run

    print(orjson.dumps(run_worker(run(given))).decode())


if __name__ == "__main__":
    main()
