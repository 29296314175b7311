"""Environments of the peers: made on first use under `.bench/`, kept as long as their pins stay the same."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".bench"
PINS = {
    "dlt": (
        "dlt[postgres]==1.31.0",
        "orjson==3.13.0",
        "psycopg2-binary==2.9.13",
        "pyarrow==26.0.1",
        "requests==2.34.2",
        "sqlglot==30.30.0",
    ),
    "raw": (
        "aiohttp==3.14.5",
        "asyncpg==0.32.0",
        "orjson==3.13.0",
        "pydantic==2.14.3",
        "uvloop==0.23.0",
    ),
}


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment. Raises subprocess.CalledProcessError when pip cannot make it."""
    pins = PINS[peer]
    digest = hashlib.sha256("\n".join([sys.version, *pins]).encode()).hexdigest()[:10]
    home = FOLDER / f"{peer}-{digest}"
    python = home / "bin" / "python"
    if (home / "ready").exists():
        return python
    for outdated in FOLDER.glob(f"{peer}-*"):
        shutil.rmtree(outdated)
    print(f"installing {peer} into .bench/ (once)", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    quietly = ["--quiet", "--quiet", "--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", "install", *quietly, *pins], check=True)
    (home / "ready").touch()
    return python
