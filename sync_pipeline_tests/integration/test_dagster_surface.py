"""The Dagster side on a real database and the simulator: what operators see, and what failing checks say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster_shared.serdes import serialize_value

from sync_pipeline.components.sensor import poll_sensor
from sync_pipeline.contracts import tiers
from sync_pipeline.definitions import defs
from sync_pipeline.resources import SyncResource
from sync_pipeline.runtime import build_setup
from sync_pipeline.vendors.config import ConnectionConfig
from sync_pipeline_tests.integration.dagster_setting import Desk, checks, key


def test_definitions_hold_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTBRITE_TOKEN", raising=False)
    made = defs()
    dg.Definitions.validate_loadable(made)
    graph = made.resolve_asset_graph()
    for feed in ("eventbrite/orders", "eventbrite/attendees", "pretix/orders", "pretix/positions"):
        for stage in ("raw", "validated", "quarantine", "deltas"):
            node = graph.get(key(*feed.split("/"), stage))
            assert node.group_name == "registrations"
            assert node.owners
            assert node.kinds
            assert node.description
            assert all(graph.has(parent) for parent in node.parent_keys)
    assert graph.get(key("pretix", "orders", "validated")).metadata["dagster/column_schema"].columns
    assert all(graph.has(check.asset_key) for check in graph.asset_check_keys)
    assert {"poll_eventbrite", "poll_pretix", "reconcile_eventbrite", "reconcile_pretix"} <= {
        job.name for job in made.jobs or ()
    }
    assert {sensor.name for sensor in made.sensors or ()} >= {"eventbrite_poll", "pretix_poll"}
    assert all(
        sensor.default_status is dg.DefaultSensorStatus.RUNNING
        for sensor in made.sensors or ()
        if sensor.name.endswith("_poll")
    )


def test_the_keys_are_those_that_operators_know() -> None:
    """A rename loses an asset's history in the UI: change this list only on purpose."""
    made = defs()
    feeds = ("eventbrite/attendees", "eventbrite/orders", "pretix/orders", "pretix/positions")
    shown = [found.to_user_string() for found in made.resolve_asset_graph().get_all_asset_keys()]
    assert sorted(shown) == sorted(
        ["operations/quota", "registrations/registrations"]
        + [f"{feed}/{stage}" for feed in feeds for stage in ("deltas", "quarantine", "raw", "validated")]
    )
    repository = made.get_repository_def()
    assert sorted(name for name in repository.job_names if not name.startswith("__")) == [
        "poll_eventbrite",
        "poll_pretix",
        "reconcile_eventbrite",
        "reconcile_pretix",
        "replay_quarantine",
    ]
    assert sorted(sensor.name for sensor in repository.sensor_defs) == [
        "domain_assets",
        "eventbrite_poll",
        "pretix_poll",
    ]
    assert sorted(schedule.name for schedule in repository.schedule_defs) == [
        "reconcile_eventbrite_daily",
        "reconcile_pretix_daily",
    ]


@pytest.mark.filterwarnings(
    "ignore:Property `ScheduleDefinition.environment_vars`:DeprecationWarning"
)  # its own reading
def test_what_dagster_ships_of_the_definitions_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {name: f"secret-of-{name.lower()}" for name in ("EVENTBRITE_TOKEN", "PRETIX_TOKEN")}
    secrets["DATABASE_URL"] = "postgresql://someone:secret-of-database@nowhere/none"
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    shipped = serialize_value(RepositorySnap.from_def(defs().get_repository_def()))
    assert "poll_pretix" in shipped
    assert "secret-of" not in shipped


