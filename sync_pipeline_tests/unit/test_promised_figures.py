"""The last line of `make prove` has a key for each figure that was asked for."""

from __future__ import annotations

import pytest

from sync_pipeline_tests.prove import run

ASKED = {
    "calls", "breaches", "quota_use", "foreign_429_per_10k", "calls_before_retry_after", "p0_wait_p99_s", "lanes_starved",
    "refreshes_per_generation", "spent_refresh_uses", "expiry_401", "probes_per_interval", "recovery_intervals",
    "grant_p50_ms", "staleness_vs_optimum", "staleness_vs_optimum_wrong_prior", "lag_vs_optimum", "gain_captured_min",
    "round_robin_over_ours", "cron_over_ours", "ceiling_violations",
}  # fmt: skip


def test_each_figure_is_promised_by_one_proof() -> None:
    promised = [figure for figures in run.PROMISED.values() for figure in figures]
    assert len(promised) == len(set(promised)) == 20
    assert set(promised) == ASKED


def test_a_proof_that_does_not_give_what_it_promises_fails() -> None:
    assert run._run({"outage": lambda: dict.fromkeys(run.PROMISED["outage"], 1.0)}, None)
    with pytest.raises(KeyError, match="outage gives no recovery_intervals"):
        run._run({"outage": lambda: {"probes_per_interval": 1.0}}, None)
