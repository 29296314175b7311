"""A vendor on a bad day: the store converges to its truth, without duplicates and without a record lost."""

from __future__ import annotations

import re
import subprocess
import sys

from sync_pipeline_tests.acceptance.conftest import Workplace


def test_a_bad_day_converges(workplace: Workplace) -> None:
    workplace.control(
        "faults",
        {
            "rates": {
                "http_503": 0.05,
                "reset": 0.05,
                "truncated": 0.03,
                "html": 0.03,
                "duplicates": 0.05,
                "malformed": 0.01,
            }
        },
    )
    for connection in ("eventbrite", "pretix"):
        done = workplace.run("sync", connection)
        assert done.returncode == 0, done.stderr
    workplace.verified()
    workplace.control("mutate", {"changes": 60})
    workplace.control("advance", {"seconds": 5})
    for connection in ("eventbrite", "pretix"):
        assert workplace.run("sync", connection).returncode == 0
    workplace.verified()
    breaches = {name: vendor["limit_breaches"] for name, vendor in workplace.control("stats")["vendors"].items()}
    assert breaches == {"eventbrite": 0, "pretix": 0}


def test_a_page_whose_attendees_cannot_be_added_stops_no_feed(workplace: Workplace) -> None:
    # Its first page, and then without end its third: the list's paging token is no good for a list without attendees.
    failed = {"kind": "expansion_failed", "vendor": "eventbrite", "count": 3}
    for scripts, quarantined in (([failed], 50), ([failed | {"skip": 2}, failed | {"skip": 4}], 160)):
        workplace.control("faults", {"clear": True, "scripts": scripts})
        assert workplace.run("resync", "eventbrite/orders", "--from", "beginning").returncode == 0
        [(counted, codes)] = workplace.rows(
            "select max(quarantined), (select array_agg(distinct code) from sync.quarantine, unnest(codes) code) "
            "from (select sum(quarantined) as quarantined from sync.page where feed = 'orders' group by session) s"
        )
        assert (counted, codes) == (quarantined, ["MISSING_EXPANSION"])
    assert workplace.rows("select count(*) from sync.quarantine where status = 'open'") == [(160,)]
    assert workplace.run("resync", "eventbrite/orders", "--from", "beginning").returncode == 0
    assert workplace.rows("select count(*) from sync.quarantine where status = 'open'") == [(0,)]
    assert workplace.run("sync", "eventbrite").returncode == 0
    workplace.verified()


def test_a_vendor_that_asks_for_a_minute_is_left_alone(workplace: Workplace) -> None:
    workplace.control(
        "faults", {"scripts": [{"kind": "http_429_seconds", "vendor": "pretix", "count": 1, "seconds": 60}]}
    )
    first = workplace.json("sync", "pretix")
    assert first["errors"]["orders"]["class"] == "Deferred"
    again = workplace.json("sync", "pretix")
    assert again["errors"]["orders"]["class"] == "Deferred"
    assert workplace.control("stats")["vendors"]["pretix"]["requests"] == 1
    [state] = [row for row in workplace.json("status")["feeds"] if row["feed"] == "pretix/orders"]
    assert state["remark"].startswith("waiting for quota until")


def test_two_workers_share_one_feed(workplace: Workplace) -> None:
    command = [sys.executable, "-m", "sync_pipeline.cli", "sync", "pretix"]
    workers = [subprocess.Popen(command, env=workplace.environment(), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    workplace.verified()
    # No place of no window twice. (The second worker may open a window of its own once the first is done.)
    [(pages, distinct)] = workplace.rows("select count(*), count(distinct cursor) from sync.page where feed = 'orders'")
    assert pages == distinct


def test_wrong_settings_are_one_sentence(workplace: Workplace) -> None:
    cases = {
        "EVENTBRITE_TOKEN is not set": {"EVENTBRITE_TOKEN": ""},
        "does not accept the token": {"EVENTBRITE_TOKEN": "wrong"},
        "cannot be reached": {"DATABASE_URL": "postgresql://nobody:hunter2@127.0.0.1:1/none"},
        "must be an http or https URL": {"SYNC_EVENTBRITE_BASE_URL": "ftp://example.com"},
        "LIMITS must look like": {"SYNC_EVENTBRITE_LIMITS": "many"},
    }
    for sentence, environment in cases.items():
        done = workplace.run("sync", "eventbrite", **environment)
        assert done.returncode == 2, (sentence, done.stderr)
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stderr


def test_a_cursor_reset_lists_again_and_changes_nothing(workplace: Workplace) -> None:
    assert workplace.run("sync", "pretix").returncode == 0
    done = workplace.run("resync", "pretix/orders", "--from", "beginning")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^0 of [1-9]\d* records that were listed differed", done.stdout, re.MULTILINE)
    workplace.verified()
