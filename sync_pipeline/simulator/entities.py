"""Records with versions that become visible late, and the lists one can see of them at an instant."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Doc = dict[str, Any]

_SNAPSHOTS_KEPT = 24


@dataclass(slots=True, eq=False)
class Version:
    """One state of a record. `doc` is never edited in place; None means that the record is gone."""

    doc: Doc | None
    changed: datetime
    visible_at: float
    raw: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Entity:
    """A record and those of its versions that still matter: the visible one and all that are to come."""

    id: str
    seq: int
    versions: list[Version]
    malformed: str | None = None

    @property
    def latest(self) -> Version:
        return self.versions[-1]

    def visible(self, now: float) -> Version | None:
        for version in reversed(self.versions):
            if version.visible_at <= now:
                return version
        return None


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened at a vendor."""

    seq: int
    at: datetime
    vendor: str
    feed: str
    id: str
    action: str
    visible_at: datetime


Seen = tuple[Entity, Version]


class Feed:
    """All records of one entity. Lists are taken over the currently visible versions and cached until that changes."""

    def __init__(self) -> None:
        self.entities: dict[str, Entity] = {}
        self._pending: list[float] = []
        self._generation = 0
        self._snapshots: OrderedDict[Hashable, tuple[int, list[Seen]]] = OrderedDict()

    def put(self, key: str, doc: Doc | None, changed: datetime, visible_at: float) -> Entity:
        """Add a record, or a new version of it. A version that matures early never hides a newer one."""
        version = Version(doc, changed, visible_at)
        entity = self.entities.get(key)
        if entity is None:
            entity = self.entities[key] = Entity(key, len(self.entities), [version])
        else:
            entity.versions.append(version)
        heapq.heappush(self._pending, visible_at)
        self._generation += 1
        return entity

    def pending(self, now: float) -> int:
        self._settle(now)
        return len(self._pending)

    def get(self, key: str, now: float) -> Seen | None:
        entity = self.entities.get(key)
        version = entity.visible(now) if entity else None
        return (entity, version) if entity and version and version.doc is not None else None

    def snapshot(
        self,
        key: Hashable,
        now: float,
        *,
        keep: Callable[[Entity, Version], bool],
        sort: Callable[[Seen], Any],
    ) -> list[Seen]:
        """Visible records that `keep` wants, sorted. `key` names the (keep, sort) pair for the cache."""
        self._settle(now)
        cached = self._snapshots.get(key)
        if cached and cached[0] == self._generation:
            self._snapshots.move_to_end(key)
            return cached[1]
        rows = [
            (entity, version)
            for entity in self.entities.values()
            if (version := entity.visible(now)) is not None and version.doc is not None and keep(entity, version)
        ]
        rows.sort(key=sort)
        self._snapshots[key] = (self._generation, rows)
        if len(self._snapshots) > _SNAPSHOTS_KEPT:
            self._snapshots.popitem(last=False)
        return rows

    def _settle(self, now: float) -> None:
        matured = False
        while self._pending and self._pending[0] <= now:
            heapq.heappop(self._pending)
            matured = True
        if matured:
            self._generation += 1
