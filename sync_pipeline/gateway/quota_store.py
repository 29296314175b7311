"""Grants from Postgres: one statement each, by the database's clock, shared by every worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sync_pipeline.gateway.quota import LANES, LEASE_S, tree
from sync_pipeline.gateway.quota_blocks import Blocks
from sync_pipeline.gateway.quota_known import Known
from sync_pipeline.gateway.quota_local import LocalShare
from sync_pipeline.gateway.quota_path import Path, Paths
from sync_pipeline.gateway.quota_turn import Granted, Held, Turn
from sync_pipeline.gateway.quota_word import Word, understood
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import ConfigurationError, Deferred, TransientError
from sync_pipeline.kernel.feed import Lane, QuotaFeedback, QuotaNode
from sync_pipeline.store.database import Database
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

LONGEST_WAIT_S = 30.0
"""A longer wait ends the work unit with Deferred: no worker is held for it."""

IDLE_S = 1.0
"""After a wait that long what a call needs may be gone: vendors close connections that are not used."""

STORE_PATIENCE_S = 5.0
"""A store that takes longer to answer counts as unreachable."""


@dataclass(slots=True)
class _Hand:
    """Tokens taken and not used yet: how many, when (database's clock), when they were asked for (monotonic), and until when
    they may be taken."""

    tokens: int
    taken_at: datetime
    asked: float
    until: float


@dataclass(frozen=True, slots=True)
class _Answer:
    granted: int
    wait: float
    scope: str | None
    window: str | None
    now: datetime
    held: Sequence[int]


class Quota:
    """The quota tree of one connection, as one worker uses it."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[QuotaNode],
        *,
        database: Database,
        clock: Clock,
        monotonic: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._name = name
        self._nodes = tree(name, nodes)
        self._db = database
        self._clock = clock
        self._monotonic = monotonic
        self._random = random
        self._paths = Paths(self._nodes)
        self._hands: dict[Path, _Hand] = {}
        windows = {(node.scope, pace.name): pace for node in self._nodes for pace in node.paces}
        self._windows = dict(sorted(windows.items()))
        general = {(node.scope, pace.name) for node in self._nodes if node.endpoint is None for pace in node.paces}
        self._known = Known(self._windows, general=general, clock=clock, monotonic=monotonic)
        self._blocks = Blocks(monotonic=monotonic, random=random)
        self._local = LocalShare()
        self._lock = asyncio.Lock()
        self.asked = 0
        """Times that the store was asked for a grant."""
        self.asking_s = 0.0
        """Seconds that the store took to answer: what grants cost."""
        self._slow_in_a_row = 0

    async def open(self) -> None:
        async with self._db.transaction() as conn:
            await conn.execute(SQL.lock, {"scopes": [node.scope for node in self._nodes]})
            for (scope, _), pace in self._windows.items():
                await conn.execute(SQL.ensure_window, {"scope": scope, **asdict(pace)})
            for node in self._nodes:
                names = [pace.name for pace in node.paces]
                await conn.execute(SQL.drop_other_windows, {"scope": node.scope, "names": names})

    async def close(self) -> None:
        """Give back the tokens in hand, and book what the store does not know."""
        with contextlib.suppress(TransientError):  # still away: there is nobody to tell
            await self._catch_up()
            for path in list(self._hands):
                await self._return(path)

    async def acquire(
        self,
        weight: int = 1,
        *,
        lane: Lane = "P2",
        endpoint: str | None = None,
        ready: Callable[[], Awaitable[None]] | None = None,
        at_once: bool = True,
        place: asyncio.Semaphore | None = None,
        patience_s: float = LONGEST_WAIT_S,
    ) -> Granted:
        """Wait for a grant of all nodes, to be used at once. `ready` is done each time before one is asked for: what a call
        needs, and what takes longer than a grant is good for; not `at_once`: only after a wait. `place`: one of these is had
        before a grant is asked for, which would grow too old in the queue for it, and is the caller's when this returns; while
        the grant has to wait others have it.

        Raises Deferred for a wait above `patience_s`, ConfigurationError for a call that weighs more than a window holds.
        """
        path = self._paths.of(lane, endpoint)
        if too_small := next((pace for pace in path.paces if pace.limit < weight), None):
            raise ConfigurationError(
                f"{self._name}: a call to {endpoint} weighs {weight}, but {too_small.name} lets only {too_small.limit} "
                "through; raise the limit or make the call smaller"
            )
        waited, reserved = 0.0, None
        while True:
            async with Held(place) as held:
                since = self._monotonic()
                if ready is not None and (at_once or waited >= IDLE_S):
                    await ready()
                    waited += self._monotonic() - since
                    since = self._monotonic()
                turn = self._reserved(path, weight, reserved) or await self._turn(path, weight, patience_s - waited)
                if turn.wait is None:
                    assert turn.asked is not None
                    held.kept = True
                    return Granted(turn.asked, waited)
            waited += self._monotonic() - since + turn.wait
            await self._clock.sleep(turn.wait)
            reserved = turn.asked

    def _reserved(self, path: Path, weight: int, asked: float | None) -> Turn | None:
        """The local share's turn that was waited for, unless the vendor has refused meanwhile or it came too late."""
        if asked is None or not self._good(path, asked):
            return None
        self._local.went(weight)
        return Turn(asked)

    async def _turn(self, path: Path, weight: int, patience: float) -> Turn:
        if (asked := self._from_hand(path, weight)) is not None:
            return Turn(asked)
        since = self._monotonic()
        await self._queue(patience)
        try:
            if (asked := self._from_hand(path, weight)) is not None:
                return Turn(asked)
            begun = self._monotonic()
            try:
                return await self._ask(path, weight, patience - (begun - since))
            finally:
                self.asked += 1
                self.asking_s += self._monotonic() - begun
        finally:
            self._lock.release()

    async def _queue(self, patience: float) -> None:
        """One asks at a time. Each of those before may wait for a store that does not answer."""
        try:
            async with asyncio.timeout(max(STORE_PATIENCE_S, patience)):
                await self._lock.acquire()
        except TimeoutError:
            raise Deferred(
                self._clock.now() + timedelta(seconds=LONGEST_WAIT_S),
                f"{self._name}: the quota store is slow: calls before this one wait for it",
            ) from None

    def _from_hand(self, path: Path, weight: int) -> float | None:
        """When the token was asked for; None without one."""
        hand = self._hands.get(path)
        if hand is None or hand.tokens < weight or self._monotonic() >= hand.until or self._blocked_s(path):
            return None
        hand.tokens -= weight
        return hand.asked

    async def _ask(self, path: Path, weight: int, patience: float) -> Turn:
        begun = self._monotonic()
        try:
            await self._catch_up()
            await self._return(path)
            if blocked := self._blocked_s(path):
                return self._wait(blocked, patience, self._clock.now(), self._blocked_reason(path.lane))
            asked = self._monotonic()
            answer = await self._grant(path, weight)
        except TransientError:
            return self._local_turn(path, weight, patience - (self._monotonic() - begun))
        slow = self._monotonic() - asked > path.ages.answer_s
        if answer.granted and (slow or self._blocked_s(path)):
            # A grant is for now: one that was this long on its way could be used together with later ones. It goes back, and so
            # does one that a refusal has overtaken.
            self._hands[path] = _Hand(answer.granted, answer.now, asked, asked)
            return self._slow(path, patience) if slow else Turn(wait=0.0)
        if answer.granted:
            self._slow_in_a_row = 0
            self._hands[path] = _Hand(answer.granted - weight, answer.now, asked, asked + path.ages.hand_s)
            return Turn(asked)
        if answer.scope is not None:
            # (what the vendor asked for holds for all lanes)
            lane = 0 if answer.window is None else LANES.index(path.lane)
            self._known.refused(answer.scope, lane, answer.wait)
        return self._wait(answer.wait, patience, answer.now, self._reason(answer, path.lane))

    def _wait(self, seconds: float, patience: float, now: datetime, reason: str) -> Turn:
        if seconds > patience:
            raise Deferred(now + timedelta(seconds=seconds), reason)
        return Turn(wait=max(0.002, seconds) * (1 + 0.1 * self._random()))

    def _slow(self, path: Path, patience: float) -> Turn:
        """The store is left alone for a while, which answers too late for its grants to be used."""
        self._slow_in_a_row += 1
        pause = min(STORE_PATIENCE_S, LEASE_S * 2.0 ** min(self._slow_in_a_row, 10)) * (1 + 0.1 * self._random())
        if pause > patience:
            raise Deferred(
                self._clock.now() + timedelta(seconds=LONGEST_WAIT_S),
                f"{self._name}: the quota store is slow (it takes more than {path.ages.answer_s:g} s to answer), so that its "
                f"grants come too late ({path.lane})",
            )
        return Turn(wait=pause)

    def _blocked_s(self, path: Path) -> float:
        """Seconds until the vendor wants such a call again, as far as this worker was told."""
        return self._blocks.seconds(scope for scope, _ in path.windows)

    def _blocked_reason(self, lane: Lane) -> str:
        return f"{self._name}: the vendor asked to be left alone (an answer 429, or its Retry-After; {lane})"

    def _reason(self, answer: _Answer, lane: Lane) -> str:
        if answer.window is None:
            return self._blocked_reason(lane)
        return f"{self._name}: the vendor's quota ({answer.window} of {answer.scope}) has no call to give ({lane})"

    async def _return(self, path: Path) -> None:
        hand = self._hands.pop(path, None)
        if hand is None or hand.tokens == 0:
            return
        await self._db.statement(
            SQL.give_back,
            {"scopes": path.scopes, "tokens": hand.tokens, "used_at": hand.taken_at},
            patience_s=STORE_PATIENCE_S,
        )

    async def _grant(self, path: Path, weight: int) -> _Answer:
        found = await self._db.statement(
            SQL.grant,
            {
                "scopes": path.scopes,
                "lane": LANES.index(path.lane),
                "least": weight,
                "most": max(weight, path.lease),
            },
            patience_s=STORE_PATIENCE_S,
        )
        if not found:
            raise TransientError(f"{self._name}: its quota rows are gone; the session makes them anew when it starts")
        answer = _Answer(*found[0])
        if answer.granted and len(answer.held) == len(path.windows):
            left = (held - answer.granted for held in answer.held)
            self._known.granted(path.windows, left, LANES.index(path.lane))
        elif answer.granted:
            # Another session has given the node more or fewer windows since. All of them granted; which is which is not known.
            self._known.forget()
        return answer

    def _local_turn(self, path: Path, weight: int, patience: float) -> Turn:
        """The store cannot be asked: the next instant of the local share is this call's, never before the vendor allows it, and
        nothing of a window that was spent when the store answered last. Nobody is kept from asking while it is waited for."""
        if blocked := self._blocked_s(path):
            return self._wait(blocked, patience, self._clock.now(), self._blocked_reason(path.lane))
        if spent := self._known.spent_s(path.windows, weight, LANES.index(path.lane)):
            reason = f"{self._name}: the quota store cannot be reached and had no call to give when it answered last"
            return self._wait(spent, patience, self._clock.now(), f"{reason} ({path.lane})")
        now = self._monotonic()
        turn = self._local.next(path.paces, weight, now)
        if turn - now > patience:
            raise Deferred(
                self._clock.now() + timedelta(seconds=turn - now),
                f"{self._name}: the quota store cannot be reached and the local share is spent",
            )
        self._local.take(turn)
        self._known.used(path.windows, weight)
        return Turn(turn, wait=turn - now)

    async def _catch_up(self) -> None:
        """What happened while the store was away."""
        scopes = [node.scope for node in self._nodes]
        await self._local.book(self._db, scopes, patience_s=STORE_PATIENCE_S)
        await self._blocks.write(self._db, patience_s=STORE_PATIENCE_S)

    def left(self) -> tuple[int, float] | None:
        """(calls left, seconds) of the window that has the smallest part left, by the last grant; None before it."""
        return self._known.scarcest()

    def bears(self) -> float | None:
        """Calls per second that what is left of daily windows bears, by the last grant; None without one."""
        return self._known.bears()

    def hold(self, retry_after: timedelta | None, *, endpoint: str | None = None, asked: float | None = None) -> float:
        """A 429, or an answer with Retry-After, was read: this worker keeps to it from now on, and the store is told with the
        next grant at the latest. `asked`: of the grant (Granted) that the refused call went by; without it the refusal counts as
        one more. Awaits nothing, so that no other call goes in between. Returns the seconds."""
        self._hands.clear()
        seconds = self._blocks.refusal(None if retry_after is None else retry_after.total_seconds(), asked=asked)
        # Whose limit it was nobody says: the account's or the endpoint's, but hardly that of the host for all its customers.
        scopes = self._paths.own(endpoint)
        self._blocks.block(scopes, seconds)
        self._blocks.owe(scopes)
        return seconds

    async def publish(self) -> None:
        """What is held here holds for everybody. A store that is away is told before the next grant."""
        with contextlib.suppress(TransientError):
            await self._blocks.write(self._db, patience_s=STORE_PATIENCE_S)

    async def refused(self, retry_after: timedelta | None, *, endpoint: str | None = None) -> float:
        """`hold` and `publish`: nobody asks before the vendor allows it. Returns the seconds."""
        seconds = self.hold(retry_after, endpoint=endpoint)
        await self.publish()
        return seconds

    def may_go(self, asked: float, *, lane: Lane, endpoint: str | None = None) -> bool:
        """May a call still go whose grant was asked for at `asked` (Granted)? A grant is for now: calls that are sent later may
        arrive together with those of later grants. And the vendor may have asked to be left alone since."""
        return self._good(self._paths.of(lane, endpoint), asked)

    def _good(self, path: Path, asked: float) -> bool:
        return self._monotonic() - asked <= path.ages.sent_s and not self._blocked_s(path)

    def accepted(self) -> None:
        self._blocks.accepted()

    def heed(
        self,
        feedback: QuotaFeedback,
        now: datetime,
        *,
        sent: datetime | None = None,
        refused: bool = False,
        endpoint: str | None = None,
    ) -> Word | None:
        """The vendor's word on a window (`quota_word.understood`), as the answer to a call to `endpoint` says it. Awaits nothing;
        `tell` brings what it returns to the store."""
        found = [
            (node, pace)
            for node in self._paths.charged(endpoint)
            for pace in node.paces
            if pace.name == feedback.window
        ]
        if not found:
            return None
        node, pace = found[0]
        known = self._known.left((node.scope, pace.name), pace.limit)
        word = understood(feedback, node.scope, pace, known=known, now=now, sent=sent or now, refused=refused)
        if word is not None and word.remaining <= 0:
            if node.shared:
                # It was said to this account. Whether all of the host's customers are counted together nobody says.
                scopes = self._paths.own(endpoint)
                self._blocks.block(scopes, word.reset_s)
                self._blocks.owe(scopes, refused=False)
                return None
            self._blocks.block([word.scope], word.reset_s)
        return word

    async def tell(self, word: Word) -> None:
        try:
            heard = await self._db.statement(
                SQL.told,
                {
                    "scopes": [word.scope],
                    "name": word.window,
                    "remaining": max(0, word.remaining),
                    "reset_s": word.reset_s,
                    "leave_s": word.leave_s,
                    "age_s": (self._clock.now() - word.sent).total_seconds(),
                },
                patience_s=STORE_PATIENCE_S,
            )
        except TransientError:
            # The caller is to see the vendor's answer, which may be a refusal. How many are left the next one says again.
            if word.remaining <= 0:
                self._blocks.owe([word.scope])
            return
        if heard:
            self._known.said((word.scope, word.window), word.remaining)

    async def told(self, feedback: QuotaFeedback, now: datetime, *, sent: datetime | None = None) -> None:
        """`heed` and `tell`."""
        if (word := self.heed(feedback, now, sent=sent)) is not None:
            await self.tell(word)
