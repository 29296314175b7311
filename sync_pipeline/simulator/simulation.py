"""One running simulation: clock, worlds, faults and counts, and what the control plane may do to them."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from sync_pipeline.simulator import truth
from sync_pipeline.simulator.clock import SimClock
from sync_pipeline.simulator.entities import Change, Doc
from sync_pipeline.simulator.eventbrite_http import EventbriteApi, EventbriteDialect
from sync_pipeline.simulator.eventbrite_records import CLASSES, class_id
from sync_pipeline.simulator.eventbrite_world import EventbriteWorld
from sync_pipeline.simulator.faults import FaultError, FaultPlan
from sync_pipeline.simulator.gate import Gate
from sync_pipeline.simulator.journal import Journal
from sync_pipeline.simulator.limits import Limiter, SlidingWindow
from sync_pipeline.simulator.malformed import FEEDS, choose, kinds_for, mark
from sync_pipeline.simulator.options import SimulatorOptions
from sync_pipeline.simulator.pretix_grants import Grant, Grants
from sync_pipeline.simulator.pretix_http import PretixApi, PretixDialect
from sync_pipeline.simulator.pretix_records import EVENTS, ITEMS, item_id
from sync_pipeline.simulator.pretix_world import PretixWorld
from sync_pipeline.simulator.tape import Tape, taped
from sync_pipeline.simulator.wire import Connections


class MutationError(ValueError):
    """A mutation that names something that is not there."""


class Simulation:
    """All state of a simulator. Single-threaded: everything happens on the server's event loop."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.options = options
        self.tape = Tape(options.journal, options)
        self.clock = SimClock(self.tape.start)
        self.journal = Journal(self.clock)
        self.eventbrite = EventbriteWorld(options, self.clock, self.journal)
        self.pretix = PretixWorld(options, self.clock, self.journal)
        self.faults = FaultPlan(options.seed)
        self.connections: Connections = {}
        self.downstream: Counter[str] = Counter()
        self.downstream_without_key = 0
        self.grants: Grants = {options.pretix_token: Grant()}
        self._rng = random.Random(f"{options.seed}/mutations")
        self.gates = {
            "eventbrite": self._gate(
                EventbriteDialect(options.eventbrite_token, retry_after=options.eventbrite_retry_after),
                [(options.eventbrite_per_hour, 3600.0), (options.eventbrite_per_day, 86_400.0)],
            ),
            "pretix": self._gate(PretixDialect(self.grants), [(options.pretix_per_minute, 60.0)]),
        }
        self.eventbrite_api = EventbriteApi(self.eventbrite, self.clock, self.gates["eventbrite"])
        self.pretix_api = PretixApi(self.pretix, self.clock, self.gates["pretix"], self.grants)
        self.tape.replay(self)

    def _gate(self, dialect: EventbriteDialect | PretixDialect, windows: list[tuple[int | None, float]]) -> Gate:
        limiter = Limiter([SlidingWindow(limit, seconds) for limit, seconds in windows if limit is not None])
        return Gate(dialect, limiter, self.faults, self.clock, self.connections, self.options.latency_s)

    # -- truth -----------------------------------------------------------------------------------------------------

    def truth(self, feed: str) -> Iterator[dict[str, Any]] | None:
        now = self.clock.seconds()
        if feed == "eventbrite/orders":
            return truth.eventbrite_orders(self.eventbrite, now)
        if feed == "eventbrite/attendees":
            return truth.eventbrite_attendees(self.eventbrite, now)
        if feed == "pretix/orders":
            return truth.pretix_orders(self.pretix, now)
        if feed == "pretix/positions":
            return truth.pretix_positions(self.pretix, now)
        return None

    def pending(self) -> int:
        feeds = [self.eventbrite.orders, self.eventbrite.attendees, self.pretix.orders]
        return truth.pending(feeds, self.clock.seconds())

    def catalog(self) -> dict[str, Any]:
        """Events and kinds of tickets, with the tier an organiser would give each; null for the unmapped."""
        return {
            "eventbrite": [
                {"event_id": event, "ticket_class_id": class_id(event, plan), "name": plan.name, "tier": plan.tier}
                for event in self.eventbrite.events
                for plan in CLASSES
            ],
            "pretix": [
                {"event_id": EVENTS[index][0], "item_id": item_id(index, plan), "name": plan.names, "tier": plan.tier}
                for index in range(len(EVENTS))
                for plan in ITEMS
            ],
        }

    # -- changes ---------------------------------------------------------------------------------------------------

    @taped
    def mutate(self, vendor: str | None, changes: int, actions: list[str] | None = None) -> list[Change]:
        """Let things happen now, shared between the vendors when none is named."""
        if vendor not in (None, "eventbrite", "pretix"):
            raise MutationError("unknown vendor")
        share = sum(self._rng.random() < 0.5 for _ in range(changes)) if vendor is None else changes
        try:
            if vendor == "pretix":
                return self.pretix.mutate(changes, actions)
            done = self.eventbrite.mutate(share, actions)
            if vendor is None:
                done += self.pretix.mutate(changes - share, actions)
        except KeyError as problem:
            raise MutationError(str(problem)) from None
        return done

    @taped
    def mutate_one(
        self, vendor: str, key: str, values: dict[str, Any], feed: str | None = None, *, stamped: bool = True
    ) -> Change:
        """Set fields (dotted paths reach into objects) of one record; an empty set only moves its `changed`.

        Not `stamped`: of a pretix order, and its `last_modified` stays.
        """
        edit = _setter(values)
        if vendor == "pretix":
            if key not in self.pretix.orders.entities:
                raise MutationError("no such pretix order; its id is event/code")
            return self.pretix.apply(key, edit, "set" if stamped else "set_unstamped", *self.pretix.moment())
        if vendor != "eventbrite":
            raise MutationError("unknown vendor")
        feed = feed or ("orders" if key in self.eventbrite.orders.entities else "attendees")
        feeds = {"orders": self.eventbrite.orders, "attendees": self.eventbrite.attendees}
        if feed not in feeds or key not in feeds[feed].entities:
            raise MutationError("no such eventbrite record")
        return self.eventbrite.apply(feed, key, edit, "set", *self.eventbrite.moment())

    @taped
    def delete(self, vendor: str, key: str) -> Change:
        """Remove one order for good, as pretix allows for test orders: no list shows that it was there."""
        if vendor != "pretix" or key not in self.pretix.orders.entities:
            raise MutationError("only a pretix order can be deleted; its id is event/code")
        return self.pretix.remove(key)

    @taped
    def grant(self, token: str, visible: list[str] | None, orders: list[str] | None) -> None:
        """Let a pretix token see these events, and view the orders of those (None: all)."""
        for slug in (*(visible or ()), *(orders or ())):
            if slug not in self.pretix.events:
                raise MutationError("no such pretix event")
        self.grants[token] = Grant(
            None if visible is None else frozenset(visible), None if orders is None else frozenset(orders)
        )

    @taped
    def advance(self, seconds: float) -> datetime:
        """Move the clock forward; what it says then. Raises ValueError for a step back."""
        self.clock.advance(seconds)
        return self.clock.now()

    # -- faults ----------------------------------------------------------------------------------------------------

    def configure_faults(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Apply a fault document (see `GET /_sim/faults` for its form). Parts that are left out stay as they are."""
        unknown = set(wish) - {"clear", "seed", "vendor", "rates", "scripts", "slow_s", "retry_after_s", "malformed"}
        if unknown:
            raise FaultError(f"unknown part: {', '.join(sorted(unknown))}")
        if wish.get("clear"):
            self.faults.clear()
            self.mark_malformed({"rate": 0.0}, self.faults.seed)
        self.faults.seed = int(wish.get("seed", self.faults.seed))
        self.faults.slow_s = float(wish.get("slow_s", self.faults.slow_s))
        self.faults.retry_after_s = float(wish.get("retry_after_s", self.faults.retry_after_s))
        rates = dict(wish.get("rates", {}))
        malformed = rates.pop("malformed", None)
        if "rates" in wish:
            self.faults.set_rates(rates, wish.get("vendor"))
        for script in wish.get("scripts", ()):
            self.faults.add_script(script)
        if malformed is not None:
            self.mark_malformed({"rate": malformed}, self.faults.seed)
        if "malformed" in wish:
            self.mark_malformed(wish["malformed"], self.faults.seed)
        return self.faults.as_json()

    @taped
    def mark_malformed(self, wish: dict[str, Any], seed: int) -> None:
        """`{"rate": 0.01, "kinds": [...], "feeds": ["pretix/orders"], "records": {"<feed>": {"<id>": "<kind>"}}}`."""
        rate = float(wish.get("rate", 0.0))
        marked: dict[str, int] = {}
        for feed in wish.get("feeds", FEEDS):
            if feed not in FEEDS:
                raise FaultError(f"unknown feed; known: {', '.join(FEEDS)}")
            suitable = kinds_for(feed)
            kinds = tuple(kind for kind in wish.get("kinds", suitable) if kind in suitable)
            if not kinds:
                raise FaultError(f"no known kind of malformation for {feed}; known: {', '.join(suitable)}")
            marked[feed] = self._mark_feed(feed, rate, seed, kinds, wish.get("records", {}).get(feed, {}))
        self.faults.malformed = {"rate": rate, "marked": marked, "kinds": {feed: kinds_for(feed) for feed in FEEDS}}

    def _mark_feed(self, feed: str, rate: float, seed: int, kinds: tuple[str, ...], records: dict[str, str]) -> int:
        if any(kind not in kinds_for(feed) for kind in records.values()):
            raise FaultError(f"unknown kind of malformation for {feed}")
        if feed == "pretix/positions":
            keys = [row["id"] for row in truth.pretix_positions(self.pretix, self.clock.seconds())]
            chosen = [key for key in keys if choose(seed, feed, key, rate)]
            self.pretix.break_positions({**{key: kinds[i % len(kinds)] for i, key in enumerate(chosen)}, **records})
            return len(self.pretix.malformed_positions)
        world = {
            "eventbrite/orders": self.eventbrite.orders,
            "eventbrite/attendees": self.eventbrite.attendees,
            "pretix/orders": self.pretix.orders,
        }[feed]
        count = mark(list(world.entities.values()), seed=seed, feed=feed, rate=rate, kinds=kinds)
        for key, kind in records.items():
            if key not in world.entities:
                raise FaultError(f"no such record in {feed}")
            world.entities[key].malformed = kind
        return count + len(records)


def _setter(values: dict[str, Any]) -> Callable[[Doc], object]:
    def edit(doc: Doc) -> None:
        for path, value in values.items():
            place: Any = doc
            *parents, last = path.split(".")
            try:
                for name in parents:
                    place = place[int(name)] if isinstance(place, list) else place[name]
                place[int(last) if isinstance(place, list) else last] = copy.deepcopy(value)
            except (KeyError, IndexError, ValueError, TypeError):
                raise MutationError("a path of `set` leads nowhere") from None

    return edit
