"""A session: all feeds of one connection polled, many times, for a bounded time or number of calls."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.clock import sleep_unless
from sync_pipeline.kernel.errors import ClientFault, Deferred, Fenced, PermanentError, SyncError, TransientError
from sync_pipeline.kernel.feed import Cursor
from sync_pipeline.landing.owners import this_process
from sync_pipeline.landing.pages import Lease
from sync_pipeline.polling.schedule import Left
from sync_pipeline.sessions.effects import Effects
from sync_pipeline.sessions.planner import Planner, Seen
from sync_pipeline.sessions.reading import recover
from sync_pipeline.sessions.scope import enter_scope
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.sessions.steps import Budget, PollResult
from sync_pipeline.sessions.walk import Walk
from sync_pipeline.trust.logger import get_logger

LEASE_TTL_S = 60.0
"""How long a worker on a lost host is waited for. Renewed three times in that time."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """Bounds of a session. `until_horizon`: stop when every feed has closed one window. `max_calls`: most calls for pages;
    the few that ask what the token may read come before them."""

    max_seconds: float = 300.0
    max_calls: int | None = None
    until_horizon: bool = False
    held_ttl_s: float = 900.0


@dataclass(slots=True)
class FeedReport:
    """What a session did for one source feed and the feeds that come out of its pages."""

    source: str
    polls: int = 0
    requests: int = 0
    pages: int = 0
    windows_closed: int = 0
    released: int = 0
    recovered: dict[str, Counts] = field(default_factory=dict)
    counts: dict[str, Counts] = field(default_factory=dict)
    error: SyncError | None = None
    cursor: Cursor = field(default_factory=Cursor)
    left_to_another: bool = False
    """Another worker held the feed when the session came to it."""

    def add(self, result: PollResult) -> None:
        self.polls += 1
        self.requests += result.requests
        self.pages += result.pages
        self.released += result.released
        self.cursor = result.cursor
        self.windows_closed += not result.cursor.is_open
        for feed, counts in result.counts.items():
            self.counts[feed] = self.counts.get(feed, Counts()) + counts


@dataclass(slots=True)
class SessionReport:
    session: str
    connection: str
    started_at: datetime
    ended_at: datetime
    feeds: dict[str, FeedReport]
    dead_lettered: int = 0
    asks: int = 0
    """Times that the store was asked for grants."""
    asking_s: float = 0.0
    """Seconds that it took to answer."""
    handoff_error: SyncError | None = None
    """What ended the last attempt to hand on; the changes wait. An outage of the receiver is none."""

    def raise_for_fault(self) -> None:
        """Raise the first error that an operator must act on; what waits or may pass by itself is only reported."""
        for error in self.errors():
            if isinstance(error, ClientFault | PermanentError):
                raise error

    def errors(self) -> list[SyncError]:
        """Those of the feeds, then that of handing on."""
        found = [*(report.error for report in self.feeds.values()), self.handoff_error]
        return [error for error in found if error is not None]


Progress = Callable[[str, PollResult], None]


class Session:
    """Runs one session. All effects are passed in."""

    def __init__(
        self,
        setup: Setup,
        effects: Effects,
        options: SessionOptions,
        *,
        progress: Progress | None = None,
        session_id: str | None = None,
        left: Callable[[], Left | None] = lambda: None,
    ) -> None:
        self._setup = setup
        self._effects = effects
        self._landing = effects.landing
        self._clock = effects.clock
        self._options = options
        self._progress = progress
        self._left = left
        self._planner = Planner(
            setup.connection.windows,
            {source: setup.feeds[source].wishes for source in setup.sources()},
        )
        self.id = session_id or uuid.uuid4().hex
        self._log = get_logger(__name__).bind(connection=setup.connection.name, correlation_id=self.id)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End the session after the pages in flight are committed."""
        self._stop.set()

    async def run(self, feeds: Sequence[str] | None = None) -> SessionReport:
        """Poll `feeds` (default all). Errors of one feed do not stop the others; they are in the report.

        InvariantViolation is the exception: it ends the session at once.
        """
        started = self._clock.now()
        deadline = started + timedelta(seconds=self._options.max_seconds)
        sources = self._sources(feeds)
        budget = Budget(self._options.max_calls)
        reports = {source: FeedReport(source) for source in sources}
        polling = [asyncio.create_task(self._run_feed(source, reports[source], budget, deadline)) for source in sources]
        try:
            await asyncio.gather(*polling)
        finally:  # whoever is cut off gives back its lease
            for task in polling:
                task.cancel()
            await asyncio.gather(*polling, return_exceptions=True)
        dead = await self._tidied()
        return SessionReport(
            self.id, self._setup.connection.name, started, self._clock.now(), reports, dead_lettered=dead
        )

    async def _tidied(self) -> int:
        """What is done once a session; returns how many held records were given up. A store that is away hides no report: the
        next session does it."""
        dead = 0
        targets = self._setup.targets()
        try:
            dead = await self._effects.ledger.expire_held(targets, ttl_s=self._options.held_ttl_s)
            for target in targets:
                await self._effects.ledger.note_drift(target)
        except TransientError as error:
            self._log.warning(
                "what was held too long, or was new, is looked for in the next session", reason=str(error)
            )
        return dead

    def _sources(self, feeds: Sequence[str] | None) -> list[str]:
        names = self._setup.sources() if feeds is None else [self._setup.source_of(feed) for feed in feeds]
        return list(dict.fromkeys(names))

    async def _run_feed(self, source: str, report: FeedReport, budget: Budget, deadline: datetime) -> None:
        connection = self._setup.connection
        feed = connection.feed_id(source)
        yields = connection.feeds[source].yields
        lease = None
        try:
            taken = await self._landing.acquire(feed, owner=this_process(self.id), ttl_s=LEASE_TTL_S)
            if taken is None:
                report.left_to_another = True
                self._log.info("feed is held by another worker; left to it", feed=source)
                return
            lease, report.cursor = taken
            async with self._held(lease):
                # (reading pages from a far store may take longer than a lease)
                report.recovered = await recover(self._setup, self._effects, source, fence=lease.fence)
                report.cursor, report.requests = await enter_scope(
                    connection, source, lease, report.cursor, self._effects, session=self.id
                )
                await self._poll_until(source, lease, report, budget, deadline)
        except Deferred as deferred:
            report.error = deferred
            await self._noted(source, self._landing.record_deferral(connection.name, yields, deferred))
            self._log.info(
                "feed is deferred",
                feed=source,
                awaits=deferred.awaits,
                until=deferred.until.isoformat(),
                reason=deferred.reason,
            )
        except Fenced as fenced:
            report.error = fenced
            self._log.warning("feed was taken over by another worker", feed=source)
        except (TransientError, ClientFault, PermanentError) as error:
            report.error = error
            await self._noted(source, self._landing.record_error(connection.name, yields, error))
            self._log.warning("feed stopped", feed=source, error=type(error).__name__, reason=str(error))
        finally:
            if lease is not None and not isinstance(report.error, Fenced):
                await asyncio.shield(asyncio.create_task(self._give_back(lease)))

    async def _noted(self, source: str, note: Awaitable[None]) -> None:
        """Whatever ended the feed is in the report, also where the store cannot be told."""
        try:
            await note
        except SyncError as error:
            self._log.warning("what ended the feed could not be written down", feed=source, reason=str(error))

    async def _give_back(self, lease: Lease) -> None:
        """Whatever ended the feed is not hidden by the store's being away: the lease ends by itself then."""
        try:
            async with asyncio.timeout(lease.ttl_s):
                await self._release(lease)
        except (SyncError, TimeoutError) as error:
            self._log.warning(
                "lease could not be given back; it ends by itself",
                feed=lease.feed.feed,
                reason=str(error) or "the store did not answer in time",
            )

    async def _release(self, lease: Lease) -> None:
        """Tried twice: the first try may be what finds out that its connection is lost."""
        try:
            await self._landing.release(lease)
        except TransientError:
            await self._landing.release(lease)

    @asynccontextmanager
    async def _held(self, lease: Lease) -> AsyncIterator[None]:
        """Renew the lease while the block runs, also through long waits between polls."""

        async def renew() -> None:
            while True:
                await self._clock.sleep(lease.ttl_s / 3)
                with contextlib.suppress(TransientError):
                    await self._landing.renew(lease)

        task = asyncio.create_task(renew())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _poll_until(
        self, source: str, lease: Lease, report: FeedReport, budget: Budget, deadline: datetime
    ) -> None:
        walk = Walk(self._setup, source, self._effects, session=self.id)

        def ended() -> bool:
            return self._stop.is_set() or self._clock.now() >= deadline

        connection = self._setup.connection
        self._planner.recall(source, *await self._landing.recall(connection.feed_id(source)))
        while not self._stop.is_set() and not budget.spent:
            before = report.cursor.watermark
            result = PollResult(report.cursor)
            try:
                await walk.poll(lease, result, budget, ended=ended)
            finally:
                report.add(result)  # what was applied is applied, whatever a later page did
            if self._progress is not None:
                self._progress(source, result)
            # One change of an order shows in each feed that comes out of its pages.
            changes = max(_applied(result), default=0)
            seen = Seen(
                changes=None if before is None or result.cursor.is_open else changes,
                since=before,
                calls=max(1, result.requests - changes // connection.feeds[source].page_size),
                open=result.cursor.is_open,
            )
            plan = self._planner.after(
                source, seen, self._clock.now(), jitter=self._effects.rng.random(), left=self._left()
            )
            due = plan.due
            await self._landing.schedule_next(
                connection.name,
                connection.feeds[source].yields,
                due,
                why=plan.why,
                estimate=plan.estimate,
                calls_a_poll=plan.calls_a_poll,
            )
            if self._options.until_horizon and not result.cursor.is_open:
                return
            if due >= deadline:
                return
            await sleep_unless(self._stop, self._clock, (due - self._clock.now()).total_seconds())


def _applied(result: PollResult) -> list[int]:
    return [counts.applied for counts in result.counts.values()]
