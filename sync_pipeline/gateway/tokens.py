"""When to use, refresh, wait or ask for a new authorisation: a pure state machine of one credential.

An exchange is written down before it is sent (`asking`) and after it (`answered`). What is written down and not answered
may have been lost together with a refresh token that the vendor now holds for spent; showing a spent one makes strict
vendors revoke the whole family (RFC 9700, 4.14.2), so it is not shown again unless the vendor grants a grace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from sync_pipeline.kernel.grants import Grant

AHEAD_S = 60.0
AHEAD_SHARE = 0.1
JITTER_SHARE = 0.2
"""Refresh ahead of expiry by max(60 s, 10 % of the lifetime), give or take a fifth of that, at most half a lifetime."""

LATE_S = 10.0
LATE_SHARE = 0.2
"""A token is not sent in its last 10 s (a fifth of a short life): 5 s for clocks that differ, 5 s for the way."""

YOUNG_S = 60.0
"""A token refused at this age or younger is not replaced sooner: the fault is hardly its age, and mints are few."""

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
COOL_DOWN_S = 60.0


@dataclass(frozen=True, slots=True)
class TokenState:
    """What is known of a credential's token, without the token. Generation 0: there is none yet.

    `sent_at`: an exchange went out and its outcome is not written down: it is under way, or its worker died.
    `uncertain_since`: first time this generation's refresh token was shown without an answer arriving.
    `reauthorise_since`: the vendor refused. With `retry_at` a corrected secret may cure it; without, only a new pair.
    `mints`: exchanges sent within the mint window.
    """

    generation: int = 0
    has_refresh: bool = False
    issued_at: datetime | None = None
    expires_at: datetime | None = None
    rejected: bool = False
    sent_at: datetime | None = None
    uncertain_since: datetime | None = None
    reauthorise_since: datetime | None = None
    reason: str | None = None
    retry_at: datetime | None = None
    failures: int = 0
    mints: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """`usable`: the token at hand may be sent now, whatever is done besides. `until`: when asking again may help.
    `alarm`: it cannot be renewed; an operator has until it expires."""

    kind: Literal["use", "refresh", "wait", "reauthorise"]
    reason: str
    usable: bool
    until: datetime | None = None
    alarm: bool = False


@dataclass(frozen=True, slots=True)
class Minted:
    """The vendor gave a token, good for `lifetime_s` from the moment the request was sent (None: it did not say)."""

    lifetime_s: float | None
    rotated: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The vendor refused. `final`: the refresh token itself is dead. `retry_after_s`: what it asks for, here and below."""

    code: str
    final: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unspent:
    """The exchange surely did not happen: it was never sent, or turned away at the door (429, 503)."""

    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The exchange may have happened; its answer did not arrive or cannot be read."""

    retry_after_s: float | None = None


Outcome = Minted | Refused | Unspent | Lost


def ahead_s(lifetime_s: float, jitter: float) -> float:
    """Seconds before expiry at which to refresh. `jitter` in [-1, 1], drawn once a generation and worker."""
    margin = max(AHEAD_S, AHEAD_SHARE * lifetime_s)
    return min(lifetime_s / 2, margin * (1 + JITTER_SHARE * jitter))


def decide(state: TokenState, grant: Grant, now: datetime, jitter: float = 0.0) -> Decision:
    """What to do for a caller that wants a token now."""
    under_way = state.sent_at is not None and now < state.sent_at + timedelta(seconds=grant.timeout_s)
    usable = _usable(state, now)
    if under_way and grant.revokes_old:
        usable = False
    if not _due(state, now, jitter):
        if usable:
            return Decision("use", "the token is good", usable=True)
        assert state.sent_at is not None
        return Decision(
            "wait", "a refresh is under way", usable=False, until=state.sent_at + timedelta(seconds=grant.timeout_s)
        )
    blocked = _exchange(state, grant, now)
    if blocked.kind != "refresh" and usable:
        alarm = blocked.kind == "reauthorise"
        return Decision("use", f"the token is good until it expires; {blocked.reason}", usable=True, alarm=alarm)
    return replace(blocked, usable=usable, alarm=blocked.kind == "reauthorise")


def _usable(state: TokenState, now: datetime) -> bool:
    if state.generation == 0 or state.rejected:
        return False
    if state.expires_at is None:
        return True
    return now < state.expires_at - timedelta(seconds=min(LATE_S, LATE_SHARE * _lifetime_s(state)))


def _lifetime_s(state: TokenState) -> float:
    if state.expires_at is None or state.issued_at is None:
        return 0.0
    return max(0.0, (state.expires_at - state.issued_at).total_seconds())


def _due(state: TokenState, now: datetime, jitter: float) -> bool:
    if state.generation == 0 or state.rejected:
        return True
    if state.expires_at is None:
        return False
    return now >= state.expires_at - timedelta(seconds=ahead_s(_lifetime_s(state), jitter))


def _exchange(state: TokenState, grant: Grant, now: datetime) -> Decision:
    """May an exchange be sent now? refresh, wait or reauthorise."""
    if grant.kind == "static":
        return Decision("reauthorise", "the vendor refuses the key", usable=False)
    if state.reauthorise_since is not None and (state.retry_at is None or now < state.retry_at):
        reason = f"the vendor refuses to renew the token ({state.reason or 'no code'})"
        return Decision("reauthorise", reason, usable=False, until=state.retry_at)
    if grant.kind == "refresh_token" and not state.has_refresh:
        return Decision("reauthorise", "there is no refresh token", usable=False)
    waits: list[tuple[datetime, str]] = []
    if state.uncertain_since is not None and grant.spends:
        grace_ends = state.uncertain_since + timedelta(seconds=grant.grace_s)
        settled = None if state.sent_at is None else state.sent_at + timedelta(seconds=grant.timeout_s)
        if settled is not None and now < settled:
            waits.append((settled, "a refresh is under way, or its worker has died"))
        elif now >= grace_ends:
            reason = "a refresh was not answered and its refresh token may be spent"
            return Decision("reauthorise", reason, usable=False)
    if state.retry_at is not None and now < state.retry_at:
        waits.append((state.retry_at, "the last exchange failed"))
    if state.rejected and state.issued_at is not None:
        waits.append((state.issued_at + timedelta(seconds=YOUNG_S), "the vendor refuses a new token"))
    if grant.mint is not None:
        recent = recent_mints(state, grant, now)
        if len(recent) >= grant.mint.limit:
            frees = recent[-grant.mint.limit] + timedelta(seconds=grant.mint.seconds)
            waits.append((frees, f"{grant.mint.limit} tokens in {grant.mint.seconds:g} s are all the vendor gives"))
    until, reason = max(waits, default=(now, ""))
    if until > now:
        return Decision("wait", reason, usable=False, until=until)
    return Decision("refresh", "it expires soon" if state.generation else "there is none yet", usable=False)


def recent_mints(state: TokenState, grant: Grant, now: datetime) -> tuple[datetime, ...]:
    """Exchanges that the vendor's window still counts."""
    if grant.mint is None:
        return ()
    horizon = now - timedelta(seconds=grant.mint.seconds)
    return tuple(sorted(at for at in state.mints if at > horizon))


