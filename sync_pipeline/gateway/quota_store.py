"""Grants from Postgres: one statement each, by the database's clock, shared by every worker."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta

from sync_pipeline.gateway.quota import LANES, LEASE_S, Node, Pace, cool_off, lease_size, tree
from sync_pipeline.gateway.quota_known import Known
from sync_pipeline.gateway.quota_word import Word, understood
from sync_pipeline.kernel.clock import Clock
from sync_pipeline.kernel.errors import ConfigurationError, Deferred, TransientError
from sync_pipeline.kernel.feed import Lane, QuotaFeedback, QuotaNode
from sync_pipeline.store.database import Database, text_array
from sync_pipeline.store.sql import queries

SQL = queries(__package__)

LONGEST_WAIT_S = 30.0
"""A longer wait ends the work unit with Deferred: no worker is held for it."""

STORE_PATIENCE_S = 5.0
"""A store that takes longer to answer counts as unreachable."""

LOCAL_SHARE = 16
"""Without the store a worker keeps to a sixteenth of every window."""


@dataclass(frozen=True, slots=True)
class _Path:
    """The nodes that one kind of call is charged to."""

    lane: Lane
    scopes: str
    """As Postgres reads them."""
    windows: tuple[tuple[str, str], ...] = field(compare=False)
    """(scope, window) in the order in which the store answers."""
    paces: tuple[Pace, ...] = field(compare=False)
    lease: int = field(compare=False)
    answer_s: float = field(compare=False)
    """Longest that the store may take to grant such a call: of its windows' slack the rest is for sending it."""


