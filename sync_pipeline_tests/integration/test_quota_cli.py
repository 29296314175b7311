"""`sync-pipeline quota` and `breaker`: tables for people, one JSON object for scripts."""

from __future__ import annotations

import pytest

from sync_pipeline.cli.outcome import MAY_PASS, exit_code
from sync_pipeline.cli.quota import duration
from sync_pipeline.gateway.breaker_store import by_hand
from sync_pipeline.kernel.errors import ConfigurationError, Deferred
from sync_pipeline.runtime import load_setups
from sync_pipeline_tests.integration.cli_setting import Terminal
from sync_pipeline_tests.integration.quota_past import a_day, calls


def test_quota_before_any_call(terminal: Terminal) -> None:
    assert "No call has been made yet." in terminal.say("quota")
    assert terminal.json("quota")["Windows"] == []


def test_quota_shows_what_is_left_who_used_it_and_who_waits(terminal: Terminal) -> None:
    nodes = load_setups()["pretix"].connection.quota
    terminal.within(lambda database: a_day(database, *nodes))
    shown = terminal.say("quota")
    for title in (
        "Windows",
        "Calls of the last 24 hours",
        "Used by others on the same key",
        "Waiting for quota",
        "Answers take",
    ):
        assert title in shown
    assert "the day is spent" in shown
    found = terminal.json("quota", "--hours", "48")
    windows = {each["window"]: each for each in found["Windows"]}
    assert {name: (each["limit"], each["used"]) for name, each in windows.items()} == {
        "window_0": (100, 3),
        "window_1": (5000, 3),
    }
    assert {(each["lane"], each["feed"]): each["calls"] for each in found["Calls"]} == {
        ("P0", "(token)"): 1,
        ("P2", "orders"): 37,
        ("P4", "positions"): 20,
    }
    assert [each["calls"] for each in found["Used by others on the same key"]] == [12]
    assert sum(each["calls"] for each in found["by_hour"]) == 58


def test_quota_backfill_says_what_it_costs(terminal: Terminal) -> None:
    terminal.within(lambda database: calls(database, 36))
    assert terminal.json("quota", "backfill", "pretix/orders", "--days", "7") == {
        "calls": 1,
        "share_of_a_day": 0.0002,
        "seconds": pytest.approx(1 / (5000 / 86_400 - 36 / 3600), rel=0.01),
    }
    assert "listing the last 7 days of pretix/orders again: 1 call (" in terminal.say(
        "quota", "backfill", "pretix/orders", "--days", "7"
    )
    terminal.within(lambda database: calls(database, 1000))
    assert terminal.json("quota", "backfill", "pretix/orders")["seconds"] is None
    assert "never: nothing is left of the limit" in terminal.say("quota", "backfill", "pretix/orders")


