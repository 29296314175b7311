"""How old a grant may be."""

from __future__ import annotations

import pytest

from sync_pipeline.gateway.quota import LEASE_S
from sync_pipeline.gateway.quota_path import Ages


@pytest.mark.parametrize("slack", [0.05, 0.25, 0.5, 1.0, 10.0])
def test_a_grant_is_sent_within_the_slack_with_time_for_its_way(slack: float) -> None:
    ages = Ages.within(slack)
    assert 0 < ages.hand_s <= LEASE_S
    assert 0 < ages.answer_s < ages.sent_s < slack
    assert ages.hand_s < ages.sent_s
    assert slack - ages.sent_s >= min(LEASE_S, slack / 10) * 0.999
