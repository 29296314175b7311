"""Before a feed is polled: do its lists still cover what they covered when its watermark was set?"""

from __future__ import annotations

from datetime import datetime

from sync_pipeline.kernel.errors import TransientError
from sync_pipeline.kernel.feed import Answer, Connection, Cursor, Request, Surveyed, Surveyor
from sync_pipeline.landing.pages import Lease
from sync_pipeline.sessions.effects import Effects
from sync_pipeline.sessions.walk import READ_ATTEMPTS
from sync_pipeline.trust.logger import get_logger

LOG = get_logger(__name__)

OTHER_SETTINGS = "its base_url, account, events or path are no longer those that its watermark stands for"


async def enter_scope(
    connection: Connection,
    source: str,
    lease: Lease,
    cursor: Cursor,
    effects: Effects,
    *,
    session: str,
) -> tuple[Cursor, int]:
    """(the cursor to go on from, requests made). Under another scope the feed starts from the beginning, and says so.

    A cursor that has no scope yet takes the present one. Raises what the gateway raises, and AuthenticationError when the
    token may read nothing; then nothing is moved.
    """
    feed = connection.feeds[source]
    kept = await effects.landing.scope(lease.feed)
    here = connection.scope_of(source)
    before, _, seen = (kept or "").partition(" ")
    same = before == here
    reason = OTHER_SETTINGS if kept and not same else None
    requests = 0
    if isinstance(feed, Surveyor):
        settled = cursor.opened_at if cursor.is_open else cursor.watermark
        found, requests = await _survey(feed, seen if same else None, settled, effects, source=source, session=session)
        here, reason = f"{here} {found.seen}".rstrip(), reason or found.restart
    if reason is not None:
        LOG.warning(
            "feed starts from the beginning",
            connection=connection.name,
            feed=source,
            correlation_id=session,
            reason=reason,
        )
        cursor = Cursor()
    if here != kept:
        await effects.landing.enter_scope(lease, here, restart=reason, followers=feed.yields[1:])
    return cursor, requests


async def _survey(
    feed: Surveyor,
    known: str | None,
    settled: datetime | None,
    effects: Effects,
    *,
    source: str,
    session: str,
) -> tuple[Surveyed, int]:
    """Ask until the survey is done. An answer that is not this endpoint's (cut off, an HTML page) is asked for again."""
    now = effects.clock.now()
    answers: list[Answer] = []
    requests = failures = 0
    while True:
        try:
            step = feed.survey(known, settled, now, answers)
        except TransientError:
            failures += 1
            if failures == READ_ATTEMPTS:
                raise
            request, _ = answers.pop()
            await effects.clock.sleep(effects.rng.uniform(0, 0.1 * 2**failures))
            step = request
        if not isinstance(step, Request):
            return step, requests
        requests += 1
        answers.append((step, await effects.gateway.send(step, feed=source, correlation_id=session)))
