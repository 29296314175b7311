"""The parts put together: one place opens the database, the object store and the gateways, for Dagster and the CLI.

What only some processes need is imported where it is used: a code location that is loaded calls no vendor.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sync_pipeline.contracts import load_contract
from sync_pipeline.kernel.clock import Clock, SystemClock
from sync_pipeline.kernel.collector import calm_collector
from sync_pipeline.kernel.crash import CrashPlan
from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import QuotaNode
from sync_pipeline.landing.objects import ObjectStore, open_objects
from sync_pipeline.landing.pages import Landing
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.polling.schedule import Left, span_of
from sync_pipeline.sessions.effects import Effects
from sync_pipeline.sessions.planner import Wishes
from sync_pipeline.sessions.replay import Quarantine
from sync_pipeline.sessions.session import Progress, Session, SessionOptions, SessionReport
from sync_pipeline.sessions.setup import FeedSetup, Receiver, Setup
from sync_pipeline.store.database import Database, database_url
from sync_pipeline.store.migrate import migrate
from sync_pipeline.trust.providers import open_secrets
from sync_pipeline.trust.secrets import SecretProvider
from sync_pipeline.vendors.catalogue import ConnectionConfig, build_connection, contract_of, with_environment

if TYPE_CHECKING:
    from sync_pipeline.gateway.client import Gateway
    from sync_pipeline.handoff.courier import Courier

GATEWAY = "sync_pipeline.gateway.client"
DEFS = Path(__file__).parent / "defs"
COMPONENT = "sync_pipeline.components.VendorConnection"
FOLDER = "dagster.DefsFolderComponent"
DOCUMENTS = ("defs.yaml", "defs.yml")


def build_setup(config: ConnectionConfig, env: Mapping[str, str] | None = None) -> Setup:
    """Everything a session needs from one connection's settings. Raises ConfigurationError."""
    config = with_environment(config, os.environ if env is None else env)
    connection = build_connection(config)
    feeds = {
        feed.name: FeedSetup(
            contract=load_contract(
                contract_of(config, feed), options=feed.contract_options, connection=config.name, vendor=config.vendor
            ),
            wishes=Wishes(feed.target_lag_s, *config.bounds(feed), feed.value),
            handoff=feed.handoff and config.handoff_url is not None,
        )
        for feed in config.feeds
        if feed.enabled
    }
    missing = [name for source in connection.feeds.values() for name in source.yields if name not in feeds]
    if missing:
        raise ConfigurationError(
            f"connection {config.name}: its pages also carry {', '.join(missing)}, which no feed entry describes; "
            "add the feed (or `enabled: true`) to its YAML document"
        )
    for feed in config.feeds:
        if feed.enabled and feed.contract_options.get("hold_for_parent"):
            _refuse_waiting_for_nobody(config.name, feed.name, feeds)
    receiver = Receiver(config.handoff_url, config.handoff_token_env) if config.handoff_url else None
    return Setup(connection, feeds, receiver)


def _refuse_waiting_for_nobody(connection: str, feed: str, feeds: Mapping[str, FeedSetup]) -> None:
    parent = feeds[feed].contract.parent_feed
    if parent is None:
        raise ConfigurationError(
            f"connection {connection}: hold_for_parent does nothing for {feed}, whose records belong to no other; take it out"
        )
    if parent not in feeds:
        raise ConfigurationError(
            f"connection {connection}: with hold_for_parent the records of {feed} wait for those of {parent}, and no enabled "
            f"feed brings them; enable {parent}, or take hold_for_parent out"
        )


def load_configs(defs: Path = DEFS) -> dict[str, ConnectionConfig]:
    """All connections that the YAML documents under `defs` declare, by name."""
    configs: dict[str, ConnectionConfig] = {}
    for path in sorted(found for name in DOCUMENTS for found in defs.rglob(name)):
        for document in _documents(path):
            if isinstance(document, dict) and document.get("type") == COMPONENT:
                where = str(path.relative_to(defs))
                config = ConnectionConfig.parse(document.get("attributes") or {}, where=where)
                if hidden_by := _hidden_by(path, defs):
                    raise ConfigurationError(
                        f"{where}: Dagster does not load connection {config.name}, because it looks for no document beside or "
                        f"below {hidden_by.relative_to(defs)}; move it to a folder of its own directly under {defs.name}/"
                    )
                if config.name in configs:
                    raise ConfigurationError(
                        f"connection {config.name} is declared twice under {defs.name}/, again in {where}; give one of them "
                        "another name"
                    )
                configs[config.name] = config
    return configs


def _hidden_by(path: Path, defs: Path) -> Path | None:
    """The document that Dagster stops at before it comes to `path`. One that only speaks of its folder does not stop it."""
    for folder in path.parents:
        first = next((folder / name for name in DOCUMENTS if (folder / name).exists()), path)
        types = [document.get("type") for document in _documents(first) if isinstance(document, dict)]
        if first != path and types != [FOLDER]:
            return first
        if folder == defs:
            break
    return None


