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


def test_a_refusal_keeps_its_first_reason_while_the_breaker_is_open(workplace: Workplace) -> None:
    def remark() -> str:
        [row] = [row for row in workplace.json("status")["feeds"] if row["feed"] == "pretix/orders"]
        return str(row["remark"])

    wrong = {"SYNC_PRETIX_EVENTS": "Sampleconf,readers"}
    assert workplace.run("sync", "pretix", **wrong).returncode == 2
    first = remark().partition(": ")[2]
    assert "organizer `simorg` and events Sampleconf, readers" in first
    asked = workplace.control("stats")["vendors"]["pretix"]["requests"]
    for _ in range(2):
        again = workplace.run("sync", "pretix", **wrong)
        assert again.returncode == 2
        assert first in again.stdout + again.stderr
        assert first in remark()
        assert "tried again in" in remark()
    assert workplace.control("stats")["vendors"]["pretix"]["requests"] == asked


def test_messages_about_the_network_name_organizer_and_event(workplace: Workplace) -> None:
    """The audit keeps the template: it is what calls are counted by."""
    workplace.control("faults", {"scripts": [{"kind": "reset", "vendor": "pretix", "endpoint": "orders", "count": 50}]})
    found = workplace.json("sync", "pretix", SYNC_PRETIX_EVENTS="readers")
    assert "/organizers/simorg/events/readers/orders/" in found["errors"]["orders"]["message"]
    assert "{" not in found["errors"]["orders"]["message"]
    kept = workplace.rows("select distinct endpoint from sync.audit where connection = 'pretix'")
    assert kept == [("/organizers/{organizer}/events/{event}/orders/",)]
