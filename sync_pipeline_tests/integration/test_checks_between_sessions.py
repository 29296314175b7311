"""What the UI shows of a check while a session runs, and while none may run."""

from __future__ import annotations

from typing import Any, get_args

import dagster as dg
import psycopg
import pytest
from dagster import DagsterEventType

from sync_pipeline.cli.operate import SQL
from sync_pipeline.gateway.breaker_store import by_hand
from sync_pipeline.kernel.errors import Awaited
from sync_pipeline.kernel.loop import run_worker
from sync_pipeline.resources import SyncResource
from sync_pipeline.store.database import Database
from sync_pipeline.telemetry import verdicts
from sync_pipeline.telemetry.verdicts import Verdict
from sync_pipeline_tests.integration.dagster_setting import Desk, key

DRIFT = dg.AssetCheckKey(key("pretix", "orders", "raw"), "cursor_drift")


def tick(desk: Desk) -> Any:
    """The sensor looks once, and what it reports is recorded as its daemon does it."""
    [sensor] = [sensor for sensor in desk.definitions.sensors or () if sensor.name == "pretix_poll"]
    with dg.build_sensor_context(instance=desk.instance, resources={"sync": SyncResource()}) as context:
        done = sensor.evaluate_tick(context)
    for event in done.asset_events:
        desk.instance.report_runless_asset_event(event)
    return done


def shown(desk: Desk, check: dg.AssetCheckKey = DRIFT) -> dg.AssetCheckEvaluation:
    """The newest verdict, or whatever hides it."""
    record = desk.instance.get_latest_asset_check_evaluation_record(check)
    assert record is not None
    assert isinstance(record.evaluation, dg.AssetCheckEvaluation), "a plan hides the last verdict"
    return record.evaluation


def start_session(desk: Desk) -> None:
    """As the daemon does: what the run plans is recorded before its first step."""
    job = desk.definitions.resolve_job_def("poll_pretix")
    desk.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)


def defer(desk: Desk, *, behind: str) -> None:
    desk.sql(
        "update sync.feed_state set deferred_until = now() + interval '1 hour', deferred_reason = 'the hour is spent',"
        f" caught_up_at = now() - interval '{behind}'"
    )


def test_a_deferred_feed_that_falls_behind_fails_though_no_session_runs(desk: Desk) -> None:
    desk.run("poll_pretix")
    assert shown(desk).passed
    defer(desk, behind="9 minutes")
    assert tick(desk).asset_events == []
    defer(desk, behind="11 minutes")
    assert len(tick(desk).asset_events) == 2
    assert not shown(desk).passed
    assert "11 min behind its horizon (waiting for quota until" in str(shown(desk).description)
    assert "resync pretix/orders --from" in str(shown(desk).metadata["why"].value)


def test_a_feed_whose_connection_is_down_fails_while_its_session_still_tries(desk: Desk) -> None:
    desk.run("poll_pretix")
    start_session(desk)
    desk.sql("update sync.feed_state set last_error = 'no route', caught_up_at = now() - interval '11 minutes'")
    assert tick(desk).skip_message == "a session of this connection is running"
    assert not shown(desk).passed
    assert "(no route)" in str(shown(desk).description)


def test_a_failure_is_said_again_after_five_minutes_and_its_end_at_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run("poll_pretix")
    defer(desk, behind="11 minutes")
    tick(desk)
    assert tick(desk).asset_events == [], "each tick would be a flood"
    monkeypatch.setattr("sync_pipeline.components.checks.AGAIN_EVERY_S", 0.0)
    assert len(tick(desk).asset_events) == 2
    desk.sql("update sync.feed_state set deferred_until = null, caught_up_at = now()")
    tick(desk)
    assert shown(desk).passed
    assert tick(desk).asset_events == []


def test_a_feed_in_its_first_window_is_left_to_its_session(desk: Desk) -> None:
    desk.sql("insert into sync.feed_state (connection, feed) values ('pretix', 'orders')")
    start_session(desk)
    assert tick(desk).asset_events == []


def test_the_last_verdicts_stay_in_sight_while_a_session_runs(desk: Desk) -> None:
    desk.control("faults", {"malformed": {"rate": 0.4, "kinds": ["unknown_status"], "feeds": ["pretix/orders"]}})
    found = desk.run("poll_pretix")
    start_session(desk)
    rejected = shown(desk, dg.AssetCheckKey(key("pretix", "orders", "quarantine"), "rejection_rate"))
    assert not rejected.passed
    assert "UNKNOWN_STATUS" in str(rejected.description)
    every = desk.definitions.resolve_asset_graph().asset_check_keys
    for check in [check for check in every if check.asset_key.path[0] == "pretix" and check.name != "parity"]:
        shown(desk, check)
    assert desk.instance.all_logs(found.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION)


def test_a_run_that_planned_its_checks_answers_all_of_them(desk: Desk) -> None:
    """As "Materialize" on an asset's page starts one."""
    desk.run("poll_pretix")
    asset = key("pretix", "positions", "validated")
    result = desk.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=desk.instance, asset_selection=[asset]
    )
    assert result.success
    planned = desk.instance.all_logs(result.run_id, of_type=DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED)
    assert len(planned) == len(result.get_asset_check_evaluations()) == 3
    assert shown(desk, dg.AssetCheckKey(asset, "conservation")).passed


def test_a_blocking_verdict_fails_the_session_after_all_was_reported(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "schema", lambda *judged: Verdict(False, "the table lacks locale"))
    result = desk.run("poll_pretix")
    assert not result.success
    assert "pretix/orders: the table lacks locale" in str(result.get_step_failure_events()[0].step_failure_data.error)
    assert len(result.get_asset_check_evaluations()) == 10
    assert not shown(desk, dg.AssetCheckKey(key("pretix", "orders", "validated"), "schema")).passed


@pytest.mark.parametrize("awaits", get_args(Awaited))
def test_the_command_line_and_the_sensor_say_alike_what_is_waited_for(desk: Desk, awaits: Awaited) -> None:
    desk.run("poll_pretix")
    with psycopg.connect(desk.url) as conn:
        conn.execute(
            "update sync.feed_state set deferred_until = now() + interval '1 hour', deferred_reason = 'it is spent', "
            "deferred_for = %s",
            [awaits],
        )
    assert {f"orders: {row[-1]}" for row in desk.sql(SQL.status_feeds)} == {tick(desk).skip_message}


def test_who_defers_says_what_for(desk: Desk) -> None:
    desk.run("poll_pretix")
    asked = desk.sql("select distinct endpoint from sync.audit where endpoint like '%/orders/'")

    async def opened() -> None:
        async with Database.open(desk.url) as database:
            for [endpoint] in asked:
                assert await by_hand(database, "pretix", endpoint, seconds=3600)

    run_worker(opened())
    desk.run("poll_pretix")
    assert tick(desk).skip_message.startswith("orders: waiting for its breaker until ")


def test_the_raw_asset_of_a_deferred_feed_says_what_it_waits_for(desk: Desk) -> None:
    desk.run("poll_pretix")
    desk.control("faults", {"rates": {"http_503_seconds": 1.0}, "retry_after_s": 3600})
    result = desk.run("poll_pretix")
    shown_of = {event.asset_key: event.materialization.metadata for event in result.get_asset_materialization_events()}
    why = str(shown_of[key("pretix", "orders", "raw")]["why"].value)
    assert why.startswith("waiting for quota until ")
    assert "left alone" in why
