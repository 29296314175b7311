"""Orders split at the vendor: each person stays one row, under the order that has them now."""

from __future__ import annotations

from sync_pipeline_tests.acceptance.conftest import Workplace

TICKETS = "select vendor_id, order_id, payment_status from registrations.registration where feed = 'positions'"


def test_a_split_order_leaves_no_ghost(workplace: Workplace) -> None:
    assert workplace.run("sync", "pretix").returncode == 0
    before = {row[0]: row[1] for row in workplace.rows(TICKETS)}
    done = workplace.control("mutate", {"vendor": "pretix", "changes": 12, "actions": ["split"]})["changes"]
    assert [change["action"] for change in done] == ["split"] * 12
    workplace.control("advance", {"seconds": 5})
    done_again = workplace.run("sync", "pretix")
    assert done_again.returncode == 0, done_again.stderr
    workplace.verified()
    after = {row[0]: row[1] for row in workplace.rows(TICKETS)}
    assert after.keys() == before.keys(), "nobody came, nobody went"
    moved = {name for name in after if after[name] != before[name]}
    assert len(moved) >= 12
    assert {before[name] for name in moved} == {change["id"] for change in done}


def test_splits_before_and_after_the_first_walk(workplace: Workplace) -> None:
    """Split before the first walk, and again, with check-ins and cancellations, after it."""
    workplace.control("mutate", {"vendor": "pretix", "changes": 6, "actions": ["split"]})
    workplace.control("advance", {"seconds": 5})
    assert workplace.run("sync", "pretix").returncode == 0
    workplace.control(
        "mutate", {"vendor": "pretix", "changes": 30, "actions": ["split", "check_in", "cancel_position"]}
    )
    workplace.control("advance", {"seconds": 5})
    assert workplace.run("sync", "pretix").returncode == 0
    workplace.verified()
