"""Token decisions against vendors that keep their own books: expiry, spent refresh tokens, mint limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from sync_pipeline.gateway.tokens import (
    Lost,
    Minted,
    Outcome,
    Refused,
    TokenState,
    Unspent,
    ahead_s,
    answered,
    asking,
    decide,
    enrolled,
)
from sync_pipeline.kernel.grants import Grant, MintLimit

START = datetime(2026, 1, 1, tzinfo=UTC)
ROTATING = Grant("refresh_token", "/t", timeout_s=10)
MINTING = Grant("jwt_exchange", "/t", mint=MintLimit(30, 3600))

instants = st.none() | st.integers(-7200, 7200).map(lambda s: START + timedelta(seconds=s))
states = st.builds(
    TokenState,
    generation=st.integers(0, 3),
    has_refresh=st.booleans(),
    issued_at=instants,
    expires_at=instants,
    rejected=st.booleans(),
    sent_at=instants,
    uncertain_since=instants,
    reauthorise_since=instants,
    retry_at=instants,
    failures=st.integers(0, 50),
    mints=st.lists(instants.filter(lambda at: at is not None), max_size=40).map(tuple),
)
grants = st.builds(
    Grant,
    kind=st.sampled_from(["static", "client_credentials", "refresh_token", "jwt_exchange", "jwt_bearer"]),
    path=st.just("/t"),
    rotates=st.booleans(),
    grace_s=st.sampled_from([0.0, 30.0, 600.0]),
    revokes_old=st.booleans(),
    mint=st.none() | st.builds(MintLimit, st.integers(1, 30), st.just(3600.0)),
)
jitters = st.floats(-1, 1)


@given(lifetime=st.floats(1, 10**7), jitter=jitters)
def test_it_refreshes_ahead_by_a_minute_or_a_tenth_and_never_in_the_first_half(lifetime: float, jitter: float) -> None:
    ahead = ahead_s(lifetime, jitter)
    assert 0 < ahead <= lifetime / 2
    if lifetime >= 200:
        wanted = max(60, lifetime / 10)
        assert wanted * 0.79 < ahead < wanted * 1.21


@given(state=states, grant=grants, jitter=jitters)
def test_no_decision_breaks_a_promise(state: TokenState, grant: Grant, jitter: float) -> None:
    decision = decide(state, grant, START, jitter)
    if decision.usable:
        assert state.generation > 0
        assert not state.rejected
        assert state.expires_at is None or state.expires_at > START
    if decision.kind == "use":
        assert decision.usable
    if decision.kind == "wait":
        assert decision.until is not None
        assert decision.until > START
    if decision.kind == "refresh":
        assert grant.kind != "static"
        assert state.retry_at is None or state.retry_at <= START
        if grant.mint:
            assert sum(at > START - timedelta(hours=1) for at in state.mints) < grant.mint.limit
        if grant.kind == "refresh_token":
            assert state.has_refresh
        if grant.spends and state.uncertain_since is not None:
            assert state.uncertain_since + timedelta(seconds=grant.grace_s) > START


@dataclass
class Vendor:
    """Rotates refresh tokens (numbered); a spent one may be shown within the grace, later it is a breach."""

    grace_s: float
    lifetime_s: float = 3600
    current: int = 1
    spent_at: dict[int, datetime] = field(default_factory=dict)
    breaches: int = 0
    exchanges: int = 0

    def exchange(self, token: int, now: datetime) -> int | None:
        self.exchanges += 1
        if token != self.current and now >= self.spent_at[token] + timedelta(seconds=self.grace_s):
            self.breaches += 1
            return None
        self.spent_at.setdefault(token, now)
        self.current += 1
        return self.current


FAULTS = ("none", "none", "none", "killed before sending", "killed after sending", "answer lost", "turned away")
steps = st.lists(
    st.tuples(st.floats(0.5, 40) | st.floats(0.5, 4000), st.sampled_from(FAULTS), st.floats(0, 8), jitters),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(steps=steps, grace_s=st.sampled_from([0.0, 30.0, 300.0]))
def test_a_spent_refresh_token_is_never_shown_whoever_dies(
    steps: list[tuple[float, str, float, float]], grace_s: float
) -> None:
    vendor = Vendor(grace_s)
    grant = Grant("refresh_token", "/t", grace_s=grace_s, timeout_s=10)
    state = enrolled(TokenState(), grant, 3600, True, START)
    token, now, done, asked = 1, START, 0, 0
    for pause, fault, latency, jitter in steps:
        now += timedelta(seconds=pause)
        if decide(state, grant, now, jitter).kind != "refresh":
            continue
        before, sent_at = state, now
        asked += 1
        state = asking(state, grant, now)
        if fault == "killed before sending":
            continue
        fresh = None if fault == "turned away" else vendor.exchange(token, now)
        if fault == "killed after sending":
            continue
        outcome: Outcome
        if fault == "turned away":
            outcome = Unspent()
        elif fault == "answer lost":
            outcome = Lost()
        elif fresh is None:
            outcome = Refused("invalid_grant", final=True)
        else:
            outcome, token, done = Minted(3600, rotated=True), fresh, done + 1
        now += timedelta(seconds=latency)
        state = answered(before, grant, outcome, sent_at, now)
    assert vendor.breaches == 0
    assert state.generation == 1 + done
    if grace_s == 0:
        assert vendor.exchanges <= state.generation, "one exchange a generation reached the vendor"


@settings(deadline=None, max_examples=50)
@given(
    gaps=st.lists(st.floats(0.1, 900), min_size=1, max_size=40),
    fates=st.lists(st.sampled_from(["minted", "refused token", "lost", "killed"]), min_size=1, max_size=40),
)
def test_the_mint_limit_holds_although_every_token_is_refused(gaps: list[float], fates: list[str]) -> None:
    state, now, minted = TokenState(), START, []
    for turn in range(200):
        now += timedelta(seconds=gaps[turn % len(gaps)])
        if decide(state, MINTING, now, 0).kind != "refresh":
            continue
        minted.append(now)
        fate = fates[len(minted) % len(fates)]
        before, state = state, asking(state, MINTING, now)
        if fate == "killed":
            continue
        state = answered(before, MINTING, Lost() if fate == "lost" else Minted(3600, rotated=False), now, now)
        if fate == "refused token":
            state = TokenState(**{name: getattr(state, name) for name in TokenState.__slots__} | {"rejected": True})
    assert minted
    for at in minted:
        assert sum(at - timedelta(hours=1) < other <= at for other in minted) <= 30


@settings(deadline=None)
@given(gaps=st.lists(st.floats(0.01, 35), min_size=1, max_size=50), jitter=jitters, lifetime=st.floats(120, 90_000))
def test_a_token_asked_for_every_half_minute_never_expires(gaps: list[float], jitter: float, lifetime: float) -> None:
    """Callers come at least every 35 s; the exchange takes no fault."""
    state, now = enrolled(TokenState(), ROTATING, lifetime, True, START), START
    for turn in range(150):
        now += timedelta(seconds=gaps[turn % len(gaps)] if lifetime >= 600 else 0.01)
        decision = decide(state, ROTATING, now, jitter)
        assert decision.usable
        if decision.kind == "refresh":
            state = answered(state, ROTATING, Minted(lifetime, rotated=True), now, now)


def test_a_lost_answer_is_not_retried_and_the_token_is_used_to_its_end() -> None:
    state = enrolled(TokenState(), ROTATING, 3600, True, START)
    late = START + timedelta(seconds=3300)
    assert decide(state, ROTATING, late).kind == "refresh"
    state = answered(state, ROTATING, Lost(), late, late + timedelta(seconds=10))
    assert decide(state, ROTATING, START + timedelta(seconds=3589)).kind == "use"
    assert decide(state, ROTATING, START + timedelta(seconds=3590)).kind == "reauthorise"


def test_what_the_vendor_turned_away_with_a_time_is_asked_again_at_that_time() -> None:
    state = answered(TokenState(), MINTING, Unspent(86_400), START, START)
    decision = decide(state, MINTING, START + timedelta(hours=23))
    assert (decision.kind, decision.until) == ("wait", START + timedelta(days=1))


def test_a_refused_client_may_be_corrected_but_a_dead_refresh_token_may_not() -> None:
    state = enrolled(TokenState(), ROTATING, 100, True, START)
    later = START + timedelta(days=300)
    dead = answered(state, ROTATING, Refused("invalid_grant", final=True), START, START)
    assert decide(dead, ROTATING, later).kind == "reauthorise"
    client = answered(state, ROTATING, Refused("invalid_client", final=False), START, START)
    assert decide(client, ROTATING, later).kind == "refresh"
