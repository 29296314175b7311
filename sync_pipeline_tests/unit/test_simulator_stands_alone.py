"""The simulator is a second reading of the vendors' documents: it must share nothing with the first."""

from __future__ import annotations

import ast
from pathlib import Path

import sync_pipeline.simulator

ROOM = Path(sync_pipeline.simulator.__file__).parent
OWN = "sync_pipeline.simulator"
LIBRARIES = {"starlette", "uvicorn"}


def imported(source: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_imports_nothing_from_the_rest_of_the_project() -> None:
    modules = sorted(ROOM.rglob("*.py"))
    assert len(modules) > 15
    for source in modules:
        ours = {name for name in imported(source) if name.split(".")[0] == "sync_pipeline"}
        strangers = {name for name in ours if not (name == OWN or name.startswith(OWN + "."))}
        assert not strangers, f"{source.name} imports {strangers}"


def test_needs_no_library_beyond_the_server() -> None:
    import sys

    for source in ROOM.rglob("*.py"):
        tops = {name.split(".")[0] for name in imported(source)} - {"sync_pipeline", "__future__"}
        assert tops <= LIBRARIES | set(sys.stdlib_module_names), source.name
