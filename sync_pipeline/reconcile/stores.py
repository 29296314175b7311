"""What a reconcile gets of the runtime: where things are kept. Not the source of secrets, nor what opens a gateway."""

from __future__ import annotations

from typing import Protocol

from sync_pipeline.kernel.clock import Clock
from sync_pipeline.landing.objects import ObjectStore
from sync_pipeline.landing.pages import Landing
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.store.database import Database


class Stores(Protocol):
    @property
    def database(self) -> Database: ...

    @property
    def objects(self) -> ObjectStore: ...

    @property
    def landing(self) -> Landing: ...

    @property
    def ledger(self) -> Ledger: ...

    @property
    def clock(self) -> Clock: ...
