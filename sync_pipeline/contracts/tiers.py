"""Ticket to tier: a versioned mapping that event staff keep in YAML."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from sync_pipeline.kernel.errors import ConfigurationError

MAPPINGS = Path(__file__).resolve().parents[1] / "defs" / "registrations" / "mappings"


class Tier(StrEnum):
    """What a ticket lets its holder do, whatever the vendor calls it."""

    GENERAL = "GENERAL"
    EARLY_BIRD = "EARLY_BIRD"
    VIP = "VIP"
    STUDENT = "STUDENT"
    GROUP = "GROUP"
    COMPLIMENTARY = "COMPLIMENTARY"
    SPEAKER = "SPEAKER"
    STAFF = "STAFF"
    PRESS = "PRESS"
    ADD_ON = "ADD_ON"
    DONATION = "DONATION"
    NOT_A_TICKET = "NOT_A_TICKET"
    """An order as a whole."""
    UNKNOWN_TIER = "UNKNOWN_TIER"


REMEMBERED = 4096
"""Ticket names whose tier is remembered: events have few, and searching them anew for each ticket is slow."""


@dataclass(frozen=True, slots=True)
class TierMap:
    """By ticket key first (`event/sku` or `sku`), then by name pattern, in the order written."""

    skus: Mapping[str, Tier]
    names: Sequence[tuple[re.Pattern[str], Tier]]
    version: str
    _by_name: dict[str, Tier] = field(default_factory=dict, compare=False, repr=False)

    def tier(self, event: str, sku: str, name: str) -> Tier:
        """The tier, or UNKNOWN_TIER: an unmapped ticket is taken in and shown, never dropped."""
        found = (self.skus.get(f"{event}/{sku}") or self.skus.get(sku)) if self.skus else None
        if found is not None:
            return found
        known = self._by_name.get(name)
        if known is None:
            if len(self._by_name) >= REMEMBERED:
                self._by_name.clear()
            known = next((tier for pattern, tier in self.names if pattern.search(name)), Tier.UNKNOWN_TIER)
            self._by_name[name] = known
        return known


@cache
def load_tiers(path: Path) -> TierMap:
    """Raises ConfigurationError with one sentence for a file that is missing or wrong."""
    try:
        raw = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"the tier mapping {path.name} cannot be read; correct the feed's `tiers`") from None
    try:
        document = yaml.safe_load(raw) or {}
    except yaml.YAMLError:
        raise ConfigurationError(f"the tier mapping {path.name} is not valid YAML") from None
    unknown = sorted(set(document) - {"skus", "names"})
    if unknown:
        raise ConfigurationError(f"{path.name} has the unknown key {unknown[0]!r}; known keys are: skus, names")
    return TierMap(
        skus={str(sku): _tier(path, name) for sku, name in (document.get("skus") or {}).items()},
        names=[(_pattern(path, text), _tier(path, name)) for text, name in (document.get("names") or {}).items()],
        version=hashlib.sha256(raw).hexdigest()[:8],
    )


def tiers_at(name: str | None) -> TierMap:
    """`name`: a file in the mappings folder, or an absolute path; default `tiers.yaml`."""
    return load_tiers(MAPPINGS / (name or "tiers.yaml"))


def _tier(path: Path, name: Any) -> Tier:
    try:
        return Tier(str(name))
    except ValueError:
        raise ConfigurationError(f"{path.name}: {name!r} is no tier; tiers are: {', '.join(Tier)}") from None


def _pattern(path: Path, text: Any) -> re.Pattern[str]:
    try:
        return re.compile(str(text), re.IGNORECASE)
    except re.error:
        raise ConfigurationError(f"{path.name}: {text!r} is not a regular expression") from None
