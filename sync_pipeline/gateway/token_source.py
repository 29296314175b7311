"""Where the gateway gets its credential from: one interface for keys that stand and tokens that end.

Within a process one task refreshes, whoever asks; across processes the store's lock sees to it. The refresh is a task of its
own: a caller that is cancelled does not cut off an exchange that may already have spent the refresh token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sync_pipeline.gateway.exchange import Client, Exchange, Pair, read, request_for
from sync_pipeline.gateway.static_source import Alert, Send
from sync_pipeline.gateway.token_store import Held, TokenStore
from sync_pipeline.gateway.tokens import (
    Decision,
    Lost,
    Minted,
    Outcome,
    Refused,
    TokenState,
    Unspent,
    answered,
    asking,
    decide,
    enrolled,
)
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import AuthenticationError, ConfigurationError, Deferred, SyncError, TransientError
from sync_pipeline.kernel.feed import Request
from sync_pipeline.kernel.grants import Grant
from sync_pipeline.trust.logger import get_logger
from sync_pipeline.trust.secrets import Secret, SecretProvider

LONGEST_WAIT_S = 30.0
"""A longer wait ends the work unit with Deferred: no worker is held for it."""

POLL_S = 0.1
"""Between two looks at a refresh that another process makes."""

FRESH_S = 5.0
"""How long a token is used without a look at the store. Where a refresh ends the old token, each use looks."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What this process holds: as read at `at`, with the jitter drawn for its generation."""

    held: Held
    jitter: float
    at: datetime


