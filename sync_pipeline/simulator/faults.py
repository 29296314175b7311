"""Faults on request: drawn at given rates from the seed, or scripted one by one."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import Any

KINDS = (
    "http_429",
    "http_429_seconds",
    "http_429_date",
    "http_401",
    "http_500",
    "http_502",
    "http_503",
    "http_503_seconds",
    "http_504",
    "html",
    "empty_body",
    "reset",
    "reset_mid_body",
    "truncated",
    "slow",
    "duplicates",
    "expansion_failed",
    "bad_continuation",
)
VENDORS = ("eventbrite", "pretix")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to happen to one request. `seconds`: the delay of `slow`, or what `Retry-After` asks for."""

    kind: str
    seconds: float


@dataclass(slots=True)
class Script:
    """`count` faults for requests whose endpoint template matches, after letting `skip` of them pass."""

    kind: str
    count: int = 1
    vendor: str | None = None
    endpoint: str = ""
    skip: int = 0
    seconds: float = 1.0

    def wants(self, vendor: str, endpoint: str) -> bool:
        return self.count > 0 and self.vendor in (None, vendor) and re.search(self.endpoint, endpoint) is not None


class FaultError(ValueError):
    """A fault plan that cannot be followed; the text says which part."""


@dataclass(slots=True)
class FaultPlan:
    """Which faults happen. Scripts come first, in order; then one draw per request against the rates."""

    seed: int
    rates: dict[str, dict[str, float]] = field(default_factory=lambda: {vendor: {} for vendor in VENDORS})
    scripts: list[Script] = field(default_factory=list)
    slow_s: float = 1.0
    retry_after_s: float = 1.0
    malformed: dict[str, Any] = field(default_factory=dict)
    _draws: dict[str, int] = field(default_factory=dict)

    def set_rates(self, rates: dict[str, float], vendor: str | None) -> None:
        """Replace the rates (each 0..1, their sum at most 1) of one vendor, or of all."""
        for kind, rate in rates.items():
            _known(kind)
            if not 0 <= rate <= 1:
                raise FaultError(f"the rate of {kind} must lie in 0..1")
        if sum(rates.values()) > 1:
            raise FaultError("the rates add up to more than 1")
        if vendor not in (None, *VENDORS):
            raise FaultError("unknown vendor")
        for name in VENDORS if vendor is None else (vendor,):
            self.rates[name] = dict(rates)

    def add_script(self, entry: dict[str, Any]) -> None:
        try:
            script = Script(**entry)
            re.compile(script.endpoint)
        except (TypeError, re.error) as problem:
            raise FaultError(
                f"a script needs kind, and may have count, vendor, endpoint, skip, seconds: {problem}"
            ) from None
        _known(script.kind)
        self.scripts.append(script)

    def draw(self, vendor: str, endpoint: str, *, applicable: frozenset[str]) -> Fault | None:
        """The fault for this request, if any. Kinds outside `applicable` cannot happen to it."""
        for script in self.scripts:
            if script.kind in applicable and script.wants(vendor, endpoint):
                if script.skip > 0:
                    script.skip -= 1
                    continue
                script.count -= 1
                return Fault(script.kind, script.seconds)
        self.scripts = [script for script in self.scripts if script.count > 0]
        number = self._draws[vendor] = self._draws.get(vendor, 0) + 1
        roll = random.Random(f"{self.seed}/{vendor}/{number}").random()
        for kind, rate in self.rates[vendor].items():
            if roll < rate:
                if kind not in applicable:
                    return None
                return Fault(kind, self.slow_s if kind == "slow" else self.retry_after_s)
            roll -= rate
        return None

    def clear(self) -> None:
        self.rates = {vendor: {} for vendor in VENDORS}
        self.scripts = []
        self._draws = {}

    def as_json(self) -> dict[str, Any]:
        return {
            "kinds": list(KINDS),
            "seed": self.seed,
            "rates": self.rates,
            "scripts": [
                {name: getattr(script, name) for name in ("kind", "count", "vendor", "endpoint", "skip", "seconds")}
                for script in self.scripts
                if script.count > 0
            ],
            "slow_s": self.slow_s,
            "retry_after_s": self.retry_after_s,
            "malformed": self.malformed,
        }


def _known(kind: str) -> None:
    if kind not in KINDS:
        raise FaultError(f"unknown fault kind; known: {', '.join(KINDS)}")