def _documents(path: Path) -> list[Any]:
    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path.name} is not in UTF-8; save it so and reload") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigurationError(f"{path.name}{where} is not valid YAML; correct it and reload") from None


def load_setups(defs: Path = DEFS) -> dict[str, Setup]:
    """All connections, ready for sessions. Raises ConfigurationError where two would each drop the other's limits."""
    setups = {name: build_setup(config) for name, config in load_configs(defs).items()}
    shared: dict[str, tuple[str, QuotaNode]] = {}
    for name, setup in setups.items():
        for node in setup.connection.quota:
            first, other = shared.setdefault(node.scope, (name, node))
            if {replace(window, source="") for window in node.windows} != {
                replace(window, source="") for window in other.windows
            }:
                raise ConfigurationError(
                    f"connections {first} and {name} share the limit of `{node.scope}` and say different things about it; write "
                    "the same limits in both, or, if it is not one limit, another `account` in each"
                )
    return setups


@dataclass(frozen=True, slots=True)
class Runtime:
    """What every operation works with. Made by `open_runtime`."""

    database: Database
    objects: ObjectStore
    landing: Landing
    ledger: Ledger
    quarantine: Quarantine
    secrets: SecretProvider
    clock: Clock
    rng: random.Random
    crash: CrashPlan

    def gateway(self, setup: Setup) -> Gateway:
        from sync_pipeline.gateway.client import Gateway

        return Gateway(setup.connection, database=self.database, secrets=self.secrets, clock=self.clock, rng=self.rng)

    def session(
        self,
        setup: Setup,
        gateway: Gateway,
        options: SessionOptions,
        *,
        progress: Progress | None = None,
        session_id: str | None = None,
    ) -> Session:
        effects = Effects(
            gateway=gateway,
            landing=self.landing,
            ledger=self.ledger,
            objects=self.objects,
            clock=self.clock,
            rng=self.rng,
            crash=self.crash,
        )
        return Session(
            setup,
            effects,
            options,
            progress=progress,
            session_id=session_id,
            left=lambda: _left(gateway.left(), gateway.bears()),
        )

    async def run_session(
        self,
        setup: Setup,
        options: SessionOptions,
        *,
        feeds: Sequence[str] | None = None,
        progress: Progress | None = None,
        session_id: str | None = None,
    ) -> SessionReport:
        calm_collector(imported=True)
        async with self._handing_on(setup) as courier, self.gateway(setup) as gateway:
            session = self.session(setup, gateway, options, progress=progress, session_id=session_id)
            report = await session.run(feeds)
            report = replace(report, asks=gateway.asked, asking_s=gateway.asking_s)
        return report if courier is None else replace(report, handoff_error=courier.error)

    @asynccontextmanager
    async def _handing_on(self, setup: Setup) -> AsyncIterator[Courier | None]:
        """Deliver the outbox while the session runs, and what is left when it ends; None where nobody receives it."""
        if setup.receiver is None:
            yield None
            return
        from sync_pipeline.handoff.courier import Courier
        from sync_pipeline.handoff.receiver import receiver_of

        opened = receiver_of(setup, database=self.database, secrets=self.secrets, now=self.clock.now, crash=self.crash)
        async with opened as handoff, Courier(handoff, setup.connection.name, self.clock) as courier:
            yield courier


def _left(known: tuple[int, float] | None, bears: float | None) -> Left | None:
    return None if known is None else Left(known[0], span_of(known[1]), bears)


@asynccontextmanager
async def open_runtime(
    *,
    url: str | None = None,
    objects: str | Path | None = None,
    secrets: SecretProvider | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    crash: CrashPlan | None = None,
    pool_size: int = 8,
) -> AsyncIterator[Runtime]:
    """Open the store (migrated) and the object store. Defaults come from the environment (`SYNC_…`, DATABASE_URL)."""
    url = url or database_url()
    # Either may take a tenth of a second, and the first is the server's work.
    await asyncio.gather(asyncio.to_thread(migrate, url), asyncio.to_thread(import_module, GATEWAY))
    crash, clock = crash or CrashPlan.from_environment(), clock or SystemClock()
    location = objects or os.environ.get("SYNC_LANDING_URL") or _landing()
    async with Database.open(url, min_size=1, max_size=pool_size, application_name="sync_pipeline") as database:
        ledger = Ledger(database, crash=crash)
        yield Runtime(
            database=database,
            objects=open_objects(location),
            landing=Landing(database, crash=crash, clock=clock),
            ledger=ledger,
            quarantine=Quarantine(database, ledger, crash=crash),
            secrets=secrets or open_secrets(os.environ, now=time.monotonic),
            clock=clock,
            rng=rng or random.Random(),
            crash=crash,
        )


def _landing() -> Path:
    from sync_pipeline.store.embedded import data_dir

    return data_dir() / "landing"
