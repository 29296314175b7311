"""The gateway: every call to a vendor goes through `send`, in the same order of steps each time.

breaker admits -> place in flight is free -> quota grants -> secret read -> sent -> answer judged -> audited
-> quota and breaker told -> retried?
"""

from __future__ import annotations

import asyncio
import functools
import random
import time
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_after_delay
from tenacity.stop import stop_any

from sync_pipeline.gateway.audit import Audit, Entry
from sync_pipeline.gateway.breaker import credential_scope
from sync_pipeline.gateway.breaker_store import Breakers
from sync_pipeline.gateway.credentials import credentials
from sync_pipeline.gateway.feedback import placed
from sync_pipeline.gateway.feedback_vendors import heard
from sync_pipeline.gateway.http import Http, NotSent
from sync_pipeline.gateway.judgement import asked_for, judged, may_retry, outcome
from sync_pipeline.gateway.latencies import Latencies
from sync_pipeline.gateway.quota_store import LONGEST_WAIT_S, Quota
from sync_pipeline.gateway.quota_word import Word
from sync_pipeline.gateway.static_source import Send, StaticSource, TokenSource
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import AuthenticationError, Deferred, SyncError, TransientError
from sync_pipeline.kernel.feed import Connection, Lane, Reply, Request
from sync_pipeline.store.database import Database
from sync_pipeline.trust.logger import get_logger
from sync_pipeline.trust.secrets import Secret, SecretProvider

ATTEMPTS = 6
TOTAL_S = 180.0
"""For a call and its repeats, an answer that trickles in included."""

LEAST_S = 1.0
"""For an attempt whose wait for a grant took the rest."""


@dataclass(slots=True)
class GatewayStats:
    """What this gateway did. Seconds waited are for grants, not between retries."""

    requests: int = 0
    answers_429: int = 0
    retries: int = 0
    bytes: int = 0
    waited_s: float = 0.0


