"""What any vendor may say about its quota: `Retry-After`, `X-RateLimit-*`, and a reset in whichever form it comes.

Nonsense is no answer: a reader returns nothing rather than a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

from sync_pipeline.kernel.feed import QuotaFeedback, QuotaWindow
from sync_pipeline.kernel.instants import ABSURD, ahead

PAST = timedelta(hours=1)
"""A reset this long ago may be a skewed clock or a slow answer; an older one is a mistake."""

Form = Literal["delta_s", "epoch_s", "epoch_ms", "date"]

_SEVERAL = re.compile(r",(?=\s*(?:\d+(?:\.\d+)?\s*(?:,|$)|[A-Za-z]+,))")
"""Between values of `Retry-After`: a number or the name of a day follows. (A date has a comma of its own.)"""

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Reset:
    """When a window starts anew, and how the vendor wrote it."""

    at: datetime
    form: Form


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long the vendor asks to be left alone, from `now` on, when the answer came; None when it does not say, or says
    nothing sensible.

    Seconds or an HTTP date (RFC 9110, 10.2.3), honoured exactly: never cut.
    """
    # Two servers on the way may each have added a line: the longest wait that makes sense is honoured.
    waits = [wait for part in _SEVERAL.split(headers.get("retry-after", "")) for wait in _delays(part, headers, now)]
    return max(waits, default=None)


def _delays(value: str, headers: Mapping[str, str], now: datetime) -> list[timedelta]:
    """What makes sense of `value`: all of it, or what stands between its commas."""
    whole = [value] if _delay(value, headers, now) is not None else value.split(",")
    return [wait for part in whole if (wait := _delay(part, headers, now)) is not None]


def _delay(value: str, headers: Mapping[str, str], now: datetime) -> timedelta | None:
    value = value.strip()
    try:
        seconds = float(value)
    except ValueError:
        left = None if (moment := _date(value)) is None else _left(moment, headers, now)
        return None if left is None else max(timedelta(0), left)
    if not math.isfinite(seconds) or seconds < 0 or seconds > ABSURD.total_seconds():
        return None
    return timedelta(seconds=seconds)


def _left(moment: datetime, headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How far the vendor's `moment` is ahead of the answer that names it; None if it is absurd."""
    return ahead(moment, now, _date(headers.get("date", "")))


def _date(value: str) -> datetime | None:
    """An HTTP date, or ISO 8601; without a zone it is UTC."""
    for read in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = read(value)
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return None


def reset_at(value: str, now: datetime) -> Reset | None:
    """When the window starts anew: seconds from now, epoch seconds, epoch milliseconds, an HTTP date or ISO 8601.

    The forms cannot be confused: up to ABSURD a number is a delay, and an instant must lie between PAST ago and ABSURD
    ahead. None for everything else, so that a delay is never read as 1970 nor milliseconds as a far century.
    """
    value = value.strip()
    if not _NUMBER.fullmatch(value):
        moment = None if re.fullmatch(r"[-+\d.\s]*", value) else _date(value)
        return Reset(moment, "date") if moment is not None and _near(moment - now) else None
    number = float(value)
    if number <= ABSURD.total_seconds():
        return Reset(now + timedelta(seconds=number), "delta_s")
    forms: tuple[tuple[Form, float], ...] = (("epoch_s", number), ("epoch_ms", number / 1000))
    for form, seconds in forms:
        ahead = seconds - now.timestamp()
        if abs(ahead) <= ABSURD.total_seconds() and _near(timedelta(seconds=ahead)):
            return Reset(datetime.fromtimestamp(seconds, UTC), form)
    return None


def _near(ahead: timedelta) -> bool:
    return -PAST <= ahead <= ABSURD


def count(value: str | None) -> int | None:
    """A number of calls, or None. Of several (repeated header lines) the least: it is the safe one."""
    if value is None:
        return None
    found = [part.partition(";")[0].strip() for part in value.split(",")]
    if not all(map(_NUMBER.fullmatch, found)):
        return None
    return min(int(float(part)) for part in found)


def triple(
    headers: Mapping[str, str], prefix: str, now: datetime, *, window: str | None = None
) -> QuotaFeedback | None:
    """`<prefix>limit`, `<prefix>remaining` and `<prefix>reset`, as far as they are there and make sense."""
    # `100, 100;w=10, 1000;w=3600`: the first is the limit that the other two headers are about, the rest are policies.
    limit = count(headers.get(f"{prefix}limit", "").partition(",")[0])
    remaining = count(headers.get(f"{prefix}remaining"))
    if limit is None and remaining is None:
        return None
    reset = reset_at(headers.get(f"{prefix}reset", ""), now)
    at = None if reset is None else reset.at
    if reset is not None and reset.form != "delta_s" and (left := _left(reset.at, headers, now)) is not None:
        at = now + left
    return QuotaFeedback(window, limit, remaining, at, source=f"{prefix}{reset.form if reset else '*'}")


def x_ratelimit(headers: Mapping[str, str], now: datetime) -> tuple[QuotaFeedback, ...]:
    """`X-RateLimit-Limit`, `-Remaining`, `-Reset`, also spelt `X-Rate-Limit-*`. No standard says what the reset is:
    `source` ends in the form that was recognised."""
    for prefix in ("x-ratelimit-", "x-rate-limit-"):
        found = triple(headers, prefix, now)
        if found is not None:
            return (found,)
    return ()


def placed(feedback: QuotaFeedback, windows: Sequence[QuotaWindow]) -> QuotaFeedback | None:
    """The same word under our name of the window it is about; None when that cannot be told.

    By name; else the only window of its length (and limit, where several have that length); else the only one with its
    limit. Only a word without name and length may be about the one window there is: a named one that fits nothing is
    about a window we do not keep, and would lower the wrong one.
    """
    if any(window.name == feedback.window for window in windows):
        return feedback
    if feedback.seconds is not None:
        fitting = [window for window in windows if math.isclose(window.seconds, feedback.seconds)]
        if len(fitting) > 1:
            fitting = [window for window in fitting if window.limit == feedback.limit]
    elif feedback.window is None and len(windows) == 1:
        fitting = list(windows)
    else:
        fitting = [window for window in windows if window.limit == feedback.limit]
    return replace(feedback, window=fitting[0].name) if len(fitting) == 1 else None
