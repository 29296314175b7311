"""What one worker was told last of its windows, and how long that stands: what it keeps to when the store cannot be asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sync_pipeline.gateway.quota import Pace
from sync_pipeline.kernel.clock import Clock

Name = tuple[str, str]
"""Scope and window."""


@dataclass(slots=True)
class _Left:
    calls: int
    told: float


class Known:
    """Instants are those of `monotonic`; lanes are numbers, 0 the first."""

    def __init__(
        self,
        windows: Mapping[Name, Pace],
        *,
        clock: Clock,
        monotonic: Callable[[], float],
        general: Collection[Name] | None = None,
    ) -> None:
        """`general`: those that every call is charged to, whatever its endpoint; None: all."""
        self._windows = windows
        self._general = windows.keys() if general is None else general
        self._clock = clock
        self._monotonic = monotonic
        self._left: dict[Name, _Left] = {}
        self._waits: dict[tuple[str, int], float] = {}
        """Until when a scope has nothing for a lane and those below it."""

    def granted(self, names: Sequence[Name], left: Iterable[int], lane: int) -> None:
        """A lane was given some, and so many are `left` in the windows of these names."""
        now = self._monotonic()
        self._left.update((name, _Left(calls, now)) for name, calls in zip(names, left, strict=True))
        if self._waits:
            for above in range(lane + 1):
                for scope, _ in names:
                    self._waits.pop((scope, above), None)

    def refused(self, scope: str, lane: int, seconds: float) -> None:
        """The scope has nothing for `lane` and those below it for so long."""
        self._waits[scope, lane] = self._monotonic() + seconds

    def said(self, name: Name, calls: int) -> None:
        """The vendor counts so many left."""
        self._left[name] = _Left(calls, self._monotonic())

    def used(self, names: Iterable[Name], calls: int) -> None:
        """So many went without asking."""
        for name in names:
            if name in self._left:
                self._left[name].calls -= calls

    def forget(self) -> None:
        self._left.clear()

    def left(self, name: Name, default: int) -> int:
        return self._left[name].calls if name in self._left else default

    def scarcest(self) -> tuple[int, float] | None:
        """(calls left, seconds) of the window that has the smallest part left."""
        if not self._left:
            return None
        name = min(self._left, key=lambda known: self._left[known].calls / self._windows[known].limit)
        return self._left[name].calls, self._windows[name].seconds

    def bears(self) -> float | None:
        """Calls per second that what is left of the days bears until they are over; None where none is known that lasts. (A day
        of an endpoint's own says nothing of the others, and what was told of yesterday nothing of today.)"""
        now, told = self._clock.now(), self._monotonic()
        lasting = [
            max(0, self._left[name].calls) / max(1.0, self._windows[name].passed_s(now, now))
            for name in list(self._left)
            if self._windows[name].kind == "daily" and name in self._general and self._over_s(name, told) > 0
        ]
        return min(lasting, default=None)

    def spent_s(self, names: Sequence[Name], calls: int, lane: int) -> float:
        """Seconds until these windows may have so many for a lane again, by what was told last."""
        now = self._monotonic()
        waits = [self._waits.get((scope, above), now) - now for scope, _ in names for above in range(lane + 1)]
        return max(0.0, *waits, *(self._over_s(name, now) for name in names if self.left(name, calls) < calls))

    def _over_s(self, name: Name, now: float) -> float:
        """Seconds until all that was counted when it was told has left the window. When it is over nothing is known of it."""
        pace, ago = self._windows[name], now - self._left[name].told
        told = self._clock.now() - timedelta(seconds=ago)
        lasts = pace.seconds + pace.slack if pace.kind == "sliding" else pace.passed_s(told, told)
        if lasts <= ago:
            del self._left[name]
        return lasts - ago