def asking(state: TokenState, grant: Grant, now: datetime) -> TokenState:
    """To be written down before the exchange is sent."""
    return replace(
        state,
        sent_at=now,
        uncertain_since=state.uncertain_since or now,
        mints=(*recent_mints(state, grant, now), now) if grant.mint else (),
    )


def answered(before: TokenState, grant: Grant, outcome: Outcome, sent_at: datetime, now: datetime) -> TokenState:
    """To be written down after the exchange, and before a new token is used. `before`: the state without `asking`, which
    is what stands again when nothing was spent."""
    asked = asking(before, grant, sent_at)
    match outcome:
        case Minted(lifetime_s, rotated):
            lifetime = grant.lifetime_s if lifetime_s is None else lifetime_s
            return TokenState(
                generation=before.generation + 1,
                has_refresh=rotated or before.has_refresh,
                issued_at=sent_at,
                expires_at=None if lifetime is None else sent_at + timedelta(seconds=lifetime),
                mints=asked.mints,
            )
        case Refused(code, final, retry_after_s):
            # A refresh token that is refused inside a grace may be spent by us: then, too, only a new pair helps.
            dead = final and grant.kind == "refresh_token"
            pause = max(_doubling(COOL_DOWN_S, before.failures), retry_after_s or 0.0)
            return replace(
                asked,
                sent_at=None,
                uncertain_since=before.uncertain_since,
                reauthorise_since=before.reauthorise_since or now,
                reason=code,
                retry_at=None if dead else now + timedelta(seconds=pause),
                failures=before.failures + 1,
            )
        case Unspent(retry_after_s):
            # The vendor's word on when to come back is kept exactly.
            pause = _doubling(FIRST_PAUSE_S, before.failures) if retry_after_s is None else retry_after_s
            return replace(
                asked,
                sent_at=None,
                uncertain_since=before.uncertain_since,
                retry_at=now + timedelta(seconds=pause),
                failures=before.failures + 1,
            )
        case Lost(retry_after_s):
            pause = max(_doubling(FIRST_PAUSE_S, before.failures), retry_after_s or 0.0)
            return replace(asked, sent_at=None, retry_at=now + timedelta(seconds=pause), failures=before.failures + 1)


def enrolled(
    before: TokenState, grant: Grant, lifetime_s: float | None, has_refresh: bool, now: datetime
) -> TokenState:
    """The state after an operator authorised anew: a new generation, whatever was wrong with the old."""
    lifetime = grant.lifetime_s if lifetime_s is None else lifetime_s
    return TokenState(
        generation=before.generation + 1,
        has_refresh=has_refresh,
        issued_at=now,
        expires_at=None if lifetime is None else now + timedelta(seconds=lifetime),
        mints=before.mints,
    )


def _doubling(first: float, failures: int) -> float:
    return float(min(LONGEST_PAUSE_S, first * 2 ** min(failures, 20)))
