"""The plan: within the calls in hand, above floors, in time for ceilings, and always with its reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.polling.estimate import DAY, Observation, Prior, RateEstimate, observe
from sync_pipeline.polling.policy import Budget, SourceState, plan

NOW = datetime(2026, 3, 4, 14, 0, tzinfo=UTC)


@st.composite
def states(draw: st.DrawFn) -> SourceState:
    floor = draw(st.floats(1, 600))
    ago = draw(st.one_of(st.none(), st.floats(0, 3e5)))
    estimate = RateEstimate.before_any_poll(Prior(10.0 ** draw(st.floats(-7, -1))))
    return SourceState(
        source=str(draw(st.integers(0, 10**9))),
        estimate=estimate,
        last_poll_at=None if ago is None else NOW - timedelta(seconds=ago),
        floor_s=floor,
        ceiling_s=floor * draw(st.floats(1, 500)),
        weight=draw(st.floats(0, 100)),
        cost=draw(st.floats(0.5, 5)),
        hints=draw(st.integers(0, 3)),
        jitter=draw(st.floats(0, 0.99)),
        blocked_until=draw(st.sampled_from([None, NOW - timedelta(hours=1), NOW + timedelta(hours=1)])),
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(states(), max_size=12), st.floats(0, 20), st.floats(-4, 1))
def test_a_plan_costs_no_more_than_the_calls_in_hand_and_respects_floors(
    sources: list[SourceState], calls: float, rate: float
) -> None:
    sources = [replace(state, source=str(n)) for n, state in enumerate(sources)]
    decisions = plan(sources, Budget(calls, 10.0**rate, 100), NOW)
    by_name = {state.source: state for state in sources}
    assert sorted(decision.source for decision in decisions) == sorted(by_name)
    due = [by_name[decision.source] for decision in decisions if decision.due]
    assert sum(state.cost for state in due) <= calls + 1e-6
    for state in due:
        assert state.blocked_until is None or state.blocked_until <= NOW
        assert state.last_poll_at is None or (NOW - state.last_poll_at).total_seconds() >= state.floor_s - 1e-6
    for decision in decisions:
        assert decision.why.startswith("due: " if decision.due else ("not due: ", "waits "))
        assert "\n" not in decision.why
        assert "nan" not in decision.why
    assert plan(sources, Budget(calls, 10.0**rate, 100), NOW) == decisions


def source(name: str, per_hour: float = 1.0, ago_s: float = 3600.0, **more: object) -> SourceState:
    estimate = RateEstimate.before_any_poll(Prior(per_hour / 3600, 20.0))
    given: dict[str, object] = {"floor_s": 10.0, "ceiling_s": DAY} | more
    return SourceState(name, estimate, NOW - timedelta(seconds=ago_s), **given)  # type: ignore[arg-type]


def test_each_decision_says_why_in_one_sentence() -> None:
    busy, fresh = source("busy", 3.1), source("fresh", 3.1, ago_s=5.0)
    near = source("near", 0.001, ago_s=3590.0, ceiling_s=3600.0)
    asleep = replace(source("asleep"), blocked_until=NOW + timedelta(minutes=5), blocked_reason="quota (P3)")
    why = {d.source: d.why for d in plan([busy, fresh, near, asleep], Budget(5, 4 / 3600, 212), NOW)}
    assert why["near"] == "due: its ceiling of 60 min is near, last polled 13:00; costs 1 of 212 calls left this hour"
    assert why["busy"] == "due: 3.1 changes expected since 13:00, costs 1 of 211 calls left this hour"
    assert why["fresh"] == "not due: asked 5 s ago, its floor is 10 s"
    assert why["asleep"] == "waits until 14:05:00Z: quota (P3)"
    scarce = plan([busy, source("poor", 3.1, weight=0.9)], Budget(1, 3 / 3600, 212), NOW)
    assert [d.due for d in scarce] == [True, False]
    assert scarce[1].why == "waits for calls: 3.1 changes expected, but others are worth the 1 now"


def test_value_and_hints_decide_who_is_first() -> None:
    plain, dear, hinted = source("plain"), source("dear", weight=5.0), source("hinted", ago_s=60.0, hints=2)
    assert [d.source for d in plan([plain, dear], Budget(2, 1.0, 9), NOW)] == ["dear", "plain"]
    quiet = replace(hinted, source="quiet", hints=0)
    assert plan([quiet, hinted], Budget(1, 1 / 3600, 9), NOW)[0].source == "hinted"


def test_a_source_next_to_worthless_beside_a_dear_one_is_planned_too() -> None:
    worthless = source("worthless", 0.004, weight=4e-309, floor_s=4.0, ceiling_s=720.0)
    dear = source("dear", 50.0, weight=2.0, floor_s=23.0, ceiling_s=1080.0)
    decisions = plan([worthless, dear], Budget(2, 0.17, 9), NOW)
    assert {decision.source for decision in decisions if decision.due} == {"dear", "worthless"}, (
        "both ceilings are past"
    )


def test_silence_stretches_the_interval_but_never_past_the_ceiling() -> None:
    ceiling = 6 * 3600.0
    quiet = RateEstimate.before_any_poll(Prior(24 / DAY))
    busy = source("busy", 4.0, weight=3.0)
    now, widths = NOW, []
    for _ in range(80):
        state = SourceState("quiet", quiet, now, 60.0, ceiling)
        decision = next(d for d in plan([state, busy], Budget(1, 1 / 1800, 9), now) if d.source == "quiet")
        widths.append(decision.interval_s)
        since, now = now, now + timedelta(seconds=decision.interval_s)
        quiet = observe(quiet, Observation(since, False), now)
    assert widths[-1] > widths[0] * 1.5
    assert max(widths) <= ceiling * (1 + 1e-9)
    assert widths[-1] == pytest.approx(ceiling)


def test_no_source_waits_past_its_ceiling_while_a_busy_crowd_wants_every_call() -> None:
    rng = np.random.default_rng(9)
    n, tick, ceiling = 60, 60.0, 4 * 3600.0
    # The ceilings take 36 calls an hour of 60; the five busy sources alone would take far more.
    rate = [200.0] * 5 + [0.001] * 55
    sources = [
        replace(source(str(i), rate[i], ceiling_s=ceiling, jitter=float(rng.random())), last_poll_at=None)
        for i in range(n)
    ]
    now, oldest, polls = NOW, 0.0, 0
    for step in range(60 * 10):
        now = NOW + timedelta(seconds=tick * step)
        for decision in plan(sources, Budget(1, 1 / tick, 60, lead_s=2 * tick), now):
            if not decision.due:
                continue
            i, polls = int(decision.source), polls + 1
            last = sources[i].last_poll_at
            oldest = max(oldest, (now - last).total_seconds() if last else 0.0)
            sources[i] = replace(sources[i], last_poll_at=now, jitter=float(rng.random()))
    assert oldest <= ceiling
    assert all(s.last_poll_at and (now - s.last_poll_at).total_seconds() <= ceiling for s in sources)
    assert polls > 0.97 * 60 * 10, "and the rest of the calls is not left to lapse"


def test_seventeen_thousand_sources_are_planned_in_seconds_at_most() -> None:
    estimate = RateEstimate.before_any_poll(Prior(1 / 3600))
    many = [SourceState(str(i), estimate, NOW - timedelta(seconds=i), 60.0, DAY) for i in range(17_000)]
    decisions = plan(many, Budget(200, 200 / 60, 12_000), NOW)
    assert sum(decision.due for decision in decisions) == 200
