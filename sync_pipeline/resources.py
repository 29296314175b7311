"""Dagster resources around the runtime. Settings are read when a run starts; secrets are known by name only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import dagster as dg
from pydantic import Field

from sync_pipeline.runtime import Runtime, open_runtime


class SyncResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The store, the landing area and the gateways."""

    landing_url: str = Field(default="", description="Directory or fsspec URL of raw pages; default beside the data.")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Runtime]:
        """Database (DATABASE_URL, else embedded) and object store, opened for one run or tick."""
        async with open_runtime(objects=self.landing_url or None) as runtime:
            yield runtime
