"""When a landed page was shown, by the database's clock: that of a worker decides nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from sync_pipeline.kernel.feed import Cursor
from sync_pipeline.landing.pages import LandedPage, Landing
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.test_landing import FEED, page
from sync_pipeline_tests.things import at, rows


class Wrong:
    """A worker's clock that is months behind."""

    moment = at(0)

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None: ...


async def test_what_a_poll_lands_was_shown_when_it_was_asked_for(database: Database) -> None:
    """Not when it is landed: a repair whose listing began in between has shown what is newer."""
    clock = Wrong()
    landing = Landing(database, clock=clock)
    taken = await Landing(database).acquire(FEED, owner="me", ttl_s=60)
    assert taken is not None
    [(began,)] = await rows(database, "select clock_timestamp()")
    [beside] = await landing.land_beside(FEED, [page("things")], session="r", began=began)

    async def landed(*asked: float, waited: float) -> list[LandedPage]:
        clock.moment = at(waited)
        pages = [replace(page("things"), asked_at=at(seconds)) for seconds in asked]
        return await landing.land(taken[0], pages, Cursor(), session="s")

    before, last = await landed(0, 2, waited=3600)
    assert began - timedelta(hours=1) < before.shown_at == last.shown_at - timedelta(seconds=2)
    assert last.shown_at < began
    assert await rows(database, "select sync.shown_later(%s, %s)", beside.id, last.id) == [(True,)]
    assert [one.shown_at for one in await landing.landed(FEED)] == [began, before.shown_at, last.shown_at]
    [long_ago] = await landed(-7200, waited=0)
    assert long_ago.shown_at == last.shown_at, "it was fetched later than that, whatever the clock said meanwhile"
    [future] = await landed(3600, waited=0)
    assert await rows(database, "select %s between %s and clock_timestamp()", future.shown_at, began) == [(True,)]
    await landing.release(taken[0])
    [(now,)] = await rows(database, "select clock_timestamp()")
    taken = await landing.acquire(FEED, owner="other", ttl_s=60)
    assert taken is not None
    [next_holders] = await landed(-7200, waited=0)
    assert next_holders.shown_at > now, "its lease was not taken before"
