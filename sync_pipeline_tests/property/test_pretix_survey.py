"""What a pretix token may read, asked of an organizer in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sync_pipeline.kernel.errors import AuthenticationError
from sync_pipeline.kernel.feed import Answer, Reply, Request, Surveyed
from sync_pipeline.vendors.pretix import PretixApi, PretixOrders
from sync_pipeline.vendors.pretix_access import ASKED_AT_ONCE

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FEED, API = PretixOrders("acme"), PretixApi(organizer="acme")


@dataclass
class Team:
    """Events that the token sees, and of which of them it may view the orders: their oldest stamp, None without orders."""

    sees: set[str]
    reads: dict[str, datetime | None] = field(default_factory=dict)
    asked: int = 0

    def answer(self, request: Request) -> Reply:
        self.asked += 1
        asked = dict(request.params)
        if request.path.endswith("/events/"):
            start, slugs = (int(asked["page"]) - 1) * 50, sorted(self.sees)
            results = [{"slug": slug} for slug in slugs[start : start + 50]]
            return _reply({"next": "more" if start + 50 < len(slugs) else None, "results": results})
        slug = request.path.split("/")[4]
        if slug not in self.sees or slug not in self.reads:
            return _reply({"detail": "You do not have permission to perform this action."}, 403)
        at = self.reads[slug]
        return _reply({"next": None, "results": [] if at is None else [{"last_modified": at.isoformat()}]})

    def survey(self, known: str | None, settled: datetime | None = None, minute: int = 0) -> Surveyed:
        answers: list[Answer] = []
        while True:
            step = FEED.survey(known, settled, NOW + timedelta(minutes=minute), answers)
            if isinstance(step, Surveyed):
                return step
            reply = self.answer(step)
            error = API.classify(step, reply)
            if error is not None:
                raise error
            answers.append((step, reply))


def _reply(body: object, status: int = 200) -> Reply:
    return Reply(status, {}, orjson.dumps(body), NOW, NOW)


slugs = st.integers(0, 60).map(lambda number: f"e{number}")


@settings(max_examples=40, deadline=None)
@given(st.sets(slugs, max_size=61), st.sets(slugs), st.none() | st.sets(slugs))
@example({f"e{n}" for n in range(61)}, {f"e{n}" for n in range(0, 61, 2)}, None)
@example({f"e{n}" for n in range(50)}, {"e49"}, set())
def test_what_is_readable_is_found_in_time(sees: set[str], reads: set[str], before: set[str] | None) -> None:
    team = Team(sees, dict.fromkeys(reads))
    known = None if before is None else ",".join(sorted(before))
    readable = sees & reads
    if not sees or (not readable and (before is None or len(sees) <= ASKED_AT_ONCE)):
        with pytest.raises(AuthenticationError):
            team.survey(known)
        return
    # Sessions four minutes apart: each event is among the 25 of 61 with 0.41, so forty sessions miss one once in 10^9.
    for minute in range(0, 160, 4) if len(sees) > ASKED_AT_ONCE else (0,):
        team.asked = 0
        known = team.survey(known, minute=minute).seen
        if minute:
            assert team.asked <= ASKED_AT_ONCE + 2
    assert known is not None
    found = set(known.split(","))
    assert {name.lstrip("!") for name in found} == sees
    assert {name for name in found if not name.startswith("!")} == readable


@given(
    age=st.none() | st.integers(-100_000, 100_000),
    settled=st.none() | st.integers(-1000, 1000),
    known=st.sampled_from([None, "old", "new,old"]),
)
def test_only_history_before_the_watermark_restarts(age: int | None, settled: int | None, known: str | None) -> None:
    team = Team({"old", "new"}, {"old": NOW, "new": None if age is None else NOW + timedelta(seconds=age)})
    found = team.survey(known, None if settled is None else NOW + timedelta(seconds=settled))
    late = age is not None and settled is not None and age < settled - FEED.overlap.total_seconds()
    assert (found.restart is not None) == (late and known == "old")
    assert found.seen == "new,old"


def test_events_in_the_settings_ask_nothing() -> None:
    assert PretixOrders("acme", ("conf",)).survey(None, None, NOW, []) == Surveyed("")
