"""The door Dagster opens."""

from pathlib import Path

import dagster as dg

from sync_pipeline.resources import SyncResource


@dg.definitions
def defs() -> dg.Definitions:
    """Everything under defs/, with the resources that runs need. No I/O happens here."""
    loaded = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    return dg.Definitions.merge(
        loaded, dg.Definitions(resources={"sync": SyncResource()}, executor=dg.in_process_executor)
    )
