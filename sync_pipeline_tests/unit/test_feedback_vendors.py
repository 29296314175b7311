"""Each vendor's own form, as its documentation or a captured answer has it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from sync_pipeline.gateway.feedback_vendors import HEADERS, REFUSALS, heard
from sync_pipeline.vendors.config import Form

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
Found = tuple[str | None, int | None, int | None, float | None]


def told(vendor: str, status: int, headers: dict[str, str], body: bytes = b"") -> list[Found]:
    return [
        (word.window, word.limit, word.remaining, word.seconds) for word in heard(vendor, status, headers, body, NOW)
    ]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("api-usage=18/5000", [("api-usage", 5000, 4982, 86_400.0)]),
        (
            "api-usage=10018/100000; api-bursts=1/750",
            [("api-usage", 100_000, 89_982, 86_400.0), ("api-bursts", 750, 749, None)],
        ),
        (
            "api-usage=25/5000; per-app-api-usage=17/250(appName=sample; api-usage=0/9)",
            [("api-usage", 5000, 4975, 86_400.0), ("per-app-api-usage", 250, 233, None)],
        ),
        ("api-usage=6000/5000", [("api-usage", 5000, 0, 86_400.0)]),
        ("api-usage=x/5000", []),
    ],
)
def test_salesforce_header_with_and_without_bursts(header: str, expected: list[Found]) -> None:
    assert told("salesforce", 200, {"sforce-limit-info": header}) == expected


def test_salesforce_refuses_with_403_and_a_list() -> None:
    body = b'[{"message":"%s Limit exceeded.","errorCode":"REQUEST_LIMIT_EXCEEDED"}]'
    assert told("salesforce", 403, {}, body % b"TotalRequests") == [("api-usage", None, 0, 86_400.0)]
    concurrent = b"ConcurrentRequests (Concurrent API Requests)"
    assert told("salesforce", 403, {}, body % concurrent) == [("concurrent", None, 0, None)]
    assert told("salesforce", 403, {}, b'[{"message":"no","errorCode":"INSUFFICIENT_ACCESS"}]') == []
    assert heard("salesforce", 200, {"sforce-limit-info": "api-usage=18/5000"}, b"", NOW)[0].used == 18


def test_hubspot_headers() -> None:
    prefix = "x-hubspot-ratelimit-"
    headers = {
        f"{prefix}max": "100",
        f"{prefix}remaining": "96",
        f"{prefix}interval-milliseconds": "10000",
        f"{prefix}daily": "250000",
        f"{prefix}daily-remaining": "249000",
        f"{prefix}secondly": "10",
        f"{prefix}secondly-remaining": "9",
    }
    interval: Found = ("interval", 100, 96, 10.0)
    assert told("hubspot", 200, headers) == [
        interval,
        ("daily", 250_000, 249_000, 86_400.0),
        ("secondly", 10, 9, 1.0),
    ]
    for name in ("daily", "secondly"):
        del headers[prefix + name], headers[f"{prefix}{name}-remaining"]
    assert told("hubspot", 200, headers) == [interval]
    assert told("hubspot", 200, {}) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            b'{"status":"error","message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT",'
            b'"policyName":"TEN_SECONDLY_ROLLING"}',
            ("interval", None, 0, 10.0),
        ),
        (
            b'{"message":"You have reached your daily limit.","errorType":"RATE_LIMIT","policyName":"DAILY"}',
            ("daily", None, 0, 86_400.0),
        ),
        (
            b'{"message":"You have reached your ten_secondly_rolling limit.","errorType":"RATE_LIMIT"}',
            (None, None, 0, None),
        ),
        (b'{"message":"You have reached your secondly limit.","errorType":"RATE_LIMIT"}', ("search", None, 0, 1.0)),
    ],
)
def test_hubspot_refusals(body: bytes, expected: Found) -> None:
    assert told("hubspot", 429, {}, body) == [expected]
    assert told("hubspot", 200, {}, body) == []


def test_hubspot_retry_after_in_the_body() -> None:
    (word,) = heard("hubspot", 429, {}, b'{"retry_after": 30}', NOW)
    assert word.blocked_until == NOW + timedelta(seconds=30)


def test_zendesk_account_and_endpoint_windows() -> None:
    headers = {
        "x-rate-limit": "700",
        "ratelimit-limit": "700",
        "x-rate-limit-remaining": "699",
        "ratelimit-remaining": "698",
        "ratelimit-reset": "41",
        "zendesk-ratelimit-tickets-index": "total=100; remaining=99; resets=43",
    }
    account, endpoint = heard("zendesk", 200, headers, b"", NOW)
    assert (account.window, account.limit, account.remaining, account.seconds) == ("account", 700, 698, 60.0)
    assert account.reset_at == NOW + timedelta(seconds=41)
    assert (endpoint.window, endpoint.limit, endpoint.remaining) == ("tickets-index", 100, 99)
    assert endpoint.reset_at == NOW + timedelta(seconds=43)
    assert told("zendesk", 200, {"x-rate-limit": "700", "x-rate-limit-remaining": "0"}) == [("account", 700, 0, 60.0)]
    text = b"Number of allowed API requests per minute exceeded"
    assert told("zendesk", 429, {}, text) == [("account", None, 0, 60.0)]
    assert told("zendesk", 429, {}, b"Rate limit for ticket updates exceeded, please wait") == []


def test_alma_counts_down_the_day_and_refuses_by_code() -> None:
    assert told("alma", 200, {"x-exl-api-remaining": "498668"}) == [("daily", None, 498_668, 86_400.0)]
    json = b'{"errorsExist":true,"errorList":{"error":[{"errorCode":"PER_SECOND_THRESHOLD","trackingId":"E01"}]},"result":null}'
    xml = b"<web_service_result><errorList><error><errorCode>DAILY_THRESHOLD</errorCode></error></errorList></web_service_result>"
    assert told("alma", 429, {}, json) == [("second", None, 0, 1.0)]
    assert told("alma", 429, {}, json.replace(b"[", b"").replace(b"]", b"")) == [("second", None, 0, 1.0)]
    assert told("alma", 429, {}, xml) == [("daily", None, 0, 86_400.0)]
    assert told("alma", 429, {}, b'{"errorList":{"error":[{"errorCode":"401861"}]}}') == []


def test_eventbrite_mews_and_channex_refusals() -> None:
    hourly = b'{"error_description":"Hourly rate limit has been reached for this token.","error":"HIT_RATE_LIMIT"}'
    assert told("eventbrite", 429, {}, hourly) == [("hourly", None, 0, 3600.0)]
    assert told("eventbrite", 429, {}, b'{"error":"NOT_FOUND"}') == []

    waiting, spent = heard("mews", 429, {"retry-after": "12"}, b'{"Message":"Too many requests","Details":null}', NOW)
    assert waiting.blocked_until == NOW + timedelta(seconds=12)
    assert (spent.window, spent.remaining, spent.seconds) == ("requests", 0, 30.0)
    assert told("mews", 429, {}, b"") == []

    (asked,) = heard(
        "channex", 429, {}, b'{"errors":{"code":"http_too_many_requests","title":"Too Many Requests"}}', NOW
    )
    assert (asked.window, asked.remaining, asked.blocked_until) == (None, 0, NOW + timedelta(minutes=1))
    assert told("channex", 401, {}, b'{"errors":{"code":"unauthorized","title":"Unauthorized"}}') == []


def test_others_are_read_by_the_standard_forms() -> None:
    assert told("rest", 200, {"x-ratelimit-limit": "9", "x-ratelimit-remaining": "2"}) == [(None, 9, 2, None)]
    assert told("rest", 200, {"ratelimit": '"a";r=1', "x-ratelimit-remaining": "2"}) == [("a", None, 1, None)]
    assert told("eventbrite", 200, {}) == []


def test_a_connection_can_name_each_vendor_whose_form_is_read_and_no_other() -> None:
    assert set(get_args(Form)) == HEADERS.keys() | REFUSALS.keys()
