"""The job `replay_quarantine`, as the UI starts it."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from sync_pipeline_tests.integration.dagster_setting import Desk


def replay(desk: Desk, **config: Any) -> dg.ExecuteInProcessResult:
    return desk.definitions.resolve_job_def("replay_quarantine").execute_in_process(
        instance=desk.instance, run_config={"ops": {"replay": {"config": config}}}, raise_on_error=False
    )


@pytest.mark.parametrize(
    "config", [{"connection": "pretics"}, {"connection": "pretix", "feed": "order"}, {"feed": "order"}]
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_feed_that_nobody_knows_is_refused(desk: Desk, config: dict[str, str], dry_run: bool) -> None:
    result = replay(desk, **config, dry_run=dry_run)
    assert not result.success
    said = str(result.get_step_failure_events()[0].step_failure_data.error)
    assert (
        f"there is no feed '{'/'.join(config.values())}'; known are: eventbrite/attendees, eventbrite/orders, pretix/"
        in said
    )


def test_a_feed_that_has_left_the_yaml_is_known_while_the_store_has_its_rows(desk: Desk) -> None:
    desk.sql("insert into sync.feed_state (connection, feed) values ('oldshop', 'sales')")
    for config in ({"connection": "oldshop"}, {"feed": "sales"}, {"feed": "orders"}, {}):
        assert replay(desk, **config, dry_run=False).success
