"""What single vendors say about their quota, in headers and in the bodies of refusals.

Header readers are `(headers, now)`, body readers `(body, now)`; all are pure, and silent where nothing is said. Bodies are
given only when the vendor refused: a refusal says that a window is spent, and `seconds` how long that window is, but
hardly ever when it starts anew. Window names are the vendor's own words where it has some, else ours; the docstring says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, TypeAlias

import orjson

from sync_pipeline.gateway.feedback import count, reset_at, retry_after, triple, x_ratelimit
from sync_pipeline.gateway.feedback_ietf import ietf
from sync_pipeline.kernel.feed import QuotaFeedback
from sync_pipeline.kernel.instants import ABSURD

Words: TypeAlias = tuple[QuotaFeedback, ...]

DAY_S = 86_400.0

LONGEST_BODY = 65_536
"""A refusal is short; a longer body is something else and is not parsed for it. Bytes."""

_USAGE = re.compile(r"(?:^|[;,])\s*([a-z-]+)=([0-9]{1,15})/([0-9]{1,15})")
_PART = re.compile(r"([A-Za-z]+)\s*=\s*([0-9.]+)")
_ALMA_CODE = re.compile(rb"<errorCode>\s*(\w+)\s*</errorCode>")


def salesforce(headers: Mapping[str, str], now: datetime) -> Words:
    """`Sforce-Limit-Info: api-usage=18/5000; api-bursts=1/750; per-app-api-usage=17/250(appName=x)`, any of them.

    Used and limit of the whole organisation (developer.salesforce.com, headers_api_usage.htm). `api-usage` rolls over
    24 hours; the length of the other two is not documented. The count is worked out behind the calls and may lag.
    """
    words: dict[str, QuotaFeedback] = {}
    for name, used, limit in _USAGE.findall(headers.get("sforce-limit-info", "")):
        words.setdefault(
            name,
            QuotaFeedback(
                name,
                int(limit),
                max(0, int(limit) - int(used)),
                used=int(used),
                seconds=DAY_S if name == "api-usage" else None,
                source="sforce-limit-info",
            ),
        )
    return tuple(words.values())


def salesforce_refusal(body: bytes, now: datetime) -> Words:
    """403 with a list of errors: REQUEST_LIMIT_EXCEEDED names `TotalRequests` or `ConcurrentRequests` in its message.

    Windows: `api-usage` (24 h) and `concurrent` (requests over 20 s that run at the same time; no window of time).
    """
    errors = _json(body)
    for error in errors if isinstance(errors, list) else ():
        if isinstance(error, dict) and error.get("errorCode") == "REQUEST_LIMIT_EXCEEDED":
            if "ConcurrentRequests" in str(error.get("message", "")):
                return (_spent("concurrent", None, "REQUEST_LIMIT_EXCEEDED"),)
            return (_spent("api-usage", DAY_S, "REQUEST_LIMIT_EXCEEDED"),)
    return ()


def hubspot(headers: Mapping[str, str], now: datetime) -> Words:
    """`X-HubSpot-RateLimit-Max`/`-Remaining` for `-Interval-Milliseconds`, `-Daily`, `-Secondly` (HubSpot changelog
    2018-11-06). Windows `interval`, `daily` and `secondly`.

    Absent on search; the daily ones also for OAuth. The day is the account's own (second-hand), so its reset is not said.
    `secondly` is old and not enforced any more (second-hand): give it no window, and nothing is lowered for it.
    """
    prefix = "x-hubspot-ratelimit-"
    interval = count(headers.get(f"{prefix}interval-milliseconds"))
    forms: tuple[tuple[str, str, float | None], ...] = (
        ("interval", "max", interval / 1000 if interval else None),
        ("daily", "daily", DAY_S),
        ("secondly", "secondly", 1.0),
    )
    words = []
    for window, name, seconds in forms:
        limit = count(headers.get(f"{prefix}{name}"))
        left = count(headers.get(f"{prefix}remaining" if name == "max" else f"{prefix}{name}-remaining"))
        if limit is not None or left is not None:
            words.append(QuotaFeedback(window, limit, left, seconds=seconds, source=f"{prefix}{name}"))
    return tuple(words)


def hubspot_refusal(body: bytes, now: datetime) -> Words:
    """429 with `errorType: RATE_LIMIT`: `policyName` says which window; search sends none, only "secondly" in the message.

    Observed bodies, not documented ones. Windows `interval`, `daily`, `search` (5/s, second-hand). `retry_after`, seconds,
    may be put in by the network in front of HubSpot.
    """
    error = _json(body)
    if not isinstance(error, dict):
        return ()
    wait = error.get("retry_after")
    until = None
    if isinstance(wait, int | float) and not isinstance(wait, bool) and 0 <= wait <= ABSURD.total_seconds():
        until = now + timedelta(seconds=wait)
    if error.get("errorType") != "RATE_LIMIT":
        return () if until is None else (QuotaFeedback(blocked_until=until, source="retry_after"),)
    policy, message = str(error.get("policyName", "")), str(error.get("message", ""))
    if policy == "TEN_SECONDLY_ROLLING":
        word = _spent("interval", 10.0, policy)
    elif policy == "DAILY" or (not policy and "daily limit" in message):
        word = _spent("daily", DAY_S, "DAILY")
    elif "secondly limit" in message and "ten_secondly" not in message:
        word = _spent("search", 1.0, "RATE_LIMIT")
    else:
        word = _spent(None, None, "RATE_LIMIT")
    return (replace(word, blocked_until=until),)


def zendesk(headers: Mapping[str, str], now: datetime) -> Words:
    """The account's minute (`X-Rate-Limit`, `X-Rate-Limit-Remaining`, on lists also `ratelimit-*` with the reset in
    seconds) as window `account`, and each `Zendesk-RateLimit-<name>: total=100; remaining=99; resets=41` as window <name>.

    developer.zendesk.com, best practices for avoiding rate limiting; names seen there and in the reference: tickets-index,
    tickets-index-pagination, create-update-user. An endpoint's window can be spent while the account's is not. The length
    of an endpoint's window is not said.
    """
    words: list[QuotaFeedback] = []
    listed = triple(headers, "ratelimit-", now) or QuotaFeedback()
    limit, left = count(headers.get("x-rate-limit")), count(headers.get("x-rate-limit-remaining"))
    least = min((number for number in (left, listed.remaining) if number is not None), default=None)
    if least is not None or limit is not None:
        limit = listed.limit if limit is None else limit
        words.append(QuotaFeedback("account", limit, least, listed.reset_at, seconds=60.0, source="x-rate-limit"))
    for name, value in headers.items():
        lower = name.lower()
        if not lower.startswith("zendesk-ratelimit-"):
            continue
        parts = {key.lower(): number for key, number in _PART.findall(value)}
        left = count(parts.get("remaining"))
        if left is not None:
            reset = reset_at(parts.get("resets", ""), now)
            words.append(
                QuotaFeedback(
                    lower.removeprefix("zendesk-ratelimit-"),
                    count(parts.get("total")),
                    left,
                    None if reset is None else reset.at,
                    source=lower,
                )
            )
    return tuple(words)


def zendesk_refusal(body: bytes, now: datetime) -> Words:
    """429 in plain text, as captured: only the account's own sentence is known, others are about an endpoint."""
    if body[:LONGEST_BODY].strip() == b"Number of allowed API requests per minute exceeded":
        return (_spent("account", 60.0, "text/plain"),)
    return ()


