"""A page that was landed and never applied, and whose object is gone: a resync is the way out, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sync_pipeline.kernel.errors import PermanentError
from sync_pipeline.sessions.reading import derive_again, start_again
from sync_pipeline.sessions.verify import verify_store
from sync_pipeline_tests.integration.pretix_setting import Pretix
from sync_pipeline_tests.integration.simulator_setting import Setting, setting

LAND_ONLY = """update sync.page set status = 'landed', applied_at = null, received = 0, applied = 0, unchanged = 0,
 superseded = 0, held = 0, quarantined = 0 where id >= %s returning 1"""
STATES = "select status, count(*)::int, sum(received)::int from sync.page group by 1 order by 1"


@pytest.fixture
def world() -> Iterator[Setting]:
    with setting(max_commit_lag_s=0, pretix_per_minute=None, pretix_orders=60, eventbrite_orders=0) as running:
        yield running


async def broken(pretix: Pretix, *, deep: bool = False) -> dict[str, int]:
    findings = await verify_store(pretix.runtime.database, pretix.runtime.objects, deep=deep)
    return {finding.name: finding.number for finding in findings if finding.number}


async def again(pretix: Pretix, since: datetime | None) -> int:
    return await start_again(pretix.setup(), pretix.runtime.landing, pretix.runtime.objects, "orders", since=since)


async def test_a_resync_gives_up_what_cannot_be_read_and_lists_it_again(
    world: Setting, pretix: Pretix, tmp_path: Path
) -> None:
    await pretix.synced()
    pages = len(await pretix.rows(LAND_ONLY, 0))
    await pretix.rows("delete from registrations.registration returning 1")
    shutil.rmtree(tmp_path / "pages")
    error = await pretix.refused()
    assert "cannot be read again" in str(error)
    assert "`sync-pipeline resync pretix/orders --from beginning`" in str(error)
    assert await again(pretix, datetime.now(UTC) - timedelta(days=1)) == 0, "its list began earlier"
    await pretix.refused()
    assert await again(pretix, None) == pages
    assert await pretix.rows(STATES) == [("given_up", pages, 0)]
    assert await broken(pretix) == {"pages_given_up": pages}
    await pretix.synced()
    assert await pretix.mismatches() == {}
    assert await broken(pretix, deep=True) == {}
    number, _ = await derive_again(
        pretix.setup(), pretix.runtime.landing, pretix.runtime.ledger, pretix.runtime.objects, "orders"
    )
    assert await pretix.rows("select count(*) from sync.page where status = 'applied' and feed = 'orders'") == [
        (number,)
    ]


async def test_a_page_that_can_be_read_is_applied_after_a_resync_too(world: Setting, pretix: Pretix) -> None:
    await pretix.synced()
    pages = len(await pretix.rows(LAND_ONLY, 0))
    assert await again(pretix, datetime.now(UTC) - timedelta(hours=1)) == 0
    await pretix.synced()
    [(status, number, received)] = await pretix.rows(STATES)
    assert (status, number) == ("applied", pages)
    assert received > 0


async def test_the_sentence_names_the_instant_that_is_early_enough(
    world: Setting, pretix: Pretix, tmp_path: Path
) -> None:
    await pretix.synced()
    [(last,)] = await pretix.rows("select max(id) from sync.page")
    world.post("/mutate", {"vendor": "pretix", "changes": 5})
    await pretix.synced()
    pages = await pretix.rows(LAND_ONLY, last + 1)
    shutil.rmtree(tmp_path / "pages")
    with pytest.raises(PermanentError, match=r"resync pretix/orders --from 20.*Z`") as caught:
        raise await pretix.refused()
    named = str(caught.value).partition("--from ")[2].partition("`")[0]
    assert await again(pretix, datetime.fromisoformat(named)) == len(pages)
    await pretix.synced()
    assert await pretix.mismatches() == {}
    with pytest.raises(PermanentError, match=r"restore the object$"):
        await derive_again(
            pretix.setup(), pretix.runtime.landing, pretix.runtime.ledger, pretix.runtime.objects, "orders"
        )
