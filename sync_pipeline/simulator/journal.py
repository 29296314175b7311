"""What happened at the vendors, in order: the log that the control plane shows."""

from __future__ import annotations

import random
from collections import deque
from datetime import datetime

from sync_pipeline.simulator.clock import SimClock
from sync_pipeline.simulator.entities import Change

_KEPT = 200_000


class Journal:
    """Numbers and keeps every change, and draws how long each one stays unseen."""

    def __init__(self, clock: SimClock) -> None:
        self.clock = clock
        self.changes: deque[Change] = deque(maxlen=_KEPT)
        self._seq = 0

    def note(self, vendor: str, feed: str, key: str, action: str, at: datetime, visible_at: float) -> Change:
        self._seq += 1
        change = Change(self._seq, at, vendor, feed, key, action, self.clock.at(visible_at))
        self.changes.append(change)
        return change


def lag(rng: random.Random, longest: float) -> float:
    """Seconds before a change is seen: usually a second or more, never above the longest."""
    return rng.uniform(min(1.0, longest), longest)
