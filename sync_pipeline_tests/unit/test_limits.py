"""A limit in YAML is kept as it is written or refused with a sentence: one that is dropped would let the vendor be overrun."""

from __future__ import annotations

from typing import Any

import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import Connection, Cursor
from sync_pipeline.vendors.catalogue import build_connection, with_environment
from sync_pipeline.vendors.config import ConnectionConfig

EVENTBRITE: dict[str, Any] = {
    "name": "eb", "vendor": "eventbrite", "base_url": "https://x.example/v3", "token_env": "T", "organization": "1",
    "feeds": [{"name": "orders"}, {"name": "attendees", "enabled": False}],
}  # fmt: skip
PRETIX: dict[str, Any] = {
    "name": "px", "vendor": "pretix", "base_url": "https://x.example/api/v1", "token_env": "T", "organizer": "o",
    "feeds": [{"name": "orders"}, {"name": "positions"}],
}  # fmt: skip
REST: dict[str, Any] = {
    "name": "shop", "vendor": "rest", "base_url": "https://x.example", "token_env": "T",
    "limits": [{"name": "minute", "limit": 300, "seconds": 60}, {"name": "day", "limit": 9000, "seconds": 86_400}],
    "feeds": [{"name": "orders", "contract": "some.module:Contract", "rest": {"path": "/shops/17/orders?all=1"}}],
}  # fmt: skip
ONE: dict[str, Any] = {"limit": 5, "seconds": 3600}
EVENT_ORDERS = "/organizers/{organizer}/events/{event}/orders/"


def built(base: dict[str, Any], **changes: Any) -> Connection:
    return build_connection(ConnectionConfig.parse({**base, **changes}, where="defs.yaml"))


def names(limits: list[dict[str, Any]]) -> list[str]:
    return [window.name for window in built(EVENTBRITE, limits=limits).windows]


def test_limits_without_names_are_told_apart_by_their_place() -> None:
    assert names([ONE]) == ["window"], "as it always was: stored windows are found by it"
    assert names([ONE, {**ONE, "name": "day"}, ONE, ONE]) == ["window", "day", "window_2", "window_3"]


def test_names_are_the_same_under_an_environment() -> None:
    config = ConnectionConfig.parse({**EVENTBRITE, "limits": [ONE, ONE]}, where="defs.yaml")
    again = with_environment(config, {"SYNC_EB_TOKEN_ENV": "OTHER"})
    assert [limit.name for limit in again.limits] == ["window", "window_2"]


