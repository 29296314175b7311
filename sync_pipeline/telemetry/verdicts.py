"""Checks as pure decisions: facts in, a verdict with one sentence out. The sentence says what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.polling.schedule import waits
from sync_pipeline.telemetry.facts import Cycle, FeedFacts, Rejections, Standing

DRIFT = timedelta(minutes=10)
REJECTION_RATE = 0.05
LAG_FACTOR = 2.0
NO_RECORDS = "no records in this cycle"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`numbers` are what was judged, for the UI to plot over time."""

    passed: bool
    why: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def conservation(facts: FeedFacts) -> Verdict:
    """Every record a page showed is applied, unchanged, superseded, held or quarantined."""
    numbers = {"received": facts.received, "broken_pages": facts.broken_pages}
    if facts.conserved:
        return Verdict(True, f"{facts.received} records received, all accounted for", numbers)
    return Verdict(
        False,
        f"{facts.broken_pages} pages are not accounted for; run `sync-pipeline verify`, and `sync-pipeline sync` for pages "
        "that were landed but not applied",
        numbers,
    )


def rejection_rate(cycle: FeedFacts | Cycle, rejections: Rejections) -> Verdict:
    """More than a twentieth of a cycle rejected is a change at the vendor, not chance.

    Showings are judged: windows overlap, so that a record may be shown, and rejected, many times in a cycle.
    """
    if not cycle.received:
        return Verdict(True, NO_RECORDS)
    rate = cycle.quarantined / cycle.received
    numbers = {
        "rejected": cycle.quarantined,
        "received": cycle.received,
        "rate": round(rate, 6),
        "records": rejections.records,
    }
    share = f"{cycle.quarantined} of {cycle.received} showings rejected ({rate * 100:.1f} %"
    if rate <= REJECTION_RATE:
        return Verdict(True, f"{share})", numbers)
    named = ", ".join(f"{code} {number}" for code, number in rejections.codes.items())
    if rejections.more_codes:
        named += f" and {_counted(rejections.more_codes, 'more code')}"
    records = f"{_counted(rejections.records, 'different record')}: {named}" if rejections.records else "mended since"
    return Verdict(
        False,
        f"{share}, above {REJECTION_RATE * 100:.0f} %), {records}. Correct the mapping, then "
        "`sync-pipeline quarantine replay --dry-run`",
        numbers,
    )


def rejections_left(last: Cycle, rejections: Rejections) -> Verdict:
    """A cycle that was shown nothing mends nothing: what the last one found stands while any record that it rejected waits.

    `rejections`: those since then that are open.
    """
    verdict = rejection_rate(last, rejections)
    if verdict.passed:
        return Verdict(True, NO_RECORDS)
    if not rejections.records:
        return Verdict(True, f"{NO_RECORDS}; those that the last one rejected are mended")
    return replace(verdict, why=f"{NO_RECORDS}; in the last that had some, {verdict.why}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def cursor_drift(feed: FeedId, standing: Standing) -> Verdict:
    """The feed must have stood at its horizon within ten minutes. One that rests until its next poll is not late: the ten
    minutes count from then, unless an error or a deferral stands in its way."""
    if standing.caught_up_at is None:
        return Verdict(False, f"{feed} has not reached its horizon yet; its first window is still open")
    behind = standing.now - standing.caught_up_at
    numbers = {"behind_s": round(behind.total_seconds(), 1)}
    cause = waiting(standing) or standing.last_error
    rests = standing.next_due is not None and cause is None and standing.now <= standing.next_due + DRIFT
    if behind <= DRIFT or rests:
        planned = f", to be asked at {standing.next_due:%H:%M:%SZ}" if behind > DRIFT else ""
        return Verdict(True, f"at its horizon {behind.total_seconds():.0f} s ago{planned}", numbers)
    # No watermark: all of the history is being listed again, and a resync from anywhere else would leave some of it out.
    start = f"{standing.watermark:%Y-%m-%dT%H:%M:%SZ}" if standing.watermark else "beginning"
    return Verdict(
        False,
        f"{feed} is {behind.total_seconds() / 60:.0f} min behind its horizon{f' ({cause})' if cause else ''}; "
        f"run `sync-pipeline resync {feed} --from {start}`",
        numbers,
    )


def lag(lag_p95_s: float | None, target_s: float) -> Verdict:
    """Vendor change to canonical row, 95th percentile of what this session applied."""
    if lag_p95_s is None:
        return Verdict(True, "no change since the last horizon")
    text = f"p95 lag {lag_p95_s:.1f} s, target {target_s:g} s"
    numbers = {"lag_p95_s": round(lag_p95_s, 2), "target_s": target_s}
    return Verdict(lag_p95_s <= LAG_FACTOR * target_s, text, numbers)


def no_lag() -> Verdict:
    """Of rows that were derived again: how late they first came says nothing of today."""
    return Verdict(True, "derived again from landed pages: no lag to judge")


def schema(expected: frozenset[str], found: frozenset[str], drifted: frozenset[str]) -> Verdict:
    """The canonical table has the contract's columns. Unknown vendor fields are kept in metadata and named here."""
    missing = sorted(expected - found)
    if missing:
        return Verdict(False, f"the table lacks {', '.join(missing)}; start again so that migrations run")
    if drifted:
        return Verdict(
            True, f"contract drift: the vendor sends new fields, kept in metadata: {', '.join(sorted(drifted))}"
        )
    return Verdict(True, "contract and table agree")


def parity(open_deltas: int, day: str | None) -> Verdict:
    where = f" on {day}" if day else ""
    if open_deltas == 0:
        return Verdict(True, f"vendor and store agree{where}", {"open": 0})
    return Verdict(False, f"{open_deltas} differences{where} wait for review; see sync.delta", {"open": open_deltas})


def waiting(standing: Standing) -> str | None:
    """What the UI says of a feed that may not ask yet."""
    until: datetime | None = standing.deferred_until
    if until is None or until <= standing.now:
        return None
    return waits(until, standing.deferred_for, standing.deferred_reason)
