"""The database as the rooms see it: transactions on a pool, and the URL in the forms its users want."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from sync_pipeline.kernel.errors import ConfigurationError, StoreRefused, SyncError, TransactionConflict, TransientError

CONNECT_TIMEOUT_S = 10
STATEMENTS_AT_ONCE = 2
"""Connections for single statements: they are short, and most are grants, which wait for each other anyway."""

PATIENCE_S = 60.0
"""Longest wait for a free connection, where the caller names no other."""

CANCEL_S = 0.5
"""Longest that a server may take to end a statement that took too long; then its connection is closed."""

TRIES = 5
"""Times in all that a single statement is done which the server gives up for another one."""

IDLE_S = 120.0
"""Longest that a transaction may do nothing. No step of ours takes that long: whoever holds it has been stopped (a host that
sleeps, a SIGSTOP), and its locks hold up the worker that took its lease."""

LOST = (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.IdleInTransactionSessionTimeout)
"""The errors that say that a transaction is gone, and mostly the connection with it."""

CONFLICTS = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
"""Those of them by which the server gives up one transaction for another: their connection lives."""

GONE = ("08", "57P0", "25P03")
"""How the codes begin by which a server says that it ends a connection. One that is gone without a word has none."""

REFUSED = "54"
"""How the codes begin of statements that go over a limit of the server, as a value that is too long for an index does: each
time anew, though psycopg has these errors among those that may pass."""

LOOK_S = 2.0
"""Longest that a caller waits until the pools are rid of their dead connections: a host that is gone without a word leaves
each of them silent."""

Pool = AsyncConnectionPool[AsyncConnection[Any]]
Conflicts = type[Exception] | tuple[type[Exception], ...]
T = TypeVar("T")


class Database:
    """Pools of connections. Every statement runs in a transaction of its own or of the caller's."""

    def __init__(self, url: str, *, transactions: Pool, statements: Pool) -> None:
        self.url = url
        self._transactions = transactions
        self._statements = statements
        self._waiting = 0
        """Statements that wait for a connection."""
        self._in_hand: AsyncConnection[Any] | None = None
        """The connection of the last statement. Taken from the pool and given back each time it would cost a grant a
        twentieth of a millisecond."""
        self._looking: asyncio.Task[None] | None = None
        """Looks for dead connections in the pools."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        min_size: int = 1,
        max_size: int = 4,
        application_name: str = "sync_pipeline",
    ) -> AsyncIterator[Database]:
        """Open the pools; `min_size` and `max_size` are of the one for transactions. Raises ConfigurationError when the
        database cannot be reached."""
        await _probe(url)

        def pool(*, least: int, most: int, autocommit: bool) -> Pool:
            # After those of the URL, and so before them where both set the same.
            ours = f"-c timezone=UTC -c idle_in_transaction_session_timeout={IDLE_S * 1000:.0f}"
            options = f"{conninfo_to_dict(url).get('options') or ''} {ours}".strip()
            settings = {"application_name": application_name, "options": options, "autocommit": autocommit}
            return AsyncConnectionPool(
                url, min_size=least, max_size=most, open=False, kwargs=settings, timeout=PATIENCE_S
            )

        database = cls(
            url,
            transactions=pool(least=min_size, most=max_size, autocommit=False),
            statements=pool(least=0, most=STATEMENTS_AT_ONCE, autocommit=True),
        )
        try:
            await database._transactions.open()
            await database._statements.open()
            yield database
        finally:
            await database.close()

    async def close(self) -> None:
        """Whoever asks later is told that the store is away."""
        if self._looking is not None:
            await asyncio.wait({self._looking}, timeout=LOOK_S)
            self._looking.cancel()
        conn, self._in_hand = self._in_hand, None
        if conn is not None:
            await self._statements.putconn(conn)
        await self._statements.close()
        await self._transactions.close()

    @asynccontextmanager
    async def transaction(self, *, patience_s: float = PATIENCE_S) -> AsyncIterator[AsyncConnection[Any]]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises TransientError when the connection is lost or none is free in `patience_s`, TransactionConflict when the
        database gave it up for another one, StoreRefused when it refuses a statement.
        """
        async with self._in_our_words(patience_s), self._transactions.connection(timeout=patience_s) as conn:
            yield conn

    async def statement(
        self, query: str, parameters: Mapping[str, Any], *, patience_s: float = PATIENCE_S
    ) -> list[tuple[Any, ...]]:
        """One statement, committed by itself: one round trip instead of three. Its rows. After a conflict it is done again;
        raises as `transaction` does, and TransientError where connection and answer together take longer than `patience_s`."""
        until = asyncio.get_running_loop().time() + patience_s
        async with self._in_our_words(patience_s):
            # Not `connection()`, which ends a transaction that there is none of; and rows in the server's own form: what a
            # grant waits for is as much this side's work as the server's.
            conn, self._in_hand = self._in_hand, None
            if conn is None:
                conn = await self._free(patience_s)
            try:
                async with answered_by(until):
                    cursor = await in_spite_of_conflicts(
                        lambda: conn.execute(query, parameters, binary=True), CONFLICTS, tries=TRIES
                    )
                    return await cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []
            except TimeoutError:
                # Not kept: the statement may still be running, or the word that ends it come too late and end the next one.
                await conn.close()
                raise TransientError(
                    f"the database did not answer in {patience_s:g} s; the statement was given up and will be tried again"
                ) from None
            finally:
                idle = conn.pgconn.transaction_status == TransactionStatus.IDLE
                # Whoever waits is in the pool's queue, and hears of no connection that is kept in hand.
                if idle and self._in_hand is None and not self._waiting and not self._statements.closed:
                    self._in_hand = conn
                else:
                    await self._statements.putconn(conn)

    async def _free(self, patience_s: float) -> AsyncConnection[Any]:
        self._waiting += 1
        try:
            return await self._statements.getconn(timeout=patience_s)
        finally:
            self._waiting -= 1

    @asynccontextmanager
    async def _in_our_words(self, patience_s: float) -> AsyncIterator[None]:
        try:
            yield
        except PoolTimeout:
            raise TransientError(
                f"no database connection became free in {patience_s:g} s; the transaction was not begun and will be tried "
                "again"
            ) from None
        except psycopg.Error as error:
            if _is_gone(error):
                await self._drop_dead()
            raise _told(error) from None

    async def _drop_dead(self) -> None:
        """A server that has been restarted has left every idle connection dead, and each would cost whoever takes it next a
        failure. One look at a time, in a task of its own: cut off with its caller, it would lose what it looks at."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        await asyncio.wait({self._looking}, timeout=LOOK_S)

    async def _look(self) -> None:
        conn, self._in_hand = self._in_hand, None
        if conn is not None:
            await self._statements.putconn(conn)
        for pool in (self._transactions, self._statements):
            if not pool.closed:
                await pool.check()


async def in_spite_of_conflicts(
    once: Callable[[], Awaitable[T]], conflicts: Conflicts = TransactionConflict, *, tries: int
) -> T:
    """Not an outage: the server ended a statement or a transaction to let another one go on, and nothing of it was done. Several
    times, since there may be others. Raises the last of the `conflicts` after so many tries in all."""
    for _ in range(tries - 1):
        try:
            return await once()
        except conflicts:
            continue
    return await once()


@asynccontextmanager
async def answered_by(until: float) -> AsyncIterator[None]:
    """Raises TimeoutError at that instant of the event loop's. The driver asks the server to end the statement then; where nobody
    answers that either, it would wait ten seconds more, and the second cancellation closes the connection."""
    async with asyncio.timeout_at(until + CANCEL_S), asyncio.timeout_at(until):
        yield


def _is_gone(error: psycopg.Error) -> bool:
    """Whether the connection is gone, and not only the transaction on it."""
    return isinstance(error, LOST) and (error.sqlstate is None or error.sqlstate.startswith(GONE))


def _told(error: psycopg.Error) -> SyncError:
    """An error of the tree, by class and SQLSTATE alone: Postgres quotes rows in its details and in the context of a COPY."""
    name, named = type(error).__name__, f"{type(error).__name__}, SQLSTATE {error.sqlstate or 'none'}"
    if isinstance(error, CONFLICTS):
        return TransactionConflict(
            f"the database gave up this transaction for another one ({named}); nothing of it was done, and its work will be "
            "done again",
            sqlstate=error.sqlstate,
        )
    if _is_gone(error):
        return TransientError(
            f"the database connection was lost ({name}); the transaction was rolled back and its work will be done again"
        )
    if isinstance(error, LOST) and not (error.sqlstate or "").startswith(REFUSED):
        return TransientError(
            f"the database could not do a statement ({named}); the transaction was rolled back and its work will be done again"
        )
    return StoreRefused(
        f"the database refused a statement ({named}); the transaction was rolled back and is tried again, with the same result "
        "until the cause is removed: the server's log names it",
        sqlstate=error.sqlstate,
    )


def text_array(values: Sequence[str]) -> str:
    """Postgres's text form of a text[]: the driver asks each value for its type, which for thousands of them takes long."""
    if not values:
        return "{}"
    together = '","'.join(values)
    if "\\" in together or together.count('"') != 2 * (len(values) - 1):
        together = '","'.join([value.replace("\\", r"\\").replace('"', r"\"") for value in values])
    return f'{{"{together}"}}'


