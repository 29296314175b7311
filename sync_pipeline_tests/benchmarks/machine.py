"""The machine that benchmarks run on: how many cores it really gives."""

from __future__ import annotations

import subprocess
import sys

SPIN = """
import sys, time
for line in sys.stdin:
    begun, number = time.perf_counter(), 0
    while number < 500_000:
        number += 1
    print(time.perf_counter() - begun, flush=True)
"""
TURNS = 8


def usable_cores() -> float:
    """How much more two busy processes get done than one: 2 on two cores, little above 1 where both are threads of one core, as
    they may be on a rented machine at one time and not at another."""
    with _spinner() as one, _spinner() as other:
        _spun(one, other)
        alone = both = 0.0
        for _ in range(TURNS):  # by turns, since the speed itself changes
            alone += _spun(one)
            both += _spun(one, other)
    return 2 * alone / both


def _spinner() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", SPIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _spun(*spinners: subprocess.Popen[str]) -> float:
    """Seconds that each of them, at the same time, needs for the same work: the mean."""
    for spinner in spinners:
        assert spinner.stdin is not None
        spinner.stdin.write("\n")
        spinner.stdin.flush()
    took = 0.0
    for spinner in spinners:
        assert spinner.stdout is not None
        took += float(spinner.stdout.readline())
    return took / len(spinners)
