"""The one clock that drives limits, visibility and changes. It runs with real time and can be moved forward."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta


class SimClock:
    """Seconds since the simulator started, and the UTC instant that belongs to them."""

    def __init__(self, start: datetime | None = None) -> None:
        self.start = (start or datetime.now(UTC)).astimezone(UTC)
        self._monotonic = time.monotonic()
        self._skipped = 0.0
        self._heard: list[float] | None = None
        self._again: deque[float] | None = None

    def seconds(self) -> float:
        if self._again is not None:
            if not self._again:
                raise ValueError("the clock is read more often than the first time")
            return self._again.popleft()
        seconds = time.monotonic() - self._monotonic + self._skipped
        if self._heard is not None:
            self._heard.append(seconds)
        return seconds

    def now(self) -> datetime:
        return self.at(self.seconds())

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        """Jump forward; a clock never goes back."""
        if seconds < 0:
            raise ValueError("the simulator's clock only moves forward")
        self._skipped += seconds

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[float]]:
        """What is read of the clock while the block runs."""
        heard: list[float] = []
        self._heard = heard
        try:
            yield heard
        finally:
            self._heard = None

    @contextlib.contextmanager
    def reading_again(self, readings: Sequence[float]) -> Iterator[None]:
        """The clock says the same again while the block runs, and goes on from there.

        Raises ValueError when it is read more or less often than the first time.
        """
        self._again = deque(readings)
        try:
            yield
            if self._again:
                raise ValueError("the clock is read less often than the first time")
        finally:
            self._again = None
        self.advance(max(0.0, max(readings, default=0.0) - self.seconds()))


def second_z(moment: datetime) -> str:
    """Second resolution with Z, as Eventbrite writes `created` and `changed`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_z(moment: datetime) -> str:
    """Microseconds with Z, left out when they are zero, as Django REST framework does."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
