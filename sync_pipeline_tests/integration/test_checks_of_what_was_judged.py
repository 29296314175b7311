"""A verdict is of what it says it is of: rows that were derived again, or what the last cycle with records found."""

from __future__ import annotations

from typing import Any

import dagster as dg

from sync_pipeline_tests.integration.dagster_setting import Desk, checks, key

RATE = "pretix/orders/quarantine:rejection_rate"
CONSERVATION = "pretix/orders/validated:conservation"
DERIVED = [key("pretix", "orders", "validated"), key("pretix", "orders", "quarantine")]


def reject_all(desk: Desk) -> None:
    desk.control("faults", {"malformed": {"rate": 1.0, "kinds": ["unknown_status"], "feeds": ["pretix/orders"]}})


def numbers(result: dg.ExecuteInProcessResult, stage: str) -> dict[str, Any]:
    [found] = [
        event.materialization.metadata
        for event in result.get_asset_materialization_events()
        if event.asset_key == key("pretix", "orders", stage)
    ]
    return {name: shown.value for name, shown in found.items()}


def quiet_cycle(desk: Desk) -> dg.AssetCheckEvaluation:
    """The verdict after a session that was shown no orders."""
    desk.control("faults", {})
    desk.sql("update sync.feed_state set watermark = now(), cursor = jsonb_build_object('watermark', now())")
    result = desk.run("poll_pretix")
    assert numbers(result, "raw")["received"] == 0, "else the cycle is not quiet"
    return checks(result)[RATE]


def test_rows_that_were_derived_again_are_judged_and_not_the_pages_that_were_not_polled(desk: Desk) -> None:
    reject_all(desk)
    desk.run("poll_pretix")
    result = desk.run("poll_pretix", only=DERIVED)
    counted = numbers(result, "validated")
    assert counted["received"] == counted["quarantined"] >= 120
    found = checks(result)
    assert not found[RATE].passed
    assert f"{counted['quarantined']} of {counted['received']} showings rejected (100.0 %" in str(
        found[RATE].description
    )
    assert found[CONSERVATION].metadata["received"].value == counted["received"]
    assert "no lag to judge" in str(found["pretix/orders/validated:lag"].description)


def test_a_cycle_without_records_does_not_turn_rejections_green(desk: Desk) -> None:
    reject_all(desk)
    assert not checks(desk.run("poll_pretix"))[RATE].passed
    quiet = quiet_cycle(desk)
    assert not quiet.passed
    assert "no records in this cycle; in the last that had some, " in str(quiet.description)
    assert not quiet_cycle(desk).passed, "nor does another"
    desk.sql("update sync.quarantine set status = 'replayed'")
    assert quiet_cycle(desk).passed


def test_a_cycle_without_records_after_a_good_one_passes(desk: Desk) -> None:
    assert checks(desk.run("poll_pretix"))[RATE].passed
    assert quiet_cycle(desk).description == "no records in this cycle"
