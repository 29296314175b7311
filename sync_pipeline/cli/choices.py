"""What some options may be. Apart from the rooms that act on it: `--help` loads none of them."""

from __future__ import annotations

from enum import StrEnum

LONGEST_S = 3650 * 86_400.0
"""For every length of time."""

LAST_PORT = 65_535


class Status(StrEnum):
    OPEN = "open"
    REPLAYED = "replayed"
    DISCARDED = "discarded"
    SUPERSEDED = "superseded"
    ALL = "all"


class Kind(StrEnum):
    QUARANTINE = "quarantine"
    DEAD_LETTER = "dead_letter"