@pytest.mark.parametrize("arguments", [("pretix",), ("pretix/tickets",), ("nobody/orders",)])
def test_quota_backfill_needs_a_feed(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    done = terminal.run("quota", "backfill", *arguments)
    assert isinstance(done.exception, ConfigurationError)


def test_quota_new_feed(terminal: Terminal) -> None:
    assert terminal.json("quota", "new-feed", "pretix", "--every", "1m") == {
        "calls": 1440,
        "share_of_a_day": 0.288,
        "seconds": 86_400.0,
    }
    assert "1440 calls (28.8% of what the limit gives in a day)" in terminal.say(
        "quota", "new-feed", "pretix", "--every", "1m"
    )


@pytest.mark.parametrize(
    "text", ["", "m", "0s", "-1s", "1.2.3s", "5", "5 m", "²m", "٣m", "1w", "nan s", "99999999999d"]
)
def test_what_is_no_length_of_time_is_one_sentence(terminal: Terminal, text: str) -> None:
    done = terminal.run("quota", "new-feed", "pretix", f"--every={text}")
    assert isinstance(done.exception, ConfigurationError), done.exception
    assert "is no length of time; write 90s, 30m, 2h or 1d" in str(done.exception)


def test_lengths_of_time() -> None:
    assert [duration(text) for text in ("90s", "30m", "2h", "1d", "0.5h")] == [90, 1800, 7200, 86_400, 1800]


def test_a_breaker_is_opened_listed_and_closed(terminal: Terminal) -> None:
    assert "Breakers not closed: nothing" in terminal.say("breaker", "list")
    assert "open for 2.0 h; then one probe is sent" in terminal.say(
        "breaker", "open", "pretix", "/organizers/{organizer}/orders/", "--for", "2h"
    )
    [found] = terminal.json("breaker", "list")["breakers"]
    assert (found["connection"], found["endpoint"], found["state"], found["reason"]) == (
        "pretix",
        "/organizers/{organizer}/orders/",
        "open",
        "opened by an operator",
    )
    assert "/organizers/{organizer}/orders/" in terminal.say("breaker", "list")
    assert ": closed" in terminal.say("breaker", "close", "pretix", "/organizers/{organizer}/orders/")
    assert terminal.json("breaker", "list") == {"breakers": []}
    assert "was not open" in terminal.say("breaker", "close", "pretix", "/organizers/{organizer}/orders/")


def test_a_refused_credential_is_closed_by_its_plain_name(terminal: Terminal) -> None:
    terminal.within(lambda database: by_hand(database, "pretix", "credential 12ab", seconds=60))
    assert ": closed" in terminal.say("breaker", "close", "pretix", "credential")
    terminal.within(lambda database: by_hand(database, "eventbrite", "credential 12ab", seconds=60))
    assert "was not open" in terminal.say("breaker", "close", "pretix", "credential")
    assert len(terminal.json("breaker", "list")["breakers"]) == 1, "another connection's stands"


def test_a_credential_that_is_spared_by_hand_is_waited_for(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRETIX_TOKEN", "abc")
    monkeypatch.setenv("SYNC_PRETIX_BASE_URL", "http://127.0.0.1:1/api/v1")
    terminal.say("breaker", "open", "pretix", "credential")
    done = terminal.run("sync", "pretix")
    assert isinstance(done.exception, Deferred)
    assert exit_code(done.exception) == MAY_PASS
    assert "opened by an operator" in str(done.exception)


def test_a_breaker_of_no_connection_is_refused(terminal: Terminal) -> None:
    for command in (("open", "nobody", "/x/"), ("close", "nobody", "/x/")):
        done = terminal.run("breaker", *command)
        assert isinstance(done.exception, ConfigurationError)
        assert "known are: eventbrite, pretix" in str(done.exception)
    assert terminal.json("breaker", "list") == {"breakers": []}


@pytest.mark.parametrize("command", ["open", "close"])
def test_a_breaker_is_of_a_connection_and_not_of_a_feed(terminal: Terminal, command: str) -> None:
    for named in ("pretix/orders", "pretix/"):
        done = terminal.run("breaker", command, named, "/organizers/{organizer}/orders/")
        assert isinstance(done.exception, ConfigurationError), done.output
        assert f"{named!r} is no connection; write pretix" in str(done.exception)
    assert isinstance(terminal.run("quota", "new-feed", "pretix/orders").exception, ConfigurationError)
    assert terminal.rows("select * from sync.breaker") == []


@pytest.mark.parametrize("hours", ["0", "99999999999"])
def test_as_far_back_as_nobody_looks_is_refused(terminal: Terminal, hours: str) -> None:
    done = terminal.run("quota", "--hours", hours)
    assert done.exit_code == 2
    assert "is not in the range 1<=x<=87600" in done.output


def test_the_calls_have_the_same_key_however_far_back(terminal: Terminal) -> None:
    terminal.within(lambda database: calls(database, 3))
    for hours in ("1", "24", "72"):
        assert sum(each["calls"] for each in terminal.json("quota", "--hours", hours)["Calls"]) == 3


def test_an_endpoint_that_nobody_asks_is_not_spared(terminal: Terminal) -> None:
    terminal.within(lambda database: calls(database, 1))
    [(asked,)] = terminal.rows("select distinct endpoint from sync.audit where connection = 'pretix'")
    done = terminal.run("breaker", "open", "pretix", "/nope")
    assert isinstance(done.exception, ConfigurationError)
    assert f"has never asked an endpoint '/nope', so that no call would be spared; known are: {asked}" in str(
        done.exception
    )
    assert terminal.json("breaker", "list") == {"breakers": []}
    for endpoint in (asked, "credential"):
        assert "open for 60 min" in terminal.say("breaker", "open", "pretix", endpoint)


def test_what_a_connection_may_ask_can_be_spared_before_it_was_asked_and_nothing_else(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNC_PRETIX_EVENTS", "conf")
    terminal.within(
        lambda database: calls(database, 1, feed="", endpoint="/token")
    )  # a token is asked for without a breaker
    for endpoint in ("/nonsense", "/token"):
        done = terminal.run("breaker", "open", "pretix", endpoint)
        assert isinstance(done.exception, ConfigurationError), done.output
        assert str(done.exception).endswith(
            "known are: /organizers/{organizer}/events/{event}/orders/, and `credential`"
        )
    for connection, endpoint in (
        ("pretix", "/organizers/{organizer}/events/{event}/orders/"),
        ("eventbrite", "/organizations/{id}/attendees/"),
    ):
        assert "open for 60 min" in terminal.say("breaker", "open", connection, endpoint)
