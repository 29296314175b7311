"""The vendors' own counting of requests: an independent sliding window, not a bucket."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class SlidingWindow:
    """At most `limit` granted requests in any `seconds`. Refused requests do not count against it."""

    limit: int
    seconds: float
    granted: deque[float] = field(default_factory=deque)

    def wait(self, now: float) -> float:
        """Seconds until a request would be granted; 0 when it would be now."""
        while self.granted and self.granted[0] <= now - self.seconds:
            self.granted.popleft()
        if len(self.granted) < self.limit:
            return 0.0
        if self.limit == 0:
            return self.seconds
        return self.granted[0] + self.seconds - now


@dataclass(slots=True)
class Limiter:
    """Several windows at once: a request is granted only if all grant it."""

    windows: list[SlidingWindow]

    def take(self, now: float) -> tuple[float, int]:
        """(0, -1) and counted when granted; else (seconds to wait, index of the window that refuses longest)."""
        waits = [window.wait(now) for window in self.windows]
        longest = max(waits, default=0.0)
        if longest > 0:
            return longest, waits.index(longest)
        for window in self.windows:
            window.granted.append(now)
        return 0.0, -1
