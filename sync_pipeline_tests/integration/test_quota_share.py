"""A vendor that grants less than its limit says, and publishes nothing: the share is found, used and given up again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from sync_pipeline.gateway.quota import Pace, cool_off
from sync_pipeline.gateway.quota_store import SQL
from sync_pipeline.kernel.feed import QuotaWindow
from sync_pipeline.simulator.limits import SlidingWindow
from sync_pipeline_tests.integration.quota_setting import START, Tree

TRAVEL_S = 0.05
"""From a grant to the vendor's counting it."""


@dataclass
class Seen:
    """What the vendor saw: instants of calls it granted and refused."""

    granted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def since(self, start: float) -> tuple[int, int]:
        return sum(at > start for at in self.granted), sum(at > start for at in self.refused)


def lower(tree: Tree, scope: str, at: float) -> None:
    tree.conn.execute("select sync.quota_lower(%s, %s)", ([scope], START + timedelta(seconds=at)))


def share(tree: Tree, scope: str, at: float) -> float:
    row = tree.conn.execute(
        "select sync.quota_share(share, share_at, emission, %s) from sync.quota where scope = %s",
        (START + timedelta(seconds=at), scope),
    ).fetchone()
    assert row is not None
    return float(row[0])


def saturate(tree: Tree, scope: str, vendor: SlidingWindow, *, until: float, start: float = 0, told: bool) -> Seen:
    """Ask as fast as grants come. A refusal lowers the share, and is waited for: as long as the vendor says (`told`), else
    as long as we leave a vendor alone that says nothing."""
    seen, now, in_a_row = Seen(), start, 0
    while now < until:
        grant = tree.ask(scope, at=now)
        if not grant.granted:
            now += max(0.002, grant.wait)
            continue
        arrives = now + TRAVEL_S
        wait = vendor.wait(arrives)
        if wait == 0:
            vendor.granted.append(arrives)
            seen.granted.append(arrives)
            in_a_row = 0
            continue
        seen.refused.append(arrives)
        in_a_row += 1
        lower(tree, scope, arrives)
        now = arrives + (wait if told else cool_off(in_a_row, 0.5))
    return seen


@pytest.mark.parametrize("told", [True, False], ids=["with Retry-After", "without"])
@pytest.mark.parametrize(
    ("limit", "hidden", "seconds", "warm", "until"),
    [(600, 420, 60, 300, 900), (300, 150, 60, 400, 1300), (20, 12, 1, 60, 400)],
)
def test_a_hidden_limit_is_used_and_hardly_ever_hit(
    tree: Tree, limit: int, hidden: int, seconds: float, warm: float, until: float, told: bool
) -> None:
    """At least 85 % of what the vendor grants, and one refusal in 200 calls at most, once warm. Of a window of a second the
    slack takes a fifth first, whatever the share."""
    window = QuotaWindow("w", limit, seconds)
    scope = tree.node(window)
    seen = saturate(tree, scope, SlidingWindow(hidden, seconds), until=until, told=told)
    granted, refused = seen.since(warm)
    use = granted / ((until - warm) * hidden / seconds)
    print(
        f"{hidden} of {limit} in {seconds} s: use {use:.3f}, refused {200 * refused / (granted + refused):.2f} in 200"
    )
    assert use >= 0.85 * (1 if seconds >= 60 else seconds / (seconds + Pace.of(window).slack))
    assert 200 * refused <= granted + refused
    assert refused, "a share that is never tried again is never raised"


def test_a_vendor_that_grants_its_limit_again_gets_it_used(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("w", 300, 60))
    saturate(tree, scope, SlidingWindow(150, 60), until=150, told=False)
    assert share(tree, scope, 150) < 0.6
    seen = saturate(tree, scope, SlidingWindow(300, 60), start=150, until=1400, told=False)
    assert seen.refused == []
    assert share(tree, scope, 1400) == 1
    assert seen.since(1220)[0] >= 0.95 * 300 * 3


def test_refusals_of_calls_on_their_way_count_as_one(tree: Tree) -> None:
    scope = tree.node(QuotaWindow("w", 300, 60))
    for late in range(10):
        lower(tree, scope, 100 + late / 10)
    assert share(tree, scope, 101) == pytest.approx(0.85, abs=0.01)


def test_calls_in_between_do_not_hide_the_next_refusal(tree: Tree) -> None:
    """Each grant brings the share up to date; that is no refusal, and the next one lowers the share again."""
    scope = tree.node(QuotaWindow("w", 300, 60))
    for refusal in range(4):
        at = 100 + 3.0 * refusal
        lower(tree, scope, at)
        for k in range(5):
            tree.ask(scope, at=at + k / 2)
    assert share(tree, scope, 110) == pytest.approx(0.85**4, abs=0.02)


def test_the_share_has_a_floor_and_days_have_none(tree: Tree) -> None:
    sliding = tree.node(QuotaWindow("w", 300, 60))
    day = tree.node(QuotaWindow("day", 300, 86_400, kind="daily"))
    for refusal in range(60):
        lower(tree, sliding, 3.0 * refusal)
        lower(tree, day, 3.0 * refusal)
    assert share(tree, sliding, 180) == pytest.approx(0.05, abs=0.005)
    assert share(tree, day, 180) == 1


def test_where_the_vendor_publishes_its_quota_its_word_is_enough(tree: Tree) -> None:
    now = (datetime.now(UTC) - START).total_seconds()
    scope = tree.node(QuotaWindow("w", 300, 60))
    tree.conn.execute(
        SQL.told, {"scopes": [scope], "name": "w", "remaining": 200, "reset_s": 60, "leave_s": 60, "age_s": 0}
    )
    lower(tree, scope, now)
    assert share(tree, scope, now) == 1