class Gateway:
    """One connection's gateway, open for as long as the session."""

    def __init__(
        self,
        connection: Connection,
        *,
        database: Database,
        secrets: SecretProvider,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._connection = connection
        self._database = database
        self._settings = "\n".join([connection.base_url, *(connection.scope_of(feed) for feed in connection.feeds)])
        self._form = connection.limits_told or connection.api.vendor
        self._secrets = secrets
        self._tokens: TokenSource | None = None
        self._clock = clock
        self._rng = rng
        self._http = Http(connection, now=clock.now)
        self._quota = Quota(
            connection.name,
            connection.quota,
            database=database,
            clock=clock,
            monotonic=time.monotonic,
            random=rng.random,
        )
        self._breakers = Breakers(
            connection.name, uuid.uuid4().hex, database=database, clock=clock, monotonic=time.monotonic
        )
        self._latencies = Latencies(connection.name, database, clock)
        self._audit = Audit(database)
        self._log = get_logger(__name__).bind(connection=connection.name)
        self._stack = AsyncExitStack()
        self.stats = GatewayStats()

    async def __aenter__(self) -> Gateway:
        # A step that fails ends those before it: nobody calls `__aexit__` then.
        async with AsyncExitStack() as stack:
            await self._quota.open()
            stack.push_async_callback(self._quota.close)
            await self._latencies.open()
            stack.push_async_callback(self._latencies.close)
            self._audit.open()
            stack.push_async_callback(self._audit.close)
            await stack.enter_async_context(self._http)
            self._tokens = await stack.enter_async_context(
                credentials(
                    self._connection,
                    database=self._database,
                    secrets=self._secrets,
                    clock=self._clock,
                    random=self._rng.random,
                    alert=lambda reason: self._breakers.report("", self._credential_of(None), "auth", reason),
                    granted=self._granted,
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def left(self) -> tuple[int, float] | None:
        """(calls left, seconds) of the quota window that has the smallest part left; None before the first call."""
        return self._quota.left()

    @property
    def asked(self) -> int:
        """Times that the store was asked for a grant."""
        return self._quota.asked

    @property
    def asking_s(self) -> float:
        """Seconds that the store took to answer for grants."""
        return self._quota.asking_s

    def bears(self) -> float | None:
        """Calls per second that what is left of daily windows bears until they are over; None without one."""
        return self._quota.bears()

    async def send(self, request: Request, *, feed: str, correlation_id: str, lane: Lane = "P2") -> Reply:
        """Send until there is a good answer, or an error that stands.

        Raises Deferred (quota or breaker: wait longer than 30 s), AuthenticationError, PermanentError, or TransientError
        when attempts or time ran out.
        """
        over = time.monotonic() + TOTAL_S
        attempt_at = functools.partial(
            self._attempt, request, over=over, feed=feed, correlation_id=correlation_id, lane=lane
        )
        try:
            return await attempt_at(1)
        except TransientError as error:
            first = error
        # Nearly every call is done by now, and was spared what counts and times the attempts.
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: may_retry(request, error)),
            stop=stop_any(stop_after_attempt(ATTEMPTS), stop_after_delay(max(0.0, over - time.monotonic()))),
            wait=lambda state: self._pause(request, state),
            sleep=self._clock.sleep,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                number = attempt.retry_state.attempt_number
                if number == 1:
                    raise first
                return await attempt_at(number)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _pause(self, request: Request, state: RetryCallState) -> float:
        """As the endpoint's own latencies are spread. After a refusal the quota itself holds the next attempt until the
        vendor allows it."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, TransientError) and (error.throttled or error.retry_after is not None):
            return 0.0
        return self._latencies.pause(request.endpoint, state.attempt_number, self._rng.random)

    async def _attempt(
        self, request: Request, number: int, *, over: float, feed: str, correlation_id: str, lane: Lane
    ) -> Reply:
        async with self._breakers.admitted(request.endpoint, await self._credential()):
            return await self._admitted(request, number, over, feed=feed, correlation_id=correlation_id, lane=lane)

    async def _admitted(
        self, request: Request, number: int, over: float, *, feed: str, correlation_id: str, lane: Lane
    ) -> Reply:
        waited = 0.0
        again = False
        ready = functools.partial(self._http.connect, request)
        while True:
            granted = await self._quota.acquire(
                request.weight,
                lane=lane,
                endpoint=request.endpoint,
                ready=ready,
                at_once=again,
                place=self._http.places,
                patience_s=LONGEST_WAIT_S - waited,
            )
            waited += granted.waited
            reply: Reply | None = None
            may_go = functools.partial(self._quota.may_go, granted.asked, lane=lane, endpoint=request.endpoint)
            said: list[Word] = []
            try:
                secret, generation = await self._tokens.current() if self._tokens else (None, 0)
                started, at = time.perf_counter(), self._clock.now()
                try:
                    left_s = max(LEAST_S, over - time.monotonic())
                    reply = await self._http.send(request, secret, attempts=number, may_go=may_go, within_s=left_s)
                    error = judged(self._connection, self._form, request, reply)
                    # At once: what waits for this one's place in flight asks before anything else is awaited here.
                    said = self._heed(request, reply, error, granted.asked)
                except NotSent:
                    # A token or a connection had to be made, or the vendor refused meanwhile: the grant is spent, though nobody
                    # used it. Before the next one is taken there is a connection, however long the wait was.
                    again = True
                    waited += time.monotonic() - granted.asked
                    self._give_up(waited, request)
                    continue
                except SyncError as raised:
                    error = raised
            finally:
                self._http.places.release()
            break
        if reply is not None and reply.status == 401 and self._tokens and await self._tokens.rejected(generation):
            error = TransientError(
                f"{self._connection.name} {request.endpoint}: its token is no longer good; it is asked again with another",
                unsent=True,
            )
        self.stats.requests += 1
        self.stats.retries += number > 1
        self.stats.waited_s += waited
        latency = (time.perf_counter() - started) * 1000
        if reply is not None:
            self._latencies.observe(request.endpoint, latency / 1000)
        self._record(
            request,
            reply,
            error,
            at,
            number,
            waited,
            latency,
            feed=feed,
            correlation_id=correlation_id,
            lane=lane,
            generation=None if isinstance(self._tokens, StaticSource | None) else generation,
        )
        await self._learn(request, reply, error, said, self._credential_of(secret))
        if error is not None:
            raise error
        assert reply is not None
        return reply

    def _give_up(self, waited: float, request: Request) -> None:
        """Raises Deferred for a call whose grants were each too old when it could have gone, for as long as one may be waited
        for."""
        if waited > LONGEST_WAIT_S:
            raise Deferred(
                self._clock.now() + timedelta(seconds=LONGEST_WAIT_S),
                f"{self._connection.name} {request.endpoint}: its grants were no longer good when it was to be sent: connections "
                "or tokens take too long to be made",
            )

    async def _granted(self, http: Http, request: Request) -> Send:
        """A token exchange is a call like any other: granted first, audited after. Raises TransientError where the quota has
        none to give."""
        try:
            # (exchanges are so rare that each needs a new connection)
            connect = functools.partial(http.connect, request)
            granted = await self._quota.acquire(request.weight, lane="P0", endpoint=request.endpoint, ready=connect)
        except Deferred as deferred:
            raise TransientError(str(deferred), unsent=True) from None
        may_go = functools.partial(self._quota.may_go, granted.asked, lane="P0", endpoint=request.endpoint)
        return functools.partial(self._exchange, http, request, granted.waited, may_go)

    async def _exchange(self, http: Http, request: Request, waited: float, may_go: Callable[[], bool]) -> Reply:
        started, at = time.perf_counter(), self._clock.now()
        reply: Reply | None = None
        error: SyncError | None = None
        try:
            reply = await http.send(request, None, may_go=may_go)
        except NotSent:
            error = TransientError(
                f"{self._connection.name}: its grant was no longer good when it was to be sent", unsent=True
            )
            raise error from None
        except SyncError as raised:
            error = raised
            raise
        finally:
            latency = (time.perf_counter() - started) * 1000
            self._record(request, reply, error, at, 1, waited, latency, feed="", correlation_id="", lane="P0")
        asked = asked_for(reply)
        if asked is not None and _host(http.url(request)) == _host(self._connection.base_url):
            # At the account's own host it holds for every call; of another host it says nothing. The store is told beside: an
            # exchange that takes too long counts as lost.
            self._quota.hold(asked, endpoint=request.endpoint)
            telling = asyncio.create_task(self._quota.publish())
            self._stack.push_async_callback(_ended, telling)
        return reply

    async def _credential(self) -> str:
        """Its breaker. A token that is exchanged is another every hour; the place it is used in tells it apart."""
        fixed = isinstance(self._tokens, StaticSource)
        secret = (await self._tokens.current())[0] if fixed and self._tokens else None
        return self._credential_of(secret)

    def _credential_of(self, secret: Secret | None) -> str:
        known = secret is not None and isinstance(self._tokens, StaticSource)
        return credential_scope(secret.reveal() if known and secret else None, self._settings)

    def _heed(self, request: Request, reply: Reply, error: SyncError | None, granted: float) -> list[Word]:
        """What the answer says about the quota: in the words that the connection names, else in the vendor's own. This worker
        keeps to it from now on; the store is told later. `granted`: when the call's grant was asked for."""
        words = self._connection.api.feedback(reply) or heard(
            self._form, reply.status, reply.headers, reply.body, reply.received_at
        )
        asked = error.retry_after if isinstance(error, TransientError) else asked_for(reply)
        refused = asked is not None or (isinstance(error, TransientError) and error.throttled)
        charged = (node for node in self._connection.quota if node.endpoint in (None, request.endpoint))
        named = {window.name for node in charged for window in node.windows}
        said = []
        for word in words:
            if word.blocked_until is not None:
                self._quota.hold(word.blocked_until - reply.received_at, asked=granted)
            known = word if word.window in named else placed(word, self._connection.windows)
            if known is not None:
                said.append(
                    self._quota.heed(
                        known, reply.received_at, sent=reply.sent_at, refused=refused, endpoint=request.endpoint
                    )
                )
        if refused:
            self._quota.hold(asked, endpoint=request.endpoint, asked=granted)
        elif error is None:
            self._quota.accepted()
        return [word for word in said if word is not None]

    async def _learn(
        self, request: Request, reply: Reply | None, error: SyncError | None, said: list[Word], credential: str
    ) -> None:
        for word in said:
            await self._quota.tell(word)
        await self._quota.publish()
        if isinstance(error, TransientError) and error.throttled:
            self.stats.answers_429 += 1  # it says that the vendor is well: no breaker hears of it
        elif reply is not None and isinstance(error, TransientError) and error.unsent:
            # Asked again with another token: that this one has ended says nothing of the endpoint, and no more of the credential.
            return
        else:
            # What was refused to a credential is what its breaker says for as long as it is open.
            reason = str(error) if isinstance(error, AuthenticationError) else type(error).__name__
            await self._breakers.report(request.endpoint, credential, outcome(error), reason)

    def _record(
        self,
        request: Request,
        reply: Reply | None,
        error: SyncError | None,
        at: datetime,
        number: int,
        waited: float,
        latency: float,
        *,
        feed: str,
        correlation_id: str,
        lane: Lane,
        generation: int | None = None,
    ) -> None:
        size = None if reply is None else len(reply.body)
        digest = None if reply is None else reply.sha256.hex()[:16]
        self.stats.bytes += size or 0
        self._audit.add(
            Entry(
                at=at,
                correlation_id=correlation_id,
                connection=self._connection.name,
                feed=feed,
                endpoint=request.endpoint,
                method=request.method,
                status=None if reply is None else reply.status,
                error_class=None if error is None else type(error).__name__,
                attempt=number,
                waited_ms=round(waited * 1000, 3),
                latency_ms=round(latency, 3),
                bytes=size,
                payload_hash=digest,
                lane=lane,
                token_generation=generation,
            )
        )
        if error is not None:
            self._log.warning(
                "call failed",
                correlation_id=correlation_id,
                feed=feed,
                endpoint=request.endpoint,
                status_code=None if reply is None else reply.status,
                retry_count=number - 1,
                reason=str(error),
            )


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.gather(task, return_exceptions=True)


def _host(url: str) -> str | None:
    return urlsplit(url).hostname
