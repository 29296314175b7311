"""Reading `Retry-After`: seconds or an HTTP date (RFC 9110, 10.2.3). Honoured exactly; nonsense is no answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

ABSURD = timedelta(days=31)
"""No vendor means a month: a larger value is an instant or a mistake, and is treated as not said."""


def retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """How long the vendor asks to be left alone; None when it does not say, or says nothing sensible."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        return _until(value, now)
    if not math.isfinite(seconds) or seconds < 0 or seconds > ABSURD.total_seconds():
        return None
    return timedelta(seconds=seconds)


def _until(value: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    left = max(timedelta(0), moment - now)
    return None if left > ABSURD else left
