"""What the commands say of work that went wrong half way, and of what waits for an operator."""

from __future__ import annotations

from sync_pipeline_tests.acceptance.conftest import Workplace

ORGANIZERS_LIST = r"^/organizers/\{organizer\}/orders/$"


def test_what_was_applied_before_a_page_failed_is_in_the_report(workplace: Workplace) -> None:
    workplace.control(
        "faults",
        {"scripts": [{"kind": "html", "vendor": "pretix", "endpoint": ORGANIZERS_LIST, "skip": 2, "count": 50}]},
    )
    found = workplace.json("sync", "pretix")
    assert found["errors"]["orders"]["class"] == "TransientError"
    for feed in ("orders", "positions"):
        [(rows,)] = workplace.rows("select count(*) from registrations.registration where feed = %s", feed)
        assert rows > 0
        assert found["feeds"][f"pretix/{feed}"]["applied"] == rows