@dataclass(slots=True)
class _Hand:
    """Tokens taken and not used yet: how many, when (database's clock), and until when they are good."""

    tokens: int
    taken_at: datetime
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
        self._paths: dict[tuple[Lane, str | None], _Path] = {}
        self._hands: dict[_Path, _Hand] = {}
        windows = {(node.scope, pace.name): pace for node in self._nodes for pace in node.paces}
        self._windows = dict(sorted(windows.items()))
        self._known = Known(self._windows, clock=clock, monotonic=monotonic)
        self._lock = asyncio.Lock()
        self.asked = 0
        """Times that the store was asked for a grant."""
        self.asking_s = 0.0
        """Seconds that the store took to answer: what grants cost."""
        self._refusals = 0
        self._slow_in_a_row = 0
        self._local_next = 0.0
        self._unbooked = 0
        self._blocked: dict[str, float] = {}
        """Until when (monotonic) the vendor wants no call that is charged to a scope, as this worker was told."""
        self._unwritten: dict[str, float] = {}
        """Those of them that the store does not know yet."""

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
    ) -> float:
        """Wait for a grant of all nodes, to be used at once; returns the seconds waited. `ready` is done each time before one
        is asked for: what a call needs, and what takes longer than a grant is good for.

        Raises Deferred for a wait above 30 s, ConfigurationError for a call that weighs more than a window holds.
        """
        path = self._path(lane, endpoint)
        if ready is None and self._from_hand(path, weight):
            return 0.0
        if too_small := next((pace for pace in path.paces if pace.limit < weight), None):
            raise ConfigurationError(
                f"{self._name}: a call to {endpoint} weighs {weight}, but {too_small.name} lets only {too_small.limit} "
                "through; raise the limit or make the call smaller"
            )
        waited = 0.0
        while True:
            if ready is not None:
                await ready()
            since = self._monotonic()
            async with self._lock:
                if self._from_hand(path, weight):
                    return waited
                asked = self._monotonic()
                try:
                    wait = await self._ask(path, weight, LONGEST_WAIT_S - waited)
                finally:
                    self.asked += 1
                    self.asking_s += self._monotonic() - asked
            if wait is None:
                return waited
            waited += self._monotonic() - since + wait
            await self._clock.sleep(wait)

    def _path(self, lane: Lane, endpoint: str | None) -> _Path:
        path = self._paths.get((lane, endpoint))
        if path is None:
            nodes = self._charged(endpoint)
            paces = tuple(pace for node in nodes for pace in node.paces)
            windows = tuple(sorted((node.scope, pace.name) for node in nodes for pace in node.paces))
            scopes = text_array([node.scope for node in nodes])
            answer_s = max(LEASE_S, min(pace.slack for pace in paces) - 2 * LEASE_S)
            path = _Path(lane, scopes, windows, paces, lease_size(paces), answer_s)
            self._paths[lane, endpoint] = path
        return path

    def _charged(self, endpoint: str | None) -> list[Node]:
        return [node for node in self._nodes if node.endpoint in (None, endpoint)]

    def _from_hand(self, path: _Path, weight: int) -> bool:
        hand = self._hands.get(path)
        if hand is None or hand.tokens < weight or self._monotonic() >= hand.until or self._blocked_s(path):
            return False
        hand.tokens -= weight
        return True

    async def _ask(self, path: _Path, weight: int, patience: float) -> float | None:
        """None when there is a grant, else seconds to wait before asking again."""
        try:
            await self._catch_up()
            await self._return(path)
            if blocked := self._blocked_s(path):
                return self._wait(blocked, patience, self._clock.now(), self._blocked_reason(path.lane))
            asked = self._monotonic()
            answer = await self._grant(path, weight)
        except TransientError:
            return await self._local_share(path, weight, patience)
        slow = self._monotonic() - asked > path.answer_s
        if answer.granted and (slow or self._blocked_s(path)):
            # A grant is for now: one that was this long on its way could be used together with later ones. It goes back, and so
            # does one that a refusal has overtaken.
            self._hands[path] = _Hand(answer.granted, answer.now, asked)
            return self._slow(path, patience) if slow else 0.0
        if answer.granted:
            self._slow_in_a_row = 0
            self._hands[path] = _Hand(answer.granted - weight, answer.now, asked + LEASE_S)
            return None
        if answer.scope is not None:
            # (what the vendor asked for holds for all lanes)
            lane = 0 if answer.window is None else LANES.index(path.lane)
            self._known.refused(answer.scope, lane, answer.wait)
        return self._wait(answer.wait, patience, answer.now, self._reason(answer, path.lane))

    def _wait(self, seconds: float, patience: float, now: datetime, reason: str) -> float:
        if seconds > patience:
            raise Deferred(now + timedelta(seconds=seconds), reason)
        return max(0.002, seconds) * (1 + 0.1 * self._random())

    def _slow(self, path: _Path, patience: float) -> float:
        """Seconds to leave the store alone, which answers too late for its grants to be used."""
        self._slow_in_a_row += 1
        pause = min(STORE_PATIENCE_S, LEASE_S * 2.0 ** min(self._slow_in_a_row, 10)) * (1 + 0.1 * self._random())
        if pause > patience:
            raise Deferred(
                self._clock.now() + timedelta(seconds=LONGEST_WAIT_S),
                f"{self._name}: the quota store is slow (it takes more than {path.answer_s:g} s to answer), so that its grants "
                f"come too late ({path.lane})",
            )
        return pause

    def _blocked_s(self, path: _Path) -> float:
        """Seconds until the vendor wants such a call again, as far as this worker was told."""
        if not self._blocked:
            return 0.0
        return max(0.0, max(self._blocked.get(scope, -math.inf) for scope, _ in path.windows) - self._monotonic())

    def _blocked_reason(self, lane: Lane) -> str:
        return f"{self._name}: the vendor asked to be left alone (an answer 429, or its Retry-After; {lane})"

    def _reason(self, answer: _Answer, lane: Lane) -> str:
        if answer.window is None:
            return self._blocked_reason(lane)
        return f"{self._name}: the vendor's quota ({answer.window} of {answer.scope}) has no call to give ({lane})"

    async def _return(self, path: _Path) -> None:
        hand = self._hands.pop(path, None)
        if hand is None or hand.tokens == 0:
            return
        await self._db.statement(
            SQL.give_back,
            {"scopes": path.scopes, "tokens": hand.tokens, "used_at": hand.taken_at},
            patience_s=STORE_PATIENCE_S,
        )

    async def _grant(self, path: _Path, weight: int) -> _Answer:
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

    async def _local_share(self, path: _Path, weight: int, patience: float) -> float | None:
        """The store cannot be asked: an even trickle of a fixed share, never an open gate, never before the vendor allows it, and
        nothing of a window that was spent when the store answered last. None when the call may go, else seconds to wait before
        asking again."""
        if blocked := self._blocked_s(path):
            return self._wait(blocked, patience, self._clock.now(), self._blocked_reason(path.lane))
        if spent := self._known.spent_s(path.windows, weight, LANES.index(path.lane)):
            reason = f"{self._name}: the quota store cannot be reached and had no call to give when it answered last"
            return self._wait(spent, patience, self._clock.now(), f"{reason} ({path.lane})")
        slowest = max(pace.emission for pace in path.paces) * LOCAL_SHARE * weight
        now = self._monotonic()
        start = max(now + slowest, self._local_next + slowest)
        wait = start - now
        if wait > LONGEST_WAIT_S:
            raise Deferred(
                self._clock.now() + timedelta(seconds=wait),
                f"{self._name}: the quota store cannot be reached and the local share is spent",
            )
        self._local_next = start
        self._unbooked += weight
        self._known.used(path.windows, weight)
        await self._clock.sleep(wait)
        return 0.0 if self._blocked_s(path) else None  # refused meanwhile

    async def _catch_up(self) -> None:
        """What happened while the store was away. What was sent without asking counts, and the burst as spent; and what the
        vendor asked for holds for everybody."""
        if self._unbooked:
            scopes = [node.scope for node in self._nodes]
            await self._db.statement(
                SQL.spend, {"scopes": scopes, "tokens": self._unbooked}, patience_s=STORE_PATIENCE_S
            )
            self._unbooked = 0
        if self._unwritten:
            await self._write_blocks()

    def _block(self, scopes: Sequence[str], seconds: float) -> None:
        """Known here before the store is told: what the vendor said stands, whatever becomes of the store."""
        until = self._monotonic() + seconds
        self._blocked.update({scope: max(until, self._blocked.get(scope, until)) for scope in scopes})

    async def _write_blocks(self) -> None:
        written = dict(self._unwritten)
        async with self._db.transaction(patience_s=STORE_PATIENCE_S) as conn:
            await conn.execute(SQL.lock, {"scopes": list(written)})
            for scope, until in written.items():
                await conn.execute(SQL.block, {"scope": scope, "seconds": until - self._monotonic()})
            await conn.execute(SQL.lower_share, {"scopes": list(written)})
        # (another refusal may have come meanwhile)
        self._unwritten = {scope: until for scope, until in self._unwritten.items() if written.get(scope) != until}

    def left(self) -> tuple[int, float] | None:
        """(calls left, seconds) of the window that has the smallest part left, by the last grant; None before it."""
        return self._known.scarcest()

    def bears(self) -> float | None:
        """Calls per second that what is left of daily windows bears, by the last grant; None without one."""
        return self._known.bears()

    def hold(self, retry_after: timedelta | None, *, endpoint: str | None = None) -> float:
        """A 429, or an answer with Retry-After, was read: this worker keeps to it from now on, and the store is told with the
        next grant at the latest. Awaits nothing, so that no other call goes in between. Returns the seconds."""
        self._hands.clear()
        self._refusals += 1
        seconds = retry_after.total_seconds() if retry_after else cool_off(self._refusals, self._random())
        # Whose limit it was nobody says: the account's or the endpoint's, but hardly that of the host for all its customers.
        scopes = [node.scope for node in self._charged(endpoint) if not node.shared]
        self._block(scopes, seconds)
        self._unwritten.update({scope: self._blocked[scope] for scope in scopes})
        return seconds

    async def publish(self) -> None:
        """What is held here holds for everybody. A store that is away is told before the next grant."""
        if self._unwritten:
            with contextlib.suppress(TransientError):
                await self._write_blocks()

    async def refused(self, retry_after: timedelta | None, *, endpoint: str | None = None) -> float:
        """`hold` and `publish`: nobody asks before the vendor allows it. Returns the seconds."""
        seconds = self.hold(retry_after, endpoint=endpoint)
        await self.publish()
        return seconds

    def may_go(self, granted: float, *, lane: Lane, endpoint: str | None = None) -> bool:
        """May a call still go that was granted at `granted` (monotonic)? A grant is for now: calls that are sent later may
        arrive together with those of later grants. And the vendor may have asked to be left alone since."""
        return self._monotonic() - granted <= LEASE_S and not self._blocked_s(self._path(lane, endpoint))

    def accepted(self) -> None:
        self._refusals = 0

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
            (node, pace) for node in self._charged(endpoint) for pace in node.paces if pace.name == feedback.window
        ]
        if not found:
            return None
        node, pace = found[0]
        known = self._known.left((node.scope, pace.name), pace.limit)
        word = understood(feedback, node.scope, pace, known=known, now=now, sent=sent or now, refused=refused)
        if word is not None and word.remaining <= 0:
            self._block([word.scope], word.reset_s)
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
                self._unwritten[word.scope] = self._blocked[word.scope]
            return
        if heard:
            self._known.said((word.scope, word.window), word.remaining)

    async def told(self, feedback: QuotaFeedback, now: datetime, *, sent: datetime | None = None) -> None:
        """`heed` and `tell`."""
        if (word := self.heed(feedback, now, sent=sent)) is not None:
            await self.tell(word)
