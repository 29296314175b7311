"""What vendors say about their quota: standard forms, and a reset in whichever form it comes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_pipeline.gateway.feedback import PAST, count, placed, reset_at, retry_after, x_ratelimit
from sync_pipeline.gateway.feedback_ietf import ietf, items
from sync_pipeline.gateway.feedback_vendors import HEADERS, REFUSALS, heard
from sync_pipeline.kernel.feed import QuotaFeedback, QuotaWindow
from sync_pipeline.kernel.instants import ABSURD

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MOMENTS = st.integers(1_577_836_800, 2_840_140_800).map(lambda epoch: datetime.fromtimestamp(epoch, UTC))
"""2020 to 2060."""
AHEAD = st.integers(0, int(ABSURD.total_seconds()))
BAD = [
    "",
    " ",
    "-1",
    "nan",
    "inf",
    "1e9",
    "0x10",
    "1_000",
    "١٢",
    "soon",
    "946684800",
    "4102444800",
    "1" * 30,
    "--",
    "12:30",
]


@given(MOMENTS, AHEAD)
def test_each_form_of_a_reset_is_recognised(now: datetime, ahead: int) -> None:
    at = now + timedelta(seconds=ahead)
    epoch = int(at.timestamp())
    for value, form in (
        (str(ahead), "delta_s"),
        (str(epoch), "epoch_s"),
        (str(epoch * 1000), "epoch_ms"),
        (format_datetime(at, usegmt=True), "date"),
        (at.isoformat(), "date"),
    ):
        found = reset_at(value, now)
        assert found is not None
        assert (found.at, found.form) == (at, form)


@given(MOMENTS, st.one_of(st.text(max_size=30), st.integers(-(10**18), 10**18).map(str), st.floats().map(str)))
def test_no_reset_is_far_from_now(now: datetime, value: str) -> None:
    """A relative reset read as 1970, or milliseconds read as seconds, would be (airbyte-python-cdk#1151)."""
    found = reset_at(value, now)
    assert found is None or -PAST <= found.at - now <= ABSURD


@pytest.mark.parametrize("value", BAD)
def test_nonsense_is_refused(value: str) -> None:
    assert reset_at(value, NOW) is None
    assert (count(value) is None) == (not re.fullmatch("[0-9]{1,15}", value))


def test_retry_after_is_never_cut() -> None:
    """Fides and dlt cut it to 300 s, Svix to twice its own pause."""
    assert retry_after({"retry-after": "86400"}, NOW) == timedelta(days=1)
    assert retry_after({"retry-after": "5, 120"}, NOW) == timedelta(seconds=120)
    for value in ("120, soon", "soon, 120", "120, -1", "x9, 120, 5, nan", "120, ", ", 120"):
        assert retry_after({"retry-after": value}, NOW) == timedelta(seconds=120), (
            "nonsense beside it takes nothing from it"
        )
    assert retry_after({"retry-after": "soon, nan, -5"}, NOW) is None
    dates = [format_datetime(NOW + timedelta(seconds=wait), usegmt=True) for wait in (60, 90)]
    for value in (", ".join(dates), ", ".join(reversed(dates)), f"5, {dates[1]}", f"{dates[1]}, 5"):
        assert retry_after({"retry-after": value}, NOW) == timedelta(seconds=90)
    assert retry_after({"retry-after": format_datetime(NOW + timedelta(days=1), usegmt=True)}, NOW) == timedelta(days=1)
    assert retry_after({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359"}, NOW) in (None, timedelta(0))


@given(MOMENTS, AHEAD, st.integers(-600, 600), st.integers(0, 30))
def test_an_instant_is_read_by_the_vendors_clock(vendor: datetime, ahead: int, skew: int, on_its_way: int) -> None:
    """A worker whose clock is 5 s fast must not call 5 s early; one whose clock is slow waits for that much longer."""
    until = vendor + timedelta(seconds=ahead)
    epoch = int(until.timestamp())
    came = vendor + timedelta(seconds=on_its_way + skew)
    date = {"date": format_datetime(vendor, usegmt=True)}
    found = retry_after(date | {"retry-after": format_datetime(until, usegmt=True)}, came)
    assert found is not None
    assert ahead <= found.total_seconds() <= ahead + max(0, -skew)
    for value in (str(epoch), str(epoch * 1000), format_datetime(until, usegmt=True), until.isoformat()):
        (word,) = x_ratelimit(date | {"x-ratelimit-remaining": "7", "x-ratelimit-reset": value}, came)
        if word.reset_at is None:  # by a clock that is slow it is more than a month ahead
            assert until - came > ABSURD
        else:
            assert ahead <= (word.reset_at - came).total_seconds() <= ahead + max(0, -skew)
    (word,) = x_ratelimit(date | {"x-ratelimit-remaining": "7", "x-ratelimit-reset": "60"}, came)
    assert word.reset_at == came + timedelta(seconds=60), "a delay is by nobody's clock"


@given(AHEAD, st.one_of(MOMENTS.map(lambda at: format_datetime(at, usegmt=True)), st.sampled_from([*BAD, "0"])))
def test_no_date_makes_a_wait_shorter_than_our_clock_has_it(ahead: int, date: str) -> None:
    """A `Date` that is years off is not what the moment was reckoned by; one that is no date says nothing."""
    until = NOW + timedelta(seconds=ahead)
    said = {"retry-after": format_datetime(until, usegmt=True), "date": date}
    found = retry_after(said, NOW)
    assert found is not None
    assert timedelta(seconds=ahead) <= found <= ABSURD
    (word,) = x_ratelimit(
        {"x-ratelimit-remaining": "7", "x-ratelimit-reset": str(int(until.timestamp())), "date": date}, NOW
    )
    assert word.reset_at is not None
    assert until <= word.reset_at <= NOW + ABSURD


@pytest.mark.parametrize("off", [timedelta(days=-365), timedelta(days=365), timedelta(days=-20_000)])
def test_when_one_of_the_clocks_is_years_off_the_other_is_believed(off: timedelta) -> None:
    said = {"retry-after": format_datetime(NOW + timedelta(seconds=60), usegmt=True)}
    now = format_datetime(NOW, usegmt=True)
    assert retry_after(said | {"date": format_datetime(NOW + off, usegmt=True)}, NOW) == timedelta(seconds=60)
    assert retry_after(said | {"date": now}, NOW + off) == timedelta(seconds=60)


def test_x_ratelimit_in_both_spellings() -> None:
    said = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "7", "x-ratelimit-reset": str(int(NOW.timestamp()) + 9)}
    (word,) = x_ratelimit(said, NOW)
    assert (word.limit, word.remaining, word.reset_at) == (60, 7, NOW + timedelta(seconds=9))
    assert word.source == "x-ratelimit-epoch_s"
    (other,) = x_ratelimit({key.replace("ratelimit", "rate-limit"): value for key, value in said.items()}, NOW)
    assert (other.remaining, other.source) == (7, "x-rate-limit-epoch_s")


def test_several_lines_of_one_header_count_as_the_least() -> None:
    assert count("9, 4") == 4
    assert count("9, x") is None
    assert count(None) is None


NAMES = st.text('abcdefghij-_ ;,="\\', min_size=1, max_size=10)
POLICIES = st.lists(
    st.tuples(NAMES, st.integers(0, 10**6), st.integers(1, 90_000), st.integers(0, 10**6), st.integers(0, 90_000)),
    min_size=1,
    max_size=4,
    unique_by=lambda policy: policy[0],
)


def quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(POLICIES, st.sampled_from([",", ", ", " ,\t"]))
def test_named_policies_come_back_as_they_were_sent(policies: list[tuple[str, int, int, int, int]], comma: str) -> None:
    headers = {
        "ratelimit-policy": comma.join(f"{quoted(name)};q={q};w={w}" for name, q, w, _, _ in policies),
        "ratelimit": comma.join(f"{quoted(name)};r={r};t={t}" for name, _, _, r, t in policies),
    }
    assert ietf(headers, NOW) == tuple(
        QuotaFeedback(name, q, r, NOW + timedelta(seconds=t), seconds=w, source="ratelimit")
        for name, q, w, r, t in policies
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ratelimit": '"default";r=50;t=30'}, [("default", None, 50, 30, None)]),
        ({"ratelimit": "default; r=50; t=30"}, [("default", None, 50, 30, None)]),
        ({"ratelimit-policy": '"day";q=1000;w=86400'}, [("day", 1000, None, None, 86_400)]),
        (
            {"ratelimit": '"a";r=9', "ratelimit-policy": '"a";q=10;w=1;pk=:YQ==:,"b";q=50;w=60'},
            [("a", 10, 9, None, 1), ("b", 50, None, None, 60)],
        ),
        ({"ratelimit": '"x";r=9;t=1', "ratelimit-policy": '"x";q=65535;qu="content-bytes";w=10'}, []),
        ({"ratelimit": '"a";r=-1;t=5'}, []),
        ({"ratelimit": '"a";r=1;t=5, "b'}, []),
        ({"ratelimit": '"a";r=1,'}, []),
        ({"ratelimit": "limit=100, remaining=50, reset=5"}, [(None, 100, 50, 5, None)]),
        (
            {"ratelimit": "limit=100, remaining=50, reset=5", "ratelimit-policy": "100;w=60"},
            [(None, 100, 50, 5, 60)],
        ),
        (
            {
                "ratelimit-limit": "10",
                "ratelimit-remaining": "4",
                "ratelimit-reset": "1",
                "ratelimit-policy": "10;w=1, 50;w=60",
            },
            [(None, 10, 4, 1, 1)],
        ),
        (
            {"ratelimit-limit": "100, 10;w=1, 100;w=60", "ratelimit-remaining": "4", "ratelimit-reset": "50"},
            [(None, 100, 4, 50, 60)],
        ),
        ({"ratelimit-reset": "50"}, []),
        ({"ratelimit": '"a";r=1;t=5', "age": "0"}, [("a", None, 1, 5, None)]),
        ({"ratelimit": '"a";r=1;t=5', "age": "9"}, []),
        ({}, []),
    ],
)
def test_ietf_forms_new_and_old(
    headers: dict[str, str], expected: list[tuple[str | None, int | None, int | None, int | None, float | None]]
) -> None:
    found = ietf(headers, NOW)
    assert [
        (
            word.window,
            word.limit,
            word.remaining,
            None if word.reset_at is None else int((word.reset_at - NOW).total_seconds()),
            word.seconds,
        )
        for word in found
    ] == expected


@given(st.one_of(st.text(max_size=60), st.text('";=,?:ab1-. ', max_size=40)))
def test_any_field_is_read_or_ignored(field: str) -> None:
    assert all(isinstance(item.value, str | int | float) for item in items(field))
    for word in ietf({"ratelimit": field, "ratelimit-policy": field, "ratelimit-limit": field}, NOW):
        assert word.remaining is None or word.remaining >= 0


SAYING = [
    "sforce-limit-info",
    "x-hubspot-ratelimit-max",
    "x-hubspot-ratelimit-remaining",
    "x-hubspot-ratelimit-interval-milliseconds",
    "zendesk-ratelimit-x",
    "x-rate-limit-remaining",
    "x-exl-api-remaining",
    "ratelimit",
    "x-ratelimit-reset",
    "x-ratelimit-remaining",
    "retry-after",
    "date",
]


@given(
    st.sampled_from(sorted({*HEADERS, *REFUSALS, "rest"})),
    st.sampled_from([200, 403, 429]),
    st.dictionaries(
        st.sampled_from(SAYING),
        st.one_of(
            st.text(max_size=30), st.integers().map(str), st.just("api-usage=9/5"), st.just("remaining=; total=.")
        ),
    ),
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"[]", b"{}", b"null", b"[null]", b'{"errors":[]}', b'{"errorList":{"error":[1]}}']),
        st.sampled_from(
            [b'{"errorType":"RATE_LIMIT","retry_after":1e300}', b'{"retry_after":true}', b'{"errorList":[]}']
        ),
    ),
)
def test_no_answer_can_make_a_reader_fail(vendor: str, status: int, headers: dict[str, str], body: bytes) -> None:
    for word in heard(vendor, status, headers, body, NOW):
        assert word.remaining is None or word.remaining >= 0
        for moment in (word.reset_at, word.blocked_until):
            assert moment is None or -PAST <= moment - NOW <= ABSURD


def test_a_word_is_placed_on_the_window_it_is_about() -> None:
    second, day = QuotaWindow("burst", 25, 1.0), QuotaWindow("day", 100_000, 86_400.0, "daily")
    both = (second, day)
    named = QuotaFeedback("day", remaining=3)
    assert placed(named, both) == named
    by_length = placed(QuotaFeedback("daily", remaining=3, seconds=86_400.0), both)
    assert by_length is not None
    assert by_length.window == "day"
    by_limit = placed(QuotaFeedback(limit=25, remaining=3), both)
    assert by_limit is not None
    assert by_limit.window == "burst"
    assert placed(QuotaFeedback(remaining=3), both) is None
    alone = placed(QuotaFeedback(limit=20, remaining=3), (second,))
    assert alone is not None
    assert alone.window == "burst"
    # The bursts' 749 calls left must not become the day's.
    assert placed(QuotaFeedback("api-bursts", 750, 749), (day,)) is None
    assert placed(QuotaFeedback("concurrent", remaining=0), (day,)) is None
