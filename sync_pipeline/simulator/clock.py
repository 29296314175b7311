"""The one clock that drives limits, visibility and changes. It runs with real time and can be moved forward."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SimClock:
    """Seconds since the simulator started, and the UTC instant that belongs to them."""

    def __init__(self, start: datetime | None = None) -> None:
        self.start = (start or datetime.now(UTC)).astimezone(UTC)
        self._monotonic = time.monotonic()
        self._skipped = 0.0

    def seconds(self) -> float:
        return time.monotonic() - self._monotonic + self._skipped

    def now(self) -> datetime:
        return self.at(self.seconds())

    def at(self, seconds: float) -> datetime:
        return self.start + timedelta(seconds=seconds)

    def advance(self, seconds: float) -> None:
        """Jump forward; a clock never goes back."""
        if seconds < 0:
            raise ValueError("the simulator's clock only moves forward")
        self._skipped += seconds


def second_z(moment: datetime) -> str:
    """Second resolution with Z, as Eventbrite writes `created` and `changed`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_z(moment: datetime) -> str:
    """Microseconds with Z, left out when they are zero, as Django REST framework does."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