def test_each_of_several_limits_of_an_endpoint_is_kept() -> None:
    entry = {"endpoint": "/organizations/{id}/orders/", "limits": [ONE, {"limit": 50, "seconds": 86_400}]}
    [_, node] = built(EVENTBRITE, endpoint_limits=[entry]).quota
    assert [(window.name, window.limit) for window in node.windows] == [("window", 5), ("window_2", 50)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"limits": [{**ONE, "name": "hour"}, {**ONE, "name": "hour"}]}, "limits: the name hour stands twice"),
        ({"vendor_limits": [ONE, {**ONE, "name": "window"}]}, "vendor_limits: the name window stands twice"),
        ({"credential_limits": [ONE, ONE, {**ONE, "name": "window_2"}]}, "the name window_2 stands twice"),
        ({"endpoint_limits": [{"endpoint": "/o/", "limits": [ONE]}] * 2}, "endpoint_limits: /o/ stands twice"),
        ({"limits": [{"limit": 360, "seconds": 60, "kind": "daily"}]}, "a daily limit is one of 86400; for 60 write"),
        ({"limits": [{"limit": 9, "seconds": 86_400, "kind": "daily", "burst": 3}]}, "burst: a daily limit has none"),
        ({"limits": [{**ONE, "zone": "Europe/Berlin"}]}, "zone: only a daily limit has one"),
        ({"limits": [{"limit": 9, "seconds": float("inf")}]}, "limits.0.seconds"),
        ({"limits": [{"limit": 10, "seconds": 1e-9}]}, "limits.0.seconds: Input should be greater than or equal to 0.01"),
        ({"limits": [{"limit": 10, "seconds": 1e9}]}, "limits.0.seconds: Input should be less than or equal to 31622400"),
        ({"limits": [{"limit": 2**31, "seconds": 1}]}, "limits.0.limit: Input should be less than or equal to 2147483647"),
        ({"limits": [{"limit": 10**20, "seconds": 1}]}, "limits.0.limit: Input should be less than"),
        ({"vendor_limits": [{"limit": 10, "seconds": 0.001}]}, "vendor_limits.0.seconds: Input should be greater"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        built(EVENTBRITE, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("window", "limits", "names"),
    [
        ("minute", "100/60,5000/86400", ["minute", "window_1"]),
        ("minute", "5000/86400,100/60", ["window_0", "minute"]),
        ("day", "5000/86400", ["day"]),
        ("minute", "100/30,5000/86400", ["minute", "window_1"]),
        (None, "100/60,5000/86400", ["window_0", "window_1"]),
    ],
)
def test_headers_speak_of_an_environments_limit_too(window: str | None, limits: str, names: list[str]) -> None:
    config = ConnectionConfig.parse({**REST, "rate_headers": {"window": window}}, where="defs.yaml")
    made = build_connection(with_environment(config, {"SYNC_SHOP_LIMITS": limits}))
    assert [one.name for one in made.windows] == names


def test_an_environment_without_the_limit_that_headers_speak_of_is_one_sentence() -> None:
    config = ConnectionConfig.parse({**REST, "rate_headers": {"window": "minute"}}, where="defs.yaml")
    with pytest.raises(ConfigurationError) as caught:
        with_environment(config, {"SYNC_SHOP_LIMITS": "5000/86400"})
    assert str(caught.value) == (
        "SYNC_SHOP_LIMITS: rate_headers speak of the limit minute, which is of 60 s, and none here is; write one, like 300/60"
    )


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ("10/1e-9", "limits.0.seconds: Input should be greater than or equal to 0.01; correct the environment"),
        ("5/60,10/1e300", "limits.1.seconds: Input should be less than or equal to 31622400; correct the environment"),
        ("99999999999/60", "limits.0.limit: Input should be less than or equal to 2147483647; correct the environment"),
        ("5/nan", "limits.0.seconds: "),
    ],
)
def test_what_the_environment_says_is_held_to_the_same(limits: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_environment(ConnectionConfig.parse(EVENTBRITE, where="defs.yaml"), {"SYNC_EB_LIMITS": limits})
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_shortest_window_and_the_greatest_limit_are_taken() -> None:
    [window] = built(EVENTBRITE, limits=[{"limit": 2**31 - 1, "seconds": 0.01}]).windows
    assert (window.limit, window.seconds) == (2**31 - 1, 0.01)


def test_headers_speak_of_a_limit_that_there_is() -> None:
    built(REST, rate_headers={"window": "day"})
    with pytest.raises(
        ConfigurationError, match=r"rate_headers.window: no limit is called minutes; the limits are: minute, day"
    ):
        built(REST, rate_headers={"window": "minutes"})


@pytest.mark.parametrize("token", ["QWERTYUIOPASDFGHJKLZ", "qwertyUIOP123456zz", "QW3RTYU10PASDFGHJKLZ"])
def test_a_token_in_the_place_of_its_name_names_no_scope(token: str) -> None:
    """Scopes are stored and shown."""
    made, other = (
        built(EVENTBRITE, token_env=name, credential_limits=[ONE], account=None) for name in (token, token + "Z")
    )
    assert token not in repr(made.quota)
    assert len({node.scope for node in (*made.quota, *other.quota)}) == 4, "each name has its own"


def test_a_name_is_its_scope() -> None:
    made = built(EVENTBRITE, token_env="EVENTBRITE_TOKEN", credential_limits=[ONE])
    assert [node.scope for node in made.quota] == ["token EVENTBRITE_TOKEN", "credential EVENTBRITE_TOKEN"]


GRANT = {
    "grant": {"kind": "client_credentials", "path": "/oauth/token", "client_id_env": "I", "client_secret_env": "S"}
}


@pytest.mark.parametrize(
    ("base", "changes", "endpoint"),
    [
        (EVENTBRITE, {}, "/organizations/{id}/orders/"),
        (EVENTBRITE, {}, "/organizations/{id}/attendees/"),
        (EVENTBRITE, {"events": ["7"]}, "/events/{id}/orders/"),
        (PRETIX, {}, "/organizers/{organizer}/orders/"),
        (PRETIX, {}, "/organizers/{organizer}/events/"),
        (PRETIX, {}, EVENT_ORDERS),
        (PRETIX, {"events": ["conf"]}, EVENT_ORDERS),
        (REST, {}, "/shops/{id}/orders"),
        (REST, {"auth": GRANT, "token_env": None}, "/oauth/token"),
    ],
)
def test_an_endpoint_that_is_asked_may_be_limited(base: dict[str, Any], changes: dict[str, Any], endpoint: str) -> None:
    made = built(base, endpoint_limits=[{"endpoint": endpoint, "limits": [ONE]}], **changes)
    assert [node.endpoint for node in made.quota] == [None, endpoint]


@pytest.mark.parametrize(
    ("base", "changes", "endpoint", "asked"),
    [
        (EVENTBRITE, {}, "/organizations/{id}/orders", "/organizations/{id}/attendees/, /organizations/{id}/orders/"),
        (EVENTBRITE, {"events": ["7"]}, "/organizations/{id}/orders/", "/events/{id}/attendees/, /events/{id}/orders/"),
        (PRETIX, {"events": ["conf"]}, "/organizers/{organizer}/orders/", EVENT_ORDERS),
        (REST, {}, "/shops/17/orders", "/shops/{id}/orders"),
        (REST, {}, "/oauth/token", "/shops/{id}/orders"),
    ],
)
def test_an_endpoint_that_nothing_asks_is_refused(
    base: dict[str, Any], changes: dict[str, Any], endpoint: str, asked: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        built(base, endpoint_limits=[{"endpoint": endpoint, "limits": [ONE]}], **changes)
    assert f"endpoint_limits: nothing asks {endpoint}, " in str(caught.value)
    assert str(caught.value).endswith(f"; asked are: {asked}")


def test_what_a_feed_asks_is_what_it_says_it_may_ask() -> None:
    """By way of the limit: it is found under the template of the feed's own request."""
    for base, changes in (
        (EVENTBRITE, {}),
        (EVENTBRITE, {"events": ["7"]}),
        (PRETIX, {}),
        (PRETIX, {"events": ["c"]}),
        (REST, {}),
    ):
        asked = built(base, **changes).feeds["orders"].request(Cursor()).endpoint
        built(base, endpoint_limits=[{"endpoint": asked, "limits": [ONE]}], **changes)
