"""The job `replay_quarantine`: rejections through today's contract, from the UI."""

import asyncio

import dagster as dg
from pydantic import Field

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.resources import SyncResource
from sync_pipeline.runtime import load_setups
from sync_pipeline.sessions.replay import QuarantineFilter, ReplayReport
from sync_pipeline.telemetry.known import refuse_unknown_feed


class ReplayConfig(dg.Config):
    """Which rejections; empty means all open ones."""

    connection: str = Field(default="", description="Only this connection.")
    feed: str = Field(default="", description="Only this feed of it.")
    code: str = Field(default="", description="Only rejections with this code.")
    dry_run: bool = Field(default=True, description="Only say how many would pass.")


@dg.op(description="Puts open rejections through today's contract, without asking the vendor.")
def replay(context: dg.OpExecutionContext, config: ReplayConfig, sync: SyncResource) -> dg.Output[int]:
    chosen = QuarantineFilter(
        connection=config.connection or None, feed=config.feed or None, code=config.code or None, limit=1_000_000
    )
    try:
        reports = asyncio.run(_replay(sync, chosen, dry_run=config.dry_run))
    except ConfigurationError as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from None
    tried, passing = sum(report.tried for report in reports), sum(report.passing for report in reports)
    failing = [(code, number) for report in reports for code, number in report.failing.items()]
    context.log.info("%d of %d records %s", passing, tried, "would pass" if config.dry_run else "passed")
    return dg.Output(
        passing,
        metadata={
            "tried": tried,
            "passing": passing,
            "unconfigured": sum(report.unconfigured for report in reports),
            "dry_run": config.dry_run,
            "still_failing": dg.MetadataValue.md(
                "\n".join(f"- {code}: {number}" for code, number in failing) or "none"
            ),
        },
    )


async def _replay(sync: SyncResource, chosen: QuarantineFilter, *, dry_run: bool) -> list[ReplayReport]:
    """Raises ConfigurationError for a feed that nobody knows: nothing passes then, and that would read like success."""
    setups = load_setups()
    described = [FeedId(name, feed) for name, setup in setups.items() for feed in setup.feeds]
    async with sync.open() as runtime:
        await refuse_unknown_feed(runtime.database, described, connection=chosen.connection, feed=chosen.feed)
        return [await runtime.quarantine.replay(setup, chosen, dry_run=dry_run) for setup in setups.values()]


@dg.job(name="replay_quarantine", executor_def=dg.in_process_executor)
def replay_quarantine() -> None:
    """Rejections through today's contract. `dry_run` (the default) changes nothing."""
    replay()