class GrantSource:
    """Tokens by exchange, shared by all processes through the store."""

    def __init__(
        self,
        grant: Grant,
        *,
        store: TokenStore,
        exchange: Exchange,
        secrets: SecretProvider,
        clock: Clock,
        random: Callable[[], float],
        alert: Alert | None = None,
        crash: CrashPlan | None = None,
    ) -> None:
        self._grant = grant
        self._store = store
        self._exchange = exchange
        self._secrets = secrets
        self._clock = clock
        self._random = random
        self._alert = alert
        self._crash = crash or CrashPlan()
        self._known: _Known | None = None
        self._refreshing: asyncio.Task[bool] | None = None
        self._alarmed = -1
        self._log = get_logger(__name__).bind(connection=store.credential)

    async def current(self) -> tuple[Secret, int]:
        waited = 0.0
        while True:
            known, decision = await self._look()
            state = known.held.state
            # Who seems to have died in a refresh may be slow, or its clock another: the lock says which.
            dead = decision.kind == "reauthorise" and state.sent_at is not None
            if decision.kind == "refresh" or dead:
                task = self._refresh_task()
                if not decision.usable or self._grant.revokes_old:
                    if not await asyncio.shield(task):
                        waited += await self._pause(self._poll_s(), waited, "another worker refreshes its token")
                    continue
            if decision.alarm:
                self._alarm(state.generation, decision.reason)
            if decision.usable:
                pair = known.held.pair
                assert pair is not None, "a usable generation has a pair"
                return pair.access, state.generation
            if decision.kind == "reauthorise":
                if self._alert is not None:
                    await self._alert(decision.reason)
                raise AuthenticationError(
                    f"{self._store.credential}: {decision.reason}; authorise the connection again"
                )
            if decision.until is not None:
                wait = max(0.01, (decision.until - self._clock.now()).total_seconds())
                if state.sent_at is not None:
                    wait = min(wait, self._poll_s())  # its answer may come at any moment
                waited += await self._pause(wait, waited, decision.reason)

    async def rejected(self, generation: int) -> bool:
        known = self._known
        if known is None or known.held.state.generation <= generation:
            self._known = None
            await self._store.rejected(generation)
            known = self._learn(await self._store.read(), self._clock.now())
        state = known.held.state
        again = decide(state, self._grant, self._clock.now(), known.jitter).kind in ("use", "refresh")
        return again or state.sent_at is not None

    async def enrol(self, pair: Pair, lifetime_s: float | None) -> int:
        """Take a pair that an operator got from the vendor; returns its generation. Ends every "authorise again".

        Raises TransientError when a refresh is under way.
        """
        async with self._store.locked() as lock:
            if lock is None:
                raise TransientError(f"{self._store.credential}: its token is being refreshed; enrol it again")
            before = (await lock.read()).state
            state = enrolled(before, self._grant, lifetime_s, pair.refresh is not None, self._clock.now())
            await lock.keep(state, pair, expected=before.generation)
        self._known = None
        return state.generation

    async def aclose(self) -> None:
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing})

    async def _look(self) -> tuple[_Known, Decision]:
        now = self._clock.now()
        known = self._known
        fresh_s = 0.0 if self._grant.revokes_old else FRESH_S
        if known is not None:
            decision = decide(known.held.state, self._grant, now, known.jitter)
            if decision.kind == "use" and (now - known.at).total_seconds() < fresh_s:
                return known, decision
            try:
                known = self._learn(await self._store.read(), now)
            except TransientError:
                if not decision.usable:
                    raise
                return known, decision  # the store is away: what is in hand is good still
        else:
            known = self._learn(await self._store.read(), now)
        return known, decide(known.held.state, self._grant, now, known.jitter)

    def _learn(self, held: Held, now: datetime) -> _Known:
        """Jitter is drawn once a generation: drawn at each look, its largest value would win every time."""
        known = self._known
        if known is not None and known.held.state.generation > held.state.generation:
            return known
        same = known is not None and known.held.state.generation == held.state.generation
        jitter = known.jitter if known is not None and same else 2 * self._random() - 1
        self._known = _Known(held, jitter, now)
        return self._known

    def _poll_s(self) -> float:
        return POLL_S * (1 + self._random())

    async def _pause(self, seconds: float, waited: float, reason: str) -> float:
        if waited + seconds > LONGEST_WAIT_S:
            until = self._clock.now() + timedelta(seconds=seconds)
            raise Deferred(until, f"{self._store.credential}: {reason}", awaits="token")
        await self._clock.sleep(seconds)
        return seconds

    def _refresh_task(self) -> asyncio.Task[bool]:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
            self._refreshing.add_done_callback(self._noted)
        return self._refreshing

    def _noted(self, task: asyncio.Task[bool]) -> None:
        """Nobody may be waiting for it: an error is not lost, and asyncio does not complain."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.warning("token refresh failed", reason=str(error) if isinstance(error, SyncError) else "a fault")

    async def _refresh(self) -> bool:
        """One exchange, if it is this process's to make. False: another process holds the lock."""
        async with self._store.locked() as lock:
            if lock is None:
                return False
            known = self._learn(await lock.read(), self._clock.now())
            state = known.held.state
            kind = decide(state, self._grant, self._clock.now(), known.jitter).kind
            if kind != "refresh":
                if kind == "reauthorise" and state.sent_at is not None:
                    await lock.write(replace(state, sent_at=None), expected=state.generation)
                    self._known = None
                return True
            self._crash.reach(CrashPoint.REFRESH_LOCKED)
            request = request_for(self._grant, self._client(), known.held.pair, self._clock.now())
            outcome: Outcome = Unspent()
            pair = None
            send = await self._granted(request)
            sent_at = self._clock.now()
            if send is not None:
                # The vendor's grace for a token that may be spent can have ended in that wait.
                if decide(state, self._grant, sent_at, known.jitter).kind != "refresh":
                    return True
                if not await lock.write(asking(state, self._grant, sent_at), expected=state.generation):
                    return True
                self._crash.reach(CrashPoint.REFRESH_ASKED)
                outcome, pair = await self._ask(send, known.held.pair)
                self._crash.reach(CrashPoint.REFRESH_ANSWERED)
            after = answered(state, self._grant, outcome, sent_at, self._clock.now())
            written = await (
                lock.write(after, expected=state.generation)
                if pair is None
                else lock.keep(after, pair, expected=state.generation)
            )
        self._known = None
        if written:
            self._learn(Held(after, pair or known.held.pair), self._clock.now())
            self._tell(after, outcome)
        return True

    async def _granted(self, request: Request) -> Send | None:
        """None: the quota has no call to give. The wait for one may be longer than an exchange may take. So it is over
        before anything is written down: who gives up or dies meanwhile has spent nothing."""
        try:
            return await self._exchange(request)
        except TransientError:
            return None

    async def _ask(self, send: Send, old: Pair | None) -> tuple[Outcome, Pair | None]:
        """The exchange and what came of it. Whatever fails after sending may have spent the refresh token."""
        try:
            async with asyncio.timeout(self._grant.timeout_s):
                reply = await send()
        except TimeoutError:
            return Lost(), None
        except ConfigurationError as error:  # an address that cannot be used: nothing was sent
            self._log.error("token endpoint cannot be asked", reason=str(error))
            return Unspent(), None
        except SyncError as error:
            return (Unspent() if isinstance(error, TransientError) and error.unsent else Lost()), None
        return read(self._grant, reply, old)

    def _client(self) -> Client:
        grant = self._grant
        return Client(
            self._secrets.get(grant.client_id_env) if grant.client_id_env else None,
            self._secrets.get(grant.client_secret_env) if grant.client_secret_env else None,
        )

    def _alarm(self, generation: int, reason: str) -> None:
        """Once a generation and process, and early: the token may be good for a while yet."""
        if generation != self._alarmed:
            self._alarmed = generation
            self._log.error("re-authorise", generation=generation, reason=reason)

    def _tell(self, state: TokenState, outcome: Outcome) -> None:
        match outcome:
            case Minted():
                self._log.info("token refreshed", generation=state.generation)
            case Refused(code):
                self._log.warning("token not refreshed", generation=state.generation, reason=code)
            case _:
                self._log.warning("token not refreshed, asked again later", generation=state.generation)