def alma(headers: Mapping[str, str], now: datetime) -> Words:
    """`X-Exl-Api-Remaining`: calls left until midnight, of all keys and the sandbox together. Window `daily`.

    The midnight's zone is not stated, so no reset is given. `X-Exl-Api-Quota` (the day's limit) was seen on the test
    endpoint only, in a public script: unverified.
    """
    left = count(headers.get("x-exl-api-remaining"))
    if left is None:
        return ()
    limit = count(headers.get("x-exl-api-quota"))
    return (QuotaFeedback("daily", limit, left, seconds=DAY_S, source="x-exl-api-remaining"),)


def alma_refusal(body: bytes, now: datetime) -> Words:
    """429, JSON or XML: PER_SECOND_THRESHOLD (25/s of the whole institution; as captured) is window `second`,
    DAILY_THRESHOLD (unverified: from general knowledge) is `daily`."""
    codes = [code.decode("ascii", "replace") for code in _ALMA_CODE.findall(body[:LONGEST_BODY])]
    answer = _json(body)
    listed = answer.get("errorList") if isinstance(answer, dict) else None
    errors = listed.get("error") if isinstance(listed, dict) else None
    # A converter of XML makes an object of a list of one.
    several = [errors] if isinstance(errors, dict) else errors if isinstance(errors, list) else ()
    codes.extend(str(error.get("errorCode", "")) for error in several if isinstance(error, dict))
    known = {"PER_SECOND_THRESHOLD": ("second", 1.0), "DAILY_THRESHOLD": ("daily", DAY_S)}
    return tuple(_spent(*known[code], code) for code in dict.fromkeys(codes) if code in known)


