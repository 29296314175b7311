"""Tables for people and for pipes: nothing in them is ever cut off, since keys are there to be copied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

Rows = Sequence[Mapping[str, Any]]


def show_table(console: Console, title: str, rows: Rows) -> None:
    """A line for each row, as wide as it takes where no one looks (a pipe, a file); where a terminal is too narrow for
    that, a block for each row."""
    if not rows:
        console.print(f"{title}: nothing")
        return
    table = _table(title, rows)
    width = Measurement.get(console, console.options.update(max_width=100_000), table).maximum
    if console.is_terminal and width > console.width:
        _show_blocks(console, title, rows)
        return
    wide = Console(file=console.file, width=max(width, console.width), highlight=False)
    wide.print(table)


def _table(title: str, rows: Rows) -> Table:
    table = Table(title=title, title_justify="left")
    for column, value in rows[0].items():
        justify: Any = "right" if isinstance(value, int | float) else "left"
        table.add_column(column.replace("_", " "), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))
    return table


def _show_blocks(console: Console, title: str, rows: Rows) -> None:
    names = max(len(column) for column in rows[0])
    console.print(title, style="italic", soft_wrap=True)
    for number, row in enumerate(rows):
        if number:
            console.print()
        for column, value in row.items():
            console.print(Text(f"  {column.replace('_', ' '):{names}}  {cell(value)}"), soft_wrap=True)


def cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    return str(value)