def test_a_session_materializes_with_numbers_and_passing_checks(desk: Desk) -> None:
    result = desk.run("poll_pretix")
    assert result.success
    found = checks(result)
    assert {name: check.passed for name, check in found.items() if not check.passed} == {}
    assert len(found) == 10
    shown = {
        event.asset_key.to_user_string(): event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    assert shown["pretix/orders/raw"]["requests"].value == desk.asked()
    assert shown["pretix/orders/validated"]["dagster/row_count"].value == 120
    positions = {name: shown["pretix/positions/validated"][name].value for name in ("received", "applied", "unchanged")}
    assert positions["received"] == positions["applied"] + positions["unchanged"]
    assert positions["applied"] > 120
    events = str(
        [entry.to_json() if hasattr(entry, "to_json") else entry for entry in desk.instance.all_logs(result.run_id)]
    )
    assert "zyxcanary" not in events.lower()
    assert "sim-pretix-token" not in events


def test_rejections_above_a_twentieth_name_their_codes(desk: Desk) -> None:
    desk.control("faults", {"malformed": {"rate": 0.4, "kinds": ["unknown_status"], "feeds": ["pretix/orders"]}})
    found = checks(desk.run("poll_pretix"))["pretix/orders/quarantine:rejection_rate"]
    assert not found.passed
    assert "UNKNOWN_STATUS" in str(found.metadata["why"].value)
    assert "quarantine replay" in str(found.metadata["why"].value)


def test_rejections_are_counted_as_records_and_all_their_codes_are_told_of(desk: Desk) -> None:
    desk.control("faults", {"malformed": {"rate": 0.6, "feeds": ["pretix/orders"]}})
    why = str(checks(desk.run("poll_pretix"))["pretix/orders/quarantine:rejection_rate"].description)
    rejected = "from sync.quarantine where feed = 'orders'"
    [(records,)] = desk.sql(f"select count(*) {rejected}")
    [(codes,)] = desk.sql(f"select count(distinct code) {rejected[:20]}, unnest(codes) code {rejected[20:]}")
    assert codes > 10, "else the world is too tame"
    assert f" %), {records} different records: " in why
    assert f" and {codes - 10} more code" in why


def test_drift_names_the_way_back(desk: Desk) -> None:
    desk.run("poll_pretix")
    desk.sql("update sync.feed_state set caught_up_at = caught_up_at - interval '20 minutes'")
    desk.control("faults", {"rates": {"http_503_seconds": 1.0}, "retry_after_s": 3600})
    result = desk.run("poll_pretix")
    assert result.success, "waiting for the vendor is no failure"
    found = checks(result)["pretix/orders/raw:cursor_drift"]
    assert not found.passed
    assert "sync-pipeline resync pretix/orders --from" in str(found.metadata["why"].value)


def test_rows_are_derived_again_without_asking(desk: Desk) -> None:
    desk.run("poll_pretix")
    asked = desk.asked()
    desk.sql("delete from registrations.registration where feed = 'positions'")
    result = desk.run(
        "poll_pretix", only=[key("pretix", "positions", "validated"), key("pretix", "positions", "quarantine")]
    )
    assert result.success
    assert desk.asked() == asked
    [(rows,)] = desk.sql("select count(*) from registrations.registration where feed = 'positions'")
    assert rows == desk.control("truth/pretix/positions")["count"]


def test_a_new_tier_mapping_reaches_old_rows_without_asking(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.run("poll_pretix")
    asked = desk.asked()
    students = "select count(*) from registrations.registration where feed = 'positions' and tier = 'STUDENT'"
    presses = "select count(*) from registrations.registration where feed = 'positions' and tier = 'PRESS'"
    [(before,)] = desk.sql(students)
    assert before > 0
    assert desk.sql(presses) == [(0,)]
    changed = (tiers.MAPPINGS / "tiers.yaml").read_text().replace(": STUDENT", ": PRESS")
    (tmp_path / "tiers.yaml").write_text(changed)
    monkeypatch.setattr(tiers, "MAPPINGS", tmp_path)
    desk.definitions = defs()
    assert desk.run("poll_pretix", only=[key("pretix", "positions", "validated")]).success
    assert desk.sql(students) == [(0,)]
    assert desk.sql(presses) == [(before,)]
    assert desk.asked() == asked


def newest_day(desk: Desk) -> str:
    """The day of the last change, which need not be the day on which this file was read."""
    [(day,)] = desk.sql("select to_char(max(modified_at), 'YYYY-MM-DD') from registrations.registration")
    return str(day)


def test_reconcile_mends_what_was_lost_and_altered(desk: Desk) -> None:
    desk.control("mutate", {"vendor": "pretix", "changes": 20})
    desk.run("poll_pretix")
    today = newest_day(desk)
    chosen = desk.sql(
        f"select vendor_id from registrations.registration where feed = 'orders' and modified_at >= '{today}' order by 1 limit 2"
    )
    (lost,), (altered,) = chosen
    desk.sql(f"delete from registrations.registration where feed = 'orders' and vendor_id = '{lost}'")
    desk.sql(
        f"update registrations.registration set amount = amount + 1 where feed = 'orders' and vendor_id = '{altered}'"
    )
    result = desk.run("reconcile_pretix", partition=today)
    assert result.success
    assert checks(result)["pretix/orders/deltas:parity"].passed
    assert sorted(
        desk.sql("select vendor_id, cause, action, verified from sync.delta where feed = 'orders'")
    ) == sorted([(lost, "missing_in_store", "repaired", True), (altered, "altered_in_store", "repaired", True)])
    assert desk.run("reconcile_pretix", partition=today).success
    assert desk.sql("select count(*) from sync.delta") == [(2,)]


def test_a_day_of_years_ago_can_be_proved(desk: Desk) -> None:
    assert desk.run("reconcile_pretix", partition="2020-01-01").success


def test_what_only_the_store_has_waits_for_review(desk: Desk) -> None:
    desk.control("mutate", {"vendor": "pretix", "changes": 3})
    desk.run("poll_pretix")
    desk.sql(
        "insert into registrations.registration select connection, feed, 'conf/GHOST', kind, order_id, event_id, email,"
        " first_name, last_name, phone, ticket_sku, ticket_name, tier, quantity, amount, currency, payment_status, vendor_status,"
        " checked_in,"
        " test_mode, locale, created_at, metadata, now(), content_hash, page_id, contract_version"
        " from registrations.registration where feed = 'orders' limit 1"
    )
    found = checks(desk.run("reconcile_pretix", partition=newest_day(desk)))["pretix/orders/deltas:parity"]
    assert not found.passed
    assert desk.sql("select cause, action, verified from sync.delta") == [("missing_at_vendor", "review", False)]
    assert desk.sql("select count(*) from registrations.registration where vendor_id = 'conf/GHOST'") == [(1,)]


def test_the_sensor_decides_and_explains(desk: Desk) -> None:
    [sensor] = [sensor for sensor in desk.definitions.sensors or () if sensor.name == "pretix_poll"]

    def tick() -> dg.SensorResult | Any:
        with dg.build_sensor_context(instance=desk.instance, resources={"sync": SyncResource()}) as context:
            return sensor.evaluate_tick(context)

    first = tick()
    assert [request.tags["connection"] for request in first.run_requests] == ["pretix"]
    assert "never polled" in first.run_requests[0].tags["why"]
    desk.run("poll_pretix")
    desk.sql("update sync.feed_state set next_due = now() + interval '1 hour'")
    assert "not due before" in tick().skip_message
    desk.sql(
        "update sync.feed_state set deferred_until = now() + interval '1 hour', deferred_reason = 'the hour is spent'"
    )
    assert "waiting for quota until" in tick().skip_message
    desk.sql("update sync.feed_state set deferred_until = null, next_due = now() - interval '1 minute'")
    assert "due since" in tick().run_requests[0].tags["why"]
    desk.instance.create_run_for_job(
        desk.definitions.resolve_job_def("poll_pretix"), status=dg.DagsterRunStatus.STARTED
    )
    assert tick().skip_message == "a session of this connection is running"
    assert desk.control("stats")["vendors"]["eventbrite"]["requests"] == 0


def test_the_sensor_of_a_connection_that_is_switched_off_says_so() -> None:
    config = ConnectionConfig.parse(
        {"name": "off", "vendor": "pretix", "base_url": "https://h", "token_env": "T", "organizer": "o",
         "feeds": [{"name": "orders", "enabled": False}, {"name": "positions", "enabled": False}]},
        where="defs.yaml",
    )  # fmt: skip

    @dg.job
    def poll_off() -> None: ...

    with dg.DagsterInstance.ephemeral() as instance:
        sensor = poll_sensor(config, build_setup(config, env={}), poll_off)
        context = dg.build_sensor_context(instance=instance, resources={"sync": SyncResource()})
        assert sensor.evaluate_tick(context).skip_message == "no feed of this connection is enabled"


def test_replay_from_the_ui_says_what_would_pass(desk: Desk) -> None:
    desk.control("faults", {"malformed": {"rate": 0.2, "kinds": ["unknown_status"], "feeds": ["pretix/orders"]}})
    desk.run("poll_pretix")
    [(open_rows,)] = desk.sql("select count(*) from sync.quarantine where status = 'open'")
    result = desk.definitions.resolve_job_def("replay_quarantine").execute_in_process(instance=desk.instance)
    [output] = [event for event in result.all_node_events if event.is_successful_output]
    assert output.step_output_data.metadata["tried"].value == open_rows > 0
    assert output.step_output_data.metadata["dry_run"].value
    assert desk.sql("select count(*) from sync.quarantine where status = 'open'") == [(open_rows,)]


def test_the_domain_asset_counts_all_connections(desk: Desk) -> None:
    desk.run("poll_pretix")
    [(rows,)] = desk.sql("select count(*) from registrations.registration")
    asset = desk.definitions.resolve_assets_def(key("registrations", "registrations"))
    result = dg.materialize([asset], instance=desk.instance)
    [event] = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/row_count"].value == rows
    assert "COMPLETED" in event.materialization.metadata["by_payment_status"].value


def test_a_wrong_token_fails_the_run_with_one_sentence(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETIX_TOKEN", "wrong-token-value")
    result = desk.run("poll_pretix")
    assert not result.success
    assert desk.asked() == 1, "a refused token is not tried again"
    assert not [event for event in result.all_node_events if event.is_step_up_for_retry]
    said = str(result.get_step_failure_events()[0].step_failure_data.error)
    assert "does not accept the token" in said
    assert "wrong-token-value" not in said
