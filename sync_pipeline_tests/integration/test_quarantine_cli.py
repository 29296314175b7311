"""`sync-pipeline quarantine`: what is asked for and does not exist is said, and what is there can be reached."""

from __future__ import annotations

import pytest

from sync_pipeline.kernel.errors import ConfigurationError
from sync_pipeline.kernel.feed import FeedId
from sync_pipeline.store.database import Database
from sync_pipeline_tests.integration.cli_setting import Terminal

RAW = b'{"code": "ABC"}'


def rejected(terminal: Terminal, feed: FeedId, number: int = 1) -> None:
    """Rejections of records that today's contract of the feed rejects too; their keys are `<feed>-<n>`."""

    async def put(database: Database) -> None:
        async with database.transaction() as conn:
            await conn.execute(
                "insert into sync.quarantine (key, connection, feed, vendor_id, page_id, raw, codes, problems,"
                " contract_version) select %s || '-' || n, %s, %s, n::text, 1, %s, '{MISSING}', '[]', '1'"
                " from generate_series(1, %s) n",
                (feed.feed, feed.connection, feed.feed, RAW, number),
            )

    terminal.within(put)


ORDERS = FeedId("pretix", "orders")
LEFT_THE_YAML = FeedId("pretix", "vouchers")
LEFT_WITH_ITS_CONNECTION = FeedId("oldshop", "sales")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--limit", "-1", "-1 is not in the range"),
        ("--limit", "99999999999999999999", "is not in the range"),
        ("--status", "foo", "'foo' is not one of 'open', 'replayed', 'discarded', 'superseded', 'all'"),
        ("--kind", "foo", "'foo' is not one of 'quarantine', 'dead_letter'"),
    ],
)
def test_what_an_option_cannot_be_is_refused(terminal: Terminal, option: str, value: str, said: str) -> None:
    done = terminal.run("quarantine", "list", option, value)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("command", [("list",), ("replay",), ("discard",), ("discard", "--dry-run")])
@pytest.mark.parametrize("feed", ["nope/nope", "pretix/nope", "nope"])
def test_a_feed_that_neither_the_yaml_nor_the_store_knows_is_refused(
    terminal: Terminal, command: tuple[str, ...], feed: str
) -> None:
    rejected(terminal, LEFT_WITH_ITS_CONNECTION)
    done = terminal.run("quarantine", *command, "--feed", feed)
    assert isinstance(done.exception, ConfigurationError), done.output
    assert (
        f"there is no feed '{feed}'; known are: eventbrite/attendees, eventbrite/orders, oldshop/sales, pretix/orders"
        in str(done.exception)
    )


@pytest.mark.parametrize("feed", ["", "/orders", "pretix/", "pretix/orders/x"])
def test_a_feed_is_written_like_one(terminal: Terminal, feed: str) -> None:
    for command in (("list",), ("replay",), ("discard", "--code", "MISSING")):
        done = terminal.run("quarantine", *command, "--feed", feed)
        assert isinstance(done.exception, ConfigurationError), done.output
        assert "is no feed; write connection/feed" in str(done.exception)


@pytest.mark.parametrize("feed", [LEFT_THE_YAML, LEFT_WITH_ITS_CONNECTION])
def test_what_has_left_the_yaml_can_still_be_listed_and_discarded(terminal: Terminal, feed: FeedId) -> None:
    rejected(terminal, feed, 2)
    rejected(terminal, ORDERS)
    for name in (str(feed), feed.connection):
        listed = terminal.json("quarantine", "list", "--feed", name)["quarantine"]
        assert [row["feed"] for row in listed].count(str(feed)) == 2
    found = terminal.json("quarantine", "replay")
    assert (found["tried"], found["passing"], found["not_in_yaml"]) == (1, 0, {str(feed): 2})
    said = terminal.say("quarantine", "replay", "--dry-run")
    assert "0 of 1 records would pass" in said
    assert f"{feed}: 2 were not tried: the feed is no longer in the YAML" in said
    assert "2 rejections were discarded" in terminal.say("quarantine", "discard", "--feed", str(feed))


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_a_key_that_does_not_exist_is_named(terminal: Terminal, command: str) -> None:
    rejected(terminal, ORDERS)
    done = terminal.run("quarantine", command, "--key", "orders-1", "--key", "nokey")
    assert isinstance(done.exception, ConfigurationError)
    assert "there is no quarantine row nokey" in str(done.exception)
    assert terminal.rows("select status, attempts from sync.quarantine") == [("open", 0)], "nothing was done by half"


def test_a_list_that_stops_says_how_many_there_are(terminal: Terminal) -> None:
    rejected(terminal, ORDERS, 103)
    assert "100 of 103 shown; --limit for more" in terminal.say("quarantine", "list")
    assert "shown" not in terminal.say("quarantine", "list", "--limit", "103")
    found = terminal.json("quarantine", "list", "--feed", "pretix/orders", "--limit", "2")
    assert (len(found["quarantine"]), found["total"]) == (2, 103)
    assert terminal.json("quarantine", "list", "--kind", "dead_letter") == {"quarantine": [], "total": 0}
    assert terminal.json("quarantine", "list", "--status", "all")["total"] == 103


def dead_letters(terminal: Terminal, number: int) -> None:
    """Registrations that the receiver refused."""

    async def put(database: Database) -> None:
        async with database.transaction() as conn:
            await conn.execute(
                "insert into sync.quarantine (key, connection, feed, vendor_id, kind, page_id, raw, codes, problems,"
                " contract_version) select 'handoff:pretix/orders/' || n, 'pretix', 'orders', n::text, 'dead_letter', 1, '{}',"
                " '{HANDOFF_REFUSED}', '[]', 'handoff-1' from generate_series(1, %s) n",
                [number],
            )

    terminal.within(put)


@pytest.mark.parametrize(
    ("options", "number"),
    [
        (("--code", "HANDOFF_REFUSED"), 3),
        ((), 4),
        (("--code", "NO_ROW"), 0),
        (("--code", "MISSING"), 1),
        (("--feed", "pretix/positions"), 0),
        (("--key", "handoff:pretix/orders/2"), 1),
        (("--contract-version", "handoff-1"), 3),
    ],
)
def test_a_dry_run_tries_what_the_run_tries(terminal: Terminal, options: tuple[str, ...], number: int) -> None:
    dead_letters(terminal, 3)
    rejected(terminal, ORDERS)
    before = terminal.rows("select key, status from sync.quarantine order by 1")
    dry = terminal.json("quarantine", "replay", *options, "--dry-run")
    assert terminal.rows("select key, status from sync.quarantine order by 1") == before
    done = terminal.json("quarantine", "replay", *options)
    assert dry["tried"] == done["tried"] == number
    assert (dry["passing"], dry["failing"]) == (done["passing"], done["failing"])
