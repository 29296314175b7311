"""When a page was shown, by the database's clock. Only what one clock says twice is compared: a worker's may be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta


def instants_shown(
    asked: Sequence[datetime], *, now: datetime, database_now: datetime, not_before: datetime
) -> list[datetime]:
    """For pages in the order in which they were fetched: as long before `database_now` as they were `asked` for before `now`,
    both by the worker's clock.

    What a page shows may be as old as that, however late it is landed. None is in the future, none before an earlier page or
    `not_before`, even where the worker's clock was set meanwhile.
    """
    found: list[datetime] = []
    latest = database_now
    for one in reversed(asked):
        latest = min(latest, database_now - max(now - one, timedelta(0)))
        found.append(max(latest, not_before))
    return found[::-1]
