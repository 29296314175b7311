"""What a person or a script at the command line is told: exit codes, and keys that can be copied."""

from __future__ import annotations

from sync_pipeline_tests.acceptance.conftest import Workplace


def test_an_outage_may_pass_and_a_wrong_path_may_not(workplace: Workplace) -> None:
    workplace.control("faults", {"rates": {"http_503": 1.0}})
    for _ in range(2):  # the second time the breaker speaks
        down = workplace.run("sync", "pretix")
        assert down.returncode == 3, (down.stdout, down.stderr)
        assert "Traceback" not in down.stderr
    assert workplace.rows("select count(*) from sync.quarantine") == [(0,)]
    workplace.control("faults", {"clear": True})
    workplace.rows("delete from sync.breaker returning 1")
    base = f"{workplace.simulator.url}/pretix/api/v9"
    wrong = workplace.run("sync", "pretix", SYNC_PRETIX_BASE_URL=base)
    assert wrong.returncode == 2, (wrong.stdout, wrong.stderr)
    assert workplace.run("sync", "pretix").returncode == 0


def test_piped_tables_show_keys_whole(workplace: Workplace) -> None:
    workplace.control("faults", {"rates": {"malformed": 0.05}})
    assert workplace.run("sync", "pretix").returncode == 0
    keys = [row["key"] for row in workplace.json("quarantine", "list")["quarantine"]]
    assert keys
    listed = workplace.run("quarantine", "list", COLUMNS="80").stdout
    assert all(key in listed for key in keys)
    shown = workplace.run("status", COLUMNS="80").stdout
    assert "pretix/positions" in shown
    assert "…" not in listed + shown
