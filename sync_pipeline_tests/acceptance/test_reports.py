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


def test_quarantine_names_the_vendors_record_and_says_if_an_older_version_stands(workplace: Workplace) -> None:
    faults = {"malformed": {"rate": 0.1, "kinds": ["unknown_status"], "feeds": ["pretix/orders"]}}
    workplace.control("faults", faults)
    assert workplace.run("sync", "pretix").returncode == 0
    [(known,)] = workplace.rows("select min(vendor_id) from registrations.registration where feed = 'orders'")
    workplace.control("mutate", {"vendor": "pretix", "id": known, "set": {"email": "no address@@example"}})
    assert workplace.run("sync", "pretix").returncode == 0
    listed = workplace.json("quarantine", "list", "--feed", "pretix/orders", "--limit", "1000")["quarantine"]
    assert len(listed) > 1
    assert {row["vendor_id"]: row["older_in_table"] for row in listed if row["older_in_table"]} == {known: True}
    assert all("/" in row["vendor_id"] for row in listed)
    table = workplace.run("quarantine", "list", "--code", "INVALID_EMAIL", COLUMNS="80").stdout
    assert known in table
    assert "older in table" in table
    [key] = [row["key"] for row in listed if row["vendor_id"] == known]
    assert "an older version" in workplace.run("quarantine", "show", key).stdout
    found = workplace.json("verify")
    assert not found["ok"]
    assert found["checks"]["newer_in_quarantine"] >= 1
    assert workplace.run("quarantine", "discard", "--code", "INVALID_EMAIL").returncode == 0
    assert workplace.json("verify")["ok"]


def test_who_pasted_a_tab_into_a_name_is_in_the_table(workplace: Workplace) -> None:
    [key] = [row["id"] for row in workplace.control("truth/pretix/orders")["rows"] if not row["malformed"]][:1]
    for invoice, first, last in (
        ({"name": "Ada\tLovelace", "name_parts": {"_scheme": "full"}}, "NOT_PROVIDED", "Ada Lovelace"),
        ({"name": "5 L", "name_parts": {"given_name": 5, "family_name": "L"}}, "NOT_PROVIDED", "5 L"),
        ({"name": "A L", "name_parts": {"given_name": "A\x1f", "family_name": "\x0bL"}}, "A", "L"),
    ):
        workplace.control("mutate", {"vendor": "pretix", "id": key, "set": {"invoice_address": invoice}})
        workplace.control("advance", {"seconds": 5})
        assert workplace.run("sync", "pretix").returncode == 0
        names = "select first_name, last_name from registrations.registration where feed = 'orders' and vendor_id = %s"
        assert workplace.rows(names, key) == [(first, last)]
    assert workplace.json("quarantine", "list")["quarantine"] == []
    workplace.verified()