def eventbrite_refusal(body: bytes, now: datetime) -> Words:
    """429 `{"error": "HIT_RATE_LIMIT"}`: 2,000 calls an hour for a token (Eventbrite's API reference). Window `hourly`.

    A daily cap of 48,000 is second-hand; where the description says so, the window is `daily`. The wording of the
    description is from a table of the documentation, not from a captured answer.
    """
    error = _json(body)
    if not isinstance(error, dict) or error.get("error") != "HIT_RATE_LIMIT":
        return ()
    if "daily" in str(error.get("error_description", "")).lower():
        return (_spent("daily", DAY_S, "HIT_RATE_LIMIT"),)
    return (_spent("hourly", 3600.0, "HIT_RATE_LIMIT"),)


def mews(headers: Mapping[str, str], now: datetime) -> Words:
    """Mews has no limit headers, and its error bodies (`Message`, `Details`) do not name the window: of a 429 only
    `Retry-After` speaks, and it may be absent (Mews Connector API, guidelines, requests and responses)."""
    wait = retry_after(headers, now)
    return () if wait is None else (QuotaFeedback(blocked_until=now + wait, source="retry-after"),)


def mews_refusal(body: bytes, now: datetime) -> Words:
    """429: 200 requests in 30 s of one access token are spent. Window `requests`; the window is anchored at the first
    request of the burst, so its end is not known."""
    error = _json(body)
    return (_spent("requests", 30.0, "429"),) if isinstance(error, dict) and "Message" in error else ()


def channex_refusal(body: bytes, now: datetime) -> Words:
    """429 `{"errors": {"code": "http_too_many_requests"}}`: 10 a minute, property and endpoint; which is not said.

    The page on rate limits asks to leave the property alone for one minute after it: `blocked_until`.
    """
    answer = _json(body)
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if not isinstance(errors, dict) or errors.get("code") != "http_too_many_requests":
        return ()
    word = _spent(None, 60.0, "http_too_many_requests")
    return (replace(word, blocked_until=now + timedelta(minutes=1)),)


def _standard(headers: Mapping[str, str], now: datetime) -> Words:
    names = " ".join(headers)
    if "ratelimit" not in names and "rate-limit" not in names:
        return ()  # as with most vendors
    return ietf(headers, now) or x_ratelimit(headers, now)


def _spent(window: str | None, seconds: float | None, source: str) -> QuotaFeedback:
    return QuotaFeedback(window, remaining=0, seconds=seconds, source=source)


def _json(body: bytes) -> Any:
    if len(body) > LONGEST_BODY:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


HEADERS: Mapping[str, Callable[[Mapping[str, str], datetime], Words]] = MappingProxyType(
    {"salesforce": salesforce, "hubspot": hubspot, "zendesk": zendesk, "alma": alma, "mews": mews}
)
REFUSALS: Mapping[str, Callable[[bytes, datetime], Words]] = MappingProxyType(
    {
        "salesforce": salesforce_refusal,
        "hubspot": hubspot_refusal,
        "zendesk": zendesk_refusal,
        "alma": alma_refusal,
        "eventbrite": eventbrite_refusal,
        "mews": mews_refusal,
        "channex": channex_refusal,
    }
)
"""The body readers; to be asked only about answers by which the vendor refused (429, and Salesforce's 403)."""


def heard(vendor: str, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Words:
    """All that an answer says about the quota: the vendor's own form, else the standard ones. Header names in lower case."""
    return HEADERS.get(vendor, _standard)(headers, now) + refusal(vendor, status, body, now)


def refusal(vendor: str, status: int, body: bytes, now: datetime) -> Words:
    """What the body of a refusal for the limit names; nothing for any other answer."""
    refused = status == 429 or (vendor == "salesforce" and status == 403)
    return REFUSALS[vendor](body, now) if refused and vendor in REFUSALS else ()
