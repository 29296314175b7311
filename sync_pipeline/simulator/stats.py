"""What each vendor counted: requests, answers, refusals by its own limit, and faults it was told to commit."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class VendorStats:
    """Counts since the start or the last reset. `limit_breaches`: requests that came while over the vendor's limit."""

    requests: int = 0
    ok: int = 0
    answers_429: int = 0
    limit_breaches: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    endpoints: dict[str, Counter[str]] = field(default_factory=dict)

    def arrived(self, endpoint: str) -> None:
        self.requests += 1
        self.endpoints.setdefault(endpoint, Counter())["requests"] += 1

    def answered(self, endpoint: str, status: int | None) -> None:
        """None: the connection broke before the answer was whole."""
        self.by_status["broken" if status is None else str(status)] += 1
        if status is None:
            return
        if 200 <= status < 400:
            self.ok += 1
            self.endpoints[endpoint]["ok"] += 1
        if status == 429:
            self.answers_429 += 1
            self.endpoints[endpoint]["answers_429"] += 1

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "ok": self.ok,
            "answers_429": self.answers_429,
            "limit_breaches": self.limit_breaches,
            "faults": dict(self.faults),
            "by_status": dict(self.by_status),
            "endpoints": {name: dict(counts) for name, counts in self.endpoints.items()},
        }