async def _probe(url: str) -> None:
    try:
        conn = await AsyncConnection.connect(url, connect_timeout=CONNECT_TIMEOUT_S)
    except psycopg.Error as error:  # a URL that cannot be read is quoted, password and all, in a ProgrammingError
        raise unreachable(url, error) from None
    await conn.close()


REFUSALS = {
    "authentication failed": "the server refuses this user or password",
    "no password supplied": "the server wants a password, and the URL has none",
    "does not exist": "the server knows no such database or role",
    "permission denied": "this role may not connect to it",
    "too many": "the server has no connection left",
    " SSL": "server and URL do not agree on TLS (sslmode)",
}
"""What a server that does answer may say, in libpq's words, and what that means to whoever set the URL."""


def unreachable(url: str, error: Exception) -> ConfigurationError:
    """A sentence that names the place and the reason, never the password. The error's own text may quote the URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or dict(parse_qsl(parts.query)).get("host", "the local socket")
        place = f"{host}:{parts.port or 5432}/{parts.path.lstrip('/') or '(no database name)'}"
    except ValueError:
        place = "(the URL cannot be read)"
    told = str(error) if isinstance(error, psycopg.OperationalError) else ""
    reason = next((meaning for words, meaning in REFUSALS.items() if words in told), None)
    if reason is not None:
        return ConfigurationError(
            f"the database at {place} cannot be used: {reason}; correct DATABASE_URL or the server's settings, or unset it "
            "to use the embedded server"
        )
    return ConfigurationError(
        f"the database at {place} cannot be reached ({type(error).__name__}); check DATABASE_URL and that the server "
        "runs, or unset DATABASE_URL to use the embedded server"
    )


def database_url(env: Mapping[str, str] = os.environ) -> str:
    """DATABASE_URL, or the embedded server's URL (started if it does not run). Psycopg form."""
    given = env.get("DATABASE_URL", "").strip()
    if not given:
        from sync_pipeline.store.embedded import Embedded, data_dir

        return Embedded(data_dir(env) / "postgres").ensure()
    scheme, separator, rest = given.partition("://")
    if not separator or not scheme.startswith("postgres"):
        raise ConfigurationError("DATABASE_URL must look like postgresql://user:password@host:5432/database")
    return f"postgresql://{rest}"


def dagster_url(url: str) -> str:
    """The same database for Dagster: psycopg2, schema `dagster`."""
    parts = urlsplit(url)
    given = parse_qsl(parts.query)
    libpq = [value for name, value in given if name == "options"]
    query = [(name, value) for name, value in given if name != "options"]
    query.append(("options", " ".join([*libpq, "-csearch_path=dagster"])))
    return f"postgresql+psycopg2://{parts.netloc}{parts.path}?{urlencode(query, quote_via=quote)}"


def dagster_environment(url: str) -> dict[str, str]:
    """What `dagster.yaml` reads. Creates Dagster's schema if it is not there."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("create schema if not exists dagster")
    return {"SYNC_DAGSTER_POSTGRES_URL": dagster_url(url)}
