"""The ASGI application: both vendors and the control plane under one port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from sync_pipeline.simulator.control import Control
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.simulation import Simulation


def build_app(options: SimulatorOptions) -> Starlette:
    """A fresh simulation and its routes. The simulation is at `app.state.simulation`.

    Faults that break connections need the server of `server.py`; everything else works over any ASGI transport.
    """
    simulation = Simulation(options)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_live(simulation)) if options.changes_per_minute > 0 else None
        yield
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    routes = [
        *Control(simulation).routes(),
        *simulation.eventbrite_api.routes(),
        *simulation.pretix_api.routes(),
    ]
    app = Starlette(routes=routes, lifespan=lifespan)
    # Vendors redirect by their own rules, with their own bodies.
    app.router.redirect_slashes = False
    app.state.simulation = simulation
    return app


async def _live(simulation: Simulation) -> None:
    """Let things happen at the wished rate until cancelled."""
    while True:
        await asyncio.sleep(60.0 / simulation.options.changes_per_minute)
        simulation.mutate(None, 1)
