"""A transaction that the database gave up for another one is told from a lost connection, and may be done again."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import psycopg
import pytest
from psycopg import AsyncConnection

from sync_pipeline.gateway.exchange import Pair
from sync_pipeline.kernel.errors import StoreRefused, TransactionConflict, TransientError
from sync_pipeline.store.database import Database
from sync_pipeline.trust.values import Secret
from sync_pipeline_tests.integration.token_setting import Clock
from sync_pipeline_tests.integration.token_worker import store_of
from sync_pipeline_tests.things import rows

WAITING = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"

GIVES_UP_ONCE = """
create sequence calls;
create function gives_up_once() returns int language plpgsql as $$
begin
  if nextval('calls') = 1 then raise exception using errcode = '{sqlstate}'; end if;
  return 1;
end $$;
"""


@pytest.fixture
async def numbers(database: Database) -> Database:
    async with database.transaction() as conn:
        await conn.execute("create table t (n int primary key, times int default 0)")
        await conn.execute("insert into t values (1), (2)")
    return database


async def crossed(database: Database, database_url: str, *, pipelined: bool) -> None:
    """Two transactions that wait for each other; the other one lives."""

    async def second(conn: AsyncConnection[object]) -> None:
        if not pipelined:
            await conn.execute("update t set times = times + 1 where n = 2")
            return
        async with conn.pipeline():
            await conn.execute("update t set times = times + 1 where n = 2")
            await conn.execute("select 1")

    async with await psycopg.AsyncConnection.connect(database_url) as other:
        await other.execute("set local deadlock_timeout = '1min'")
        await other.execute("update t set times = times + 1 where n = 2")

        async def ours() -> None:
            async with database.transaction() as conn:
                await conn.execute("set local deadlock_timeout = '50ms'")
                await conn.execute("update t set times = times + 1 where n = 1")
                await second(conn)

        waiting = asyncio.create_task(ours())
        while not (await (await other.execute(WAITING)).fetchone()):  # noqa: ASYNC110  # the event is a row in the database
            await asyncio.sleep(0.01)
        if not waiting.done():
            await other.execute("update t set times = times + 1 where n = 1")
        await other.commit()
    await waiting


@pytest.mark.parametrize("pipelined", [False, True], ids=["alone", "in a pipeline"])
async def test_a_deadlock_is_a_conflict(numbers: Database, database_url: str, pipelined: bool) -> None:
    with pytest.raises(TransactionConflict, match="gave up this transaction for another one") as caught:
        await crossed(numbers, database_url, pipelined=pipelined)
    assert isinstance(caught.value, TransientError)
    assert (caught.value.sqlstate, caught.value.__suppress_context__) == ("40P01", True)
    assert "lost" not in str(caught.value)
    assert await rows(numbers, "select n, times from t order by n") == [(1, 1), (2, 1)], "the other one's"


async def test_a_serialization_failure_is_a_conflict(numbers: Database) -> None:
    async def stale() -> None:
        async with numbers.transaction() as conn:
            await conn.execute("set transaction isolation level repeatable read")
            await conn.execute("select count(*) from t")
            await rows(numbers, "update t set times = 7 where n = 1 returning n")
            await conn.execute("update t set times = 8 where n = 1")

    with pytest.raises(TransactionConflict, match=r"\(SerializationFailure, SQLSTATE 40001\)") as caught:
        await stale()
    assert caught.value.sqlstate == "40001"


async def test_after_a_conflict_the_connection_lives(database_url: str) -> None:
    async with Database.open(database_url, max_size=1) as database:
        asked = "select pg_backend_pid()"
        before = await rows(database, asked)
        with pytest.raises(TransactionConflict):
            await rows(database, "do $$ begin raise exception using errcode = '40P01'; end $$")
        assert await rows(database, asked) == before


@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
async def test_a_statement_is_done_again_after_a_conflict(database: Database, sqlstate: str) -> None:
    async with database.transaction() as conn:
        await conn.execute(GIVES_UP_ONCE.format(sqlstate=sqlstate).encode())
    assert await database.statement("select gives_up_once()", {}) == [(1,)]


@pytest.mark.parametrize("sqlstate", ["53100", "55P03", "57014"])
async def test_what_a_server_cannot_do_now_may_pass_and_is_no_lost_connection(
    database: Database, sqlstate: str
) -> None:
    with pytest.raises(TransientError, match=rf"could not do a statement \(\w+, SQLSTATE {sqlstate}\)") as caught:
        await rows(database, f"do $$ begin raise exception using errcode = '{sqlstate}'; end $$")
    assert not isinstance(caught.value, TransactionConflict)


async def test_a_value_that_is_too_long_for_an_index_is_refused(database: Database) -> None:
    """It would be too long each time: nobody would ever be told, were it an outage."""
    async with database.transaction() as conn:
        await conn.execute("create table long (value text primary key)")
    chosen = random.Random(1)
    value = "".join(chr(chosen.randrange(0x4E00, 0x9FA0)) for _ in range(6000))
    with pytest.raises(StoreRefused, match=r"ProgramLimitExceeded, SQLSTATE 54000") as caught:
        await rows(database, "insert into long values (%s) returning 1", value)
    assert value[:3] not in str(caught.value)


async def test_a_new_pair_is_kept_in_spite_of_a_conflict_and_the_lock_given_back(database: Database) -> None:
    async with database.transaction() as conn:
        await conn.execute(GIVES_UP_ONCE.format(sqlstate="40001").encode())
        await conn.execute(
            "create function refuses() returns trigger language plpgsql as"
            " $$ begin perform gives_up_once(); return new; end $$;"
            "create trigger refuses before update on sync.token for each row execute function refuses()"
        )
    store, pair = store_of(database, Clock()), Pair(Secret("access"), Secret("refresh"))
    async with store.locked() as lock:
        assert lock is not None
        state = (await lock.read()).state
        new = replace(state, generation=1, has_refresh=True)
        assert await lock.keep(new, pair, expected=state.generation)
    assert (await store.read()).pair == pair
    async with store.locked() as lock:
        assert lock is not None
