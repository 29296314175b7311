"""What a session needs to know of one connection: how to ask, what is valid, where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sync_pipeline.kernel.canonical import Contract
from sync_pipeline.kernel.feed import Connection, Feed, FeedId
from sync_pipeline.ledger.checked import Target
from sync_pipeline.sessions.planner import Wishes


@dataclass(frozen=True, slots=True)
class FeedSetup:
    """One feed's contract and targets."""

    contract: Contract
    wishes: Wishes
    handoff: bool = False


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a connection's applied changes are handed on to."""

    url: str
    secret_env: str | None


@dataclass(frozen=True, slots=True)
class Setup:
    connection: Connection
    feeds: Mapping[str, FeedSetup]
    receiver: Receiver | None = None

    def sources(self) -> tuple[str, ...]:
        """Feeds that are asked for; the others come out of their pages."""
        return tuple(self.connection.feeds)

    def source_of(self, feed: str) -> str:
        """The feed whose pages carry `feed`. Raises KeyError for an unknown name."""
        for name, source in self.connection.feeds.items():
            if feed in source.yields:
                return name
        raise KeyError(feed)

    def source(self, feed: str) -> Feed:
        return self.connection.feeds[self.source_of(feed)]

    def targets(self) -> list[Target]:
        return [self.target(feed) for feed in self.feeds]

    def target(self, feed: str) -> Target:
        setup = self.feeds[feed]
        return Target(
            FeedId(self.connection.name, feed),
            setup.contract,
            handoff=setup.handoff,
            handoff_feeds=tuple(name for name, other in self.feeds.items() if other.handoff),
        )
