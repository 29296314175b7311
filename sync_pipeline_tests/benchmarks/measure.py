"""Measuring a command as a whole process: wall time from start to exit, peak RSS of its process tree."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """`seconds` of wall time, `peak_rss_mb` of the tree (MiB, sampled), `shown`: the JSON object printed last."""

    seconds: float
    peak_rss_mb: float
    shown: Any


class _Peak(threading.Thread):
    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._done = threading.Event()
        self.bytes = 0

    def run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            total = 0
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            for process in tree:
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)

    def stop(self) -> int:
        self._done.set()
        self.join()
        return self.bytes


def measure(command: Sequence[str | Path], *, cwd: Path) -> Measured:
    """Run a command to its end. Raises RuntimeError with the end of its output when it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [str(part) for part in command], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    peak = _Peak(process.pid)
    peak.start()
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    rss = peak.stop()
    if process.returncode:
        raise RuntimeError(f"{command[1:4]} failed: {errors[-2000:]}")
    return Measured(seconds, rss / 2**20, json.loads(output.splitlines()[-1]))


def tree_cpu_s(pid: int) -> float:
    """CPU seconds of a process and its children, those that have ended included."""
    root = psutil.Process(pid)
    spent = sum(root.cpu_times()[:4])
    for child in root.children():
        try:
            spent += sum(child.cpu_times()[:2])
        except psutil.Error:
            continue
    return spent
