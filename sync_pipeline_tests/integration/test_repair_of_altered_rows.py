"""A row that someone wrote to is taken from the vendor again, and whatever comes in between no other row is touched."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from sync_pipeline.handoff.deliver import Handoff
from sync_pipeline.kernel.canonical import Counts
from sync_pipeline.kernel.crash import CrashPlan, CrashPoint
from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.landing.pages import FetchedPage, LandedPage, Landing
from sync_pipeline.ledger.apply import Ledger
from sync_pipeline.ledger.checked import CheckedPage, StoredVersion, Target
from sync_pipeline.ledger.compare import Difference
from sync_pipeline.reconcile import window
from sync_pipeline.reconcile.window import WindowReport, reconcile_days
from sync_pipeline.runtime import Runtime, open_runtime
from sync_pipeline.sessions.session import SessionOptions
from sync_pipeline.sessions.setup import Setup
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.test_reconcile_beside_a_poll import NOON, Box
from sync_pipeline_tests.integration.test_reconcile_beside_a_poll import setup as without_receiver
from sync_pipeline_tests.things import landed_page, rows, target, thing

STORED = "select tier, modified_at, content_hash, page_id from registrations.registration"
ALTERED = "update registrations.registration set tier = 'BY_HAND' returning 1"
LETTERS = "select codes from sync.quarantine where kind = 'dead_letter'"


def setup() -> Setup:
    made = without_receiver()
    return replace(made, feeds={name: replace(one, handoff=True) for name, one in made.feeds.items()})


@dataclass
class Receiver:
    got: list[str] = field(default_factory=list)

    async def hand_on(self, key: str, payload: bytes) -> None:
        self.got.append(key)


@pytest.fixture
async def runtime(database_url: str, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with open_runtime(url=database_url, objects=tmp_path, rng=random.Random(1)) as opened:
        yield opened


async def polled(runtime: Runtime, box: Box) -> None:
    report = await runtime.session(setup(), box, SessionOptions(max_seconds=5, until_horizon=True)).run()
    assert report.feeds["tickets"].error is None


async def delivered(runtime: Runtime) -> int:
    return (await Handoff(runtime.database, Receiver()).deliver("box")).handed


async def reconciled(runtime: Runtime, box: Box, day: date) -> WindowReport:
    return await reconcile_days(
        runtime, setup(), "tickets", box, start=day, end=day + timedelta(days=1), session="reconcile"
    )


async def altered(runtime: Runtime) -> Box:
    """A vendor of whose only record, handed on long ago, someone has changed the row."""
    box = Box({"one": NOON})
    await polled(runtime, box)
    assert await delivered(runtime) == 1
    await rows(runtime.database, ALTERED)
    return box


class Away(Landing):
    async def land_beside(
        self, source: FeedId, pages: Sequence[FetchedPage], *, session: str, began: datetime
    ) -> list[LandedPage]:
        raise TransientError("the store is away")


class Ends(CrashPlan):
    def reach(self, point: CrashPoint) -> None:
        if point is CrashPoint.LEDGER_BEFORE_COMMIT:
            raise TransientError("the connection is lost")


async def test_a_repair_that_fails_leaves_the_row_as_it_was(runtime: Runtime) -> None:
    box = await altered(runtime)
    before = await rows(runtime.database, STORED)
    with pytest.raises(TransientError):
        await reconciled(replace(runtime, landing=Away(runtime.database)), box, NOON.date())
    with pytest.raises(TransientError):
        await reconciled(replace(runtime, ledger=Ledger(runtime.database, crash=Ends())), box, NOON.date())
    assert await rows(runtime.database, STORED) == before
    report = await reconciled(runtime, Box(), NOON.date() - timedelta(days=10))
    assert report.without_effect == 0, "it was handed on, and nothing has replaced it"
    assert (await reconciled(runtime, box, NOON.date())).by_cause == {("altered_in_store", "repaired"): 1}
    assert [tier for tier, *_ in await rows(runtime.database, STORED)] != ["BY_HAND"]
    assert await rows(runtime.database, LETTERS) == []


async def test_a_version_that_comes_before_the_repair_is_not_distrusted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = await altered(runtime)
    compared = window.with_causes

    async def then_polled(
        database: Database, to: Target, differences: Sequence[Difference], pages: Sequence[CheckedPage]
    ) -> list[Difference]:
        found = await compared(database, to, differences, pages)
        box.records["one"] = NOON + timedelta(hours=1)
        await polled(runtime, box)
        assert await delivered(runtime) == 1
        return found

    monkeypatch.setattr(window, "with_causes", then_polled)
    report = await reconciled(runtime, box, NOON.date())
    assert [one.cause for one, _, _ in report.deltas] == ["altered_in_store"]
    assert report.without_effect == 0
    [(tier, modified_at, content_hash, _)] = await rows(runtime.database, STORED)
    assert (tier != "BY_HAND", modified_at) == (True, NOON + timedelta(hours=1))
    assert content_hash
    assert await rows(runtime.database, LETTERS) == []
    box.records["one"] = NOON + timedelta(hours=2)
    await polled(runtime, box)
    assert await delivered(runtime) == 1


THINGS = "select name, modified_at, page_id, content_hash from canon.thing"


async def test_only_the_version_that_was_looked_at_is_replaced_by_equal_content(
    ledger: Ledger, database: Database
) -> None:
    async def shown(when: float, *distrusted: StoredVersion) -> Counts:
        page = await landed_page(database, [thing("a", when=when)])
        return (await ledger.apply(target(), [page], distrusted=distrusted)).counts[0]

    await shown(1)
    [(_, *version)] = await rows(database, THINGS)
    looked_at = StoredVersion("a", *version)
    await rows(database, "update canon.thing set name = 'by hand' returning 1")
    others = [
        replace(looked_at, vendor_id="b"),
        replace(looked_at, page_id=looked_at.page_id + 1),
        replace(looked_at, modified_at=NOON),
        replace(looked_at, content_hash=b""),
    ]
    assert await shown(1, *others) == Counts(1, unchanged=1)
    assert await shown(1, looked_at) == Counts(1, applied=1)
    [(name, *version)] = await rows(database, THINGS)
    assert (name, version[2]) == ("n", looked_at.content_hash)
    await rows(database, "update canon.thing set name = 'by hand' returning 1")
    assert await shown(1, looked_at) == Counts(1, unchanged=1), "it was replaced since"
    assert await shown(0, StoredVersion("a", *version)) == Counts(1, superseded=1), "an older version never comes back"
