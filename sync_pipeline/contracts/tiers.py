"""Ticket to tier: a versioned mapping that event staff keep in YAML."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
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
        return self.tiers([(event, sku, name)])[0]

    def tiers(self, tickets: Iterable[tuple[str, str, str]]) -> list[Tier]:
        """The same for many tickets: (event, sku, name) of each."""
        by_sku, by_name = self.skus.get, self._by_name.get
        return [
            by_sku(f"{event}/{sku}") or by_sku(sku) or by_name(name) or self._named(name)
            for event, sku, name in tickets
        ]

    def _named(self, name: str) -> Tier:
        if len(self._by_name) >= REMEMBERED:
            self._by_name.clear()
        found = next((tier for pattern, tier in self.names if pattern.search(name)), Tier.UNKNOWN_TIER)
        self._by_name[name] = found
        return found


@cache
def load_tiers(path: Path) -> TierMap:
    """Raises ConfigurationError with one sentence for a file that is missing or wrong."""
    try:
        raw = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"the tier mapping {path.name} cannot be read; correct the feed's `tiers`") from None
    document = _document(path, raw)
    unknown = sorted(set(document) - {"skus", "names"})
    if unknown:
        raise ConfigurationError(f"{path.name} has the unknown key {unknown[0]!r}; known keys are: skus, names")
    return TierMap(
        skus={sku: _tier(path, name) for sku, name in _pairs(path, document, "skus")},
        names=[(_pattern(path, text), _tier(path, name)) for text, name in _pairs(path, document, "names")],
        version=hashlib.sha256(raw).hexdigest()[:8],
    )


NUMBER = re.compile("0|[1-9][0-9]*").fullmatch
"""Keys that mean what is written without quotes, too. `0123` is octal for YAML, `1_0` ten, `1:30` ninety."""


class _Keys(yaml.SafeLoader):
    """Each key is the text that is written, and stands once in its mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in node.value:
            text = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
            line = key.start_mark.line + 1
            if not (key.tag == STR or (key.tag == INT and NUMBER(text))):
                raise _Unfit(f"line {line}: the key {text!r} is no text for YAML; put it in quotes")
            if text in found:
                raise _Unfit(f"line {line}: the key {text!r} stands twice; take one of them out")
            found[text] = self.construct_object(value, deep=True)
        return found


STR, INT = "tag:yaml.org,2002:str", "tag:yaml.org,2002:int"


class _Unfit(Exception):
    """What is wrong with a key, in words."""


def _document(path: Path, raw: bytes) -> Mapping[str, Any]:
    try:
        document = yaml.load(raw, _Keys)  # noqa: S506 (a SafeLoader)
    except _Unfit as unfit:
        raise ConfigurationError(f"the tier mapping {path.name}, {unfit}") from None
    except yaml.YAMLError:
        raise ConfigurationError(f"the tier mapping {path.name} is not valid YAML") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigurationError(f"the tier mapping {path.name} must have the keys skus and names, and nothing else")
    return document


def _pairs(path: Path, document: Mapping[str, Any], part: str) -> Iterable[tuple[str, Any]]:
    found = document.get(part)
    if found is None:
        return ()
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"the tier mapping {path.name}: {part} must have lines like `{EXAMPLES[part]}`, not a list or a single value"
        )
    return found.items()


EXAMPLES = {"skus": "conference/1001: VIP", "names": "'early|advance': EARLY_BIRD"}


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
