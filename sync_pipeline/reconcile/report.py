"""Delta reports: a frame for the UI's table, saved as CSV and Parquet beside the data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from sync_pipeline.reconcile.window import WindowReport

if TYPE_CHECKING:
    import pandas as pd


def frame(report: WindowReport) -> pd.DataFrame:
    """One row a delta. Ids are hashed: a report travels further than the table."""
    import pandas as pd

    rows = [
        {
            "day": difference.day.isoformat(),
            "cause": difference.cause,
            "action": action,
            "verified": verified,
            "record": hashlib.sha256(f"{report.feed}/{difference.vendor_id}".encode()).hexdigest()[:12],
            "modified_at": difference.modified_at.isoformat(),
        }
        for difference, action, verified in report.deltas
    ]
    return pd.DataFrame(rows, columns=["day", "cause", "action", "verified", "record", "modified_at"])


def summary(report: WindowReport) -> pd.DataFrame:
    """Counts by cause and action."""
    import pandas as pd

    rows = [
        {"cause": cause, "action": action, "records": number}
        for (cause, action), number in sorted(report.by_cause.items())
    ]
    return pd.DataFrame(rows or [{"cause": "none", "action": "–", "records": 0}])


def save(report: WindowReport, folder: Path) -> tuple[Path, Path]:
    """Write CSV and Parquet; returns their paths."""
    name = f"{str(report.feed).replace('/', '_')}_{report.start}_{report.end}"
    folder.mkdir(parents=True, exist_ok=True)
    table = frame(report)
    csv, parquet = folder / f"{name}.csv", folder / f"{name}.parquet"
    table.to_csv(csv, index=False)
    table.to_parquet(parquet, index=False)
    return csv, parquet
