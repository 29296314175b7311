"""Quota use as a picture: calls an hour by lane, refusals on top."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

LANES = {"P0": "#1b4965", "P1": "#2a9d8f", "P2": "#8ab17d", "P3": "#e9c46a", "P4": "#f4a261"}
REFUSED = "#c1121f"
HOUR = 1 / 24
"""Matplotlib counts days."""


def hourly_png(rows: Sequence[Mapping[str, Any]], *, title: str, until: datetime, span: int) -> bytes:
    """`rows`: hour, connection, lane, calls, answers_429, for the `span` hours before `until`. One panel a connection; none
    gives a picture that says so."""
    from matplotlib.dates import DateFormatter
    from matplotlib.figure import Figure

    connections = sorted({row["connection"] for row in rows}) or ["no calls"]
    figure = Figure(figsize=(8, 1 + 1.8 * len(connections)), layout="constrained")
    panels = figure.subplots(len(connections), 1, squeeze=False, sharex=True)[:, 0]
    hours = sorted({row["hour"] for row in rows})
    for panel, name in zip(panels, connections, strict=True):
        base = [0] * len(hours)
        for lane, colour in LANES.items():
            calls = [_sum(rows, name, hour, "calls", lane) for hour in hours]
            if any(calls):
                panel.bar(hours, calls, bottom=base, width=HOUR * 0.9, align="edge", color=colour, label=lane)
                base = [under + more for under, more in zip(base, calls, strict=True)]
        refused = [_sum(rows, name, hour, "answers_429") for hour in hours]
        if any(refused):
            middle = [hour + timedelta(minutes=27) for hour in hours]
            panel.plot(middle, refused, "v", color=REFUSED, label="429")
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_ylabel("calls an hour", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.set_major_formatter(DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]
        if any(base):
            panel.legend(fontsize=7, frameon=False, ncols=6, loc="lower right", bbox_to_anchor=(1, 1))
        panel.set_xlim(until - timedelta(hours=span), until + timedelta(minutes=5))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _sum(rows: Sequence[Mapping[str, Any]], connection: str, hour: Any, column: str, lane: str | None = None) -> int:
    return sum(
        row[column]
        for row in rows
        if row["connection"] == connection and row["hour"] == hour and lane in (None, row["lane"])
    )


def as_markdown(png: bytes, alt: str) -> str:
    """An image inside a metadata value; the UI shows it in place."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})"
