"""Keys are shown whole, in a pipe and in a terminal of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sync_pipeline.cli.tables import show_table

KEY = "0123456789abcdef0123456789abcdef"
ROWS = [
    {"key": KEY, "feed": "pretix/positions", "codes": ["INVALID_EMAIL", "[MISSING]"], "times_seen": number,
     "remark": "a sentence that says what to do " * 4}
    for number in range(2)
]  # fmt: skip


def shown(rows: list[dict[str, object]], *, width: int, terminal: bool) -> str:
    out = io.StringIO()
    show_table(
        Console(file=out, width=width, force_terminal=terminal, color_system=None, highlight=False), "Rows", rows
    )
    return out.getvalue()


@pytest.mark.parametrize("width", [20, 80, 120])
def test_a_pipe_gets_one_line_a_row(width: int) -> None:
    lines = shown(ROWS, width=width, terminal=False).splitlines()
    assert [KEY in line and "[MISSING]" in line and ROWS[0]["remark"] in line for line in lines].count(True) == 2
    assert not any("…" in line for line in lines)


@pytest.mark.parametrize("width", [20, 80, 120])
def test_a_narrow_terminal_gets_a_block_a_row(width: int) -> None:
    text = shown(ROWS, width=width, terminal=True)
    assert text.count(KEY) == 2
    assert text.count("times seen") == 2
    assert "…" not in text
    assert "[MISSING]" in text


def test_what_fits_is_a_table() -> None:
    text = shown([{"feed": "pretix/orders", "pages": 3}], width=80, terminal=True)
    assert [line for line in text.splitlines() if "pretix/orders" in line and "3" in line]
    assert "nothing" in shown([], width=80, terminal=True)
