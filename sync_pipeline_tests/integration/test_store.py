"""The embedded server survives what happens to servers, migrations what happens to deployments."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from sync_pipeline.kernel.errors import ConfigurationError, StoreRefused, TransientError
from sync_pipeline.store.database import Database, dagster_url, database_url, text_array, unreachable
from sync_pipeline.store.embedded import LONGEST_SOCKET_PATH, Embedded, data_dir
from sync_pipeline.store.migrate import migrate

PROJECT = Path(__file__).parents[2]
MIGRATIONS = sorted(path.name for path in (PROJECT / "sync_pipeline/store/migrations").glob("*.sql"))

given_url = database_url


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder with a space in its name that the server's account may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sync store "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def own(base: Path) -> Iterator[Embedded]:
    """A server of this module's own, to be mistreated."""
    embedded = Embedded(base / "data dir" / "postgres")
    yield embedded
    embedded.stop()


def postmaster(embedded: Embedded) -> int:
    return int((embedded.data / "postmaster.pid").read_text().split()[0])


def numbers(url: str) -> list[int]:
    with psycopg.connect(url) as conn:
        return [row[0] for row in conn.execute("select n from kept order by n")]


def put(url: str, n: int) -> None:
    with psycopg.connect(url) as conn:
        conn.execute("create table if not exists kept (n integer primary key)")
        conn.execute("insert into kept values (%s)", (n,))


def in_parallel(code: str, *arguments: str, processes: int = 4, **environment: str) -> list[str]:
    """Run `code` in several Pythons at once; their outputs."""
    running = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    results = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0] * processes, [error for _, error in results]
    return [output.strip() for output, _ in results]


class TestEmbedded:
    def test_a_path_with_a_space(self, own: Embedded) -> None:
        url = own.ensure()
        put(url, 1)
        assert " " in str(own.socket)
        assert numbers(url) == [1]
        parts = make_url(dagster_url(url))
        assert parts.query["host"] == str(own.socket)
        assert parts.query["options"] == "-csearch_path=dagster"

    def test_the_socket_is_its_owners_alone(self, own: Embedded) -> None:
        own.ensure()
        assert own.socket.stat().st_mode & 0o077 == 0
        assert own.data.stat().st_mode & 0o077 == 0

    def test_it_is_not_root(self, own: Embedded) -> None:
        own.ensure()
        assert psutil.Process(postmaster(own)).uids().effective != 0

    def test_ensure_again_keeps_the_server(self, own: Embedded) -> None:
        own.ensure()
        before = postmaster(own)
        assert Embedded(own.base).ensure() == own.url()
        assert postmaster(own) == before

    def test_rows_survive_a_killed_server(self, own: Embedded) -> None:
        put(own.ensure(), 2)
        before = postmaster(own)
        os.kill(before, signal.SIGKILL)
        assert 2 in numbers(own.ensure())
        assert postmaster(own) != before

    def test_a_pid_file_that_names_somebody_else(self, own: Embedded) -> None:
        put(own.ensure(), 3)
        file = own.data / "postmaster.pid"
        content = file.read_text().splitlines()
        own.stop()
        foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        try:
            file.write_text("\n".join([str(foreign.pid), *content[1:], ""]))
            (own.socket / ".s.PGSQL.5432.lock").write_text(f"{foreign.pid}\n")
            assert 3 in numbers(own.ensure())
            assert postmaster(own) != foreign.pid
            assert foreign.poll() is None
        finally:
            foreign.kill()
            foreign.wait()

    def test_stop_leaves_a_foreign_process_alone(self, own: Embedded) -> None:
        own.ensure()
        own.stop()
        own.stop()
        foreign = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        try:
            (own.data / "postmaster.pid").write_text(f"{foreign.pid}\n{own.data}\n1\n5432\n{own.socket}\n\n\n")
            own.stop()
            assert foreign.poll() is None
        finally:
            foreign.kill()
            foreign.wait()

    def test_half_an_initdb_is_begun_again(self, base: Path) -> None:
        half = Embedded(base / "half")
        (half.base / "data.new" / "global").mkdir(parents=True)
        try:
            assert half.answers() is False
            put(half.ensure(), 1)
            assert numbers(half.url()) == [1]
        finally:
            half.stop()

    def test_several_processes_start_one_server(self, own: Embedded) -> None:
        own.ensure()
        own.stop()
        code = (
            "import sys, psycopg; from pathlib import Path; from sync_pipeline.store.embedded import Embedded\n"
            "with psycopg.connect(Embedded(Path(sys.argv[1])).ensure('together')) as conn:\n"
            "    print(conn.execute('select pg_postmaster_start_time()::text').fetchone()[0])"
        )
        assert len(set(in_parallel(code, str(own.base)))) == 1

    def test_a_long_path_has_its_socket_elsewhere(self, base: Path) -> None:
        embedded = Embedded(base / ("long" * 25))
        assert len(os.fsencode(embedded.socket)) <= LONGEST_SOCKET_PATH
        assert embedded.socket != Embedded(base / ("long" * 26)).socket

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_as_an_ordinary_user(self, base: Path) -> None:
        nobody = pwd.getpwnam("nobody")
        home = base / "ordinary user"
        home.mkdir(mode=0o700)
        os.chown(home, nobody.pw_uid, nobody.pw_gid)
        code = (
            "import os, sys, psycopg; from pathlib import Path\n"
            "from sync_pipeline.store.embedded import Embedded, data_dir\n"
            "from sync_pipeline.store.migrate import _files, migrate\n"
            # The interpreter may be where only root can enter, so the account changes after everything is imported.
            "_files(); os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1])); os.umask(0o077)\n"
            "embedded = Embedded(data_dir() / 'postgres')\n"
            "try:\n"
            "    print(len(migrate(embedded.ensure())), os.stat(embedded.data).st_uid)\n"
            "finally:\n"
            "    embedded.stop()"
        )
        outputs = in_parallel(
            code, str(nobody.pw_uid), str(nobody.pw_gid), processes=1, SYNC_DATA_DIR=str(home), HOME=str(home)
        )
        assert outputs == [f"{len(MIGRATIONS)} {nobody.pw_uid}"]


class TestPlaces:
    def test_the_data_directory(self, base: Path) -> None:
        assert data_dir({"SYNC_DATA_DIR": f" {base}/x/../y "}) == base.resolve() / "y"
        assert data_dir({"SYNC_DATA_DIR": "~/kept"}) == Path.home().resolve() / "kept"
        assert data_dir({}) == PROJECT / "data"

    def test_the_embedded_server_lives_there(self, own: Embedded) -> None:
        url = given_url({"SYNC_DATA_DIR": str(own.base.parent), "DATABASE_URL": " "})
        assert url == own.url()
        put(url, 100)
        assert 100 in numbers(url)

    def test_a_given_url_is_normalised(self) -> None:
        for scheme in ("postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2"):
            assert given_url({"DATABASE_URL": f"{scheme}://u:p%40@h/db?sslmode=require"}) == (
                "postgresql://u:p%40@h/db?sslmode=require"
            )

    @pytest.mark.parametrize("url", ["mysql://u:pa55word@h/db", "host=h password=pa55word", "sqlite:///x"])
    def test_another_database_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="DATABASE_URL must look like") as error:
            given_url({"DATABASE_URL": url})
        assert "pa55word" not in str(error.value)

    def test_dagsters_url_keeps_what_was_given(self) -> None:
        url = make_url(dagster_url("postgresql://u:p%40%2F@h:5/db?sslmode=require&options=-cwork_mem%3D1MB"))
        assert (url.drivername, url.password, url.host, url.port, url.database) == (
            "postgresql+psycopg2", "p@/", "h", 5, "db",
        )  # fmt: skip
        assert dict(url.query) == {"sslmode": "require", "options": "-cwork_mem=1MB -csearch_path=dagster"}
        assert make_url(dagster_url("postgresql:///db?host=/a%20b")).query["host"] == "/a b"


UNREACHABLE = [
    "postgresql://user:pa55word@127.0.0.1:1/db",
    "postgresql://user:pa55word@/db?host=/nowhere/at%20all",
    "postgresql://user:pa55word@127.0.0.1:nonsense/db",
    "postgresql://user:pa55word@[::1/db",
    "postgresql://user@127.0.0.1:1/db?password=pa55word",
]


class TestUnreachable:
    @pytest.mark.parametrize("url", UNREACHABLE)
    async def test_one_sentence_without_the_password(self, url: str) -> None:
        said = set()
        with pytest.raises(ConfigurationError) as error:
            migrate(url)
        said.add(str(error.value))
        assert error.value.__suppress_context__ or error.value.__context__ is None
        with pytest.raises(ConfigurationError) as error:
            async with Database.open(url):
                pass
        said.add(str(error.value))
        assert len(said) == 1
        [sentence] = said
        assert "pa55word" not in sentence
        assert "\n" not in sentence
        assert "check DATABASE_URL" in sentence

    @pytest.mark.parametrize(
        ("told", "meaning"),
        [
            ('FATAL:  password authentication failed for user "sync"', "refuses this user or password"),
            ("fe_sendauth: no password supplied", "wants a password"),
            ("server does not support SSL, but SSL was required", "do not agree on TLS"),
            ("FATAL:  sorry, too many clients already", "no connection left"),
        ],
    )
    def test_a_server_that_answers_is_not_called_unreachable(self, told: str, meaning: str) -> None:
        error = psycopg.OperationalError(f'connection failed: connection to server at "db", port 5432 failed: {told}')
        sentence = str(unreachable("postgresql://sync:pa55word@db/vendors", error))
        assert sentence.startswith("the database at db:5432/vendors cannot be used: ")
        assert meaning in sentence
        assert "pa55word" not in sentence

    def test_a_database_that_is_not_there(self, server: Embedded) -> None:
        with pytest.raises(ConfigurationError, match="cannot be used: the server knows no such database"):
            migrate(server.url("nobody_made_this"))

    def test_the_command_says_it_and_exits_2(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from sync_pipeline.cli import main; main()", "status"],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": UNREACHABLE[0]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert "pa55word" not in done.stderr + done.stdout


class TestMigrate:
    @pytest.fixture
    def empty(self, own: Embedded) -> str:
        return own.ensure(f"empty_{uuid.uuid4().hex[:12]}")

    def test_in_order_and_once(self, empty: str) -> None:
        assert migrate(empty) == MIGRATIONS
        assert migrate(empty) == []

    def test_several_processes_at_once(self, empty: str) -> None:
        code = "import sys; from sync_pipeline.store.migrate import migrate; print(*migrate(sys.argv[1]))"
        outputs = in_parallel(code, empty)
        assert sorted(outputs) == ["", "", "", " ".join(MIGRATIONS)]

    def test_a_changed_file_is_refused(self, database_url: str) -> None:
        with psycopg.connect(database_url) as conn:
            conn.execute("update sync_schema.migration set sha256 = 'x' where name = %s", (MIGRATIONS[1],))
        with pytest.raises(ConfigurationError, match=f"{MIGRATIONS[1]} was changed after"):
            migrate(database_url)

    def test_a_newer_database_is_refused(self, database_url: str) -> None:
        with psycopg.connect(database_url) as conn:
            conn.execute("insert into sync_schema.migration (name, sha256) values ('9999_later.sql', 'x')")
        with pytest.raises(ConfigurationError, match="has migration 9999_later"):
            migrate(database_url)

    def test_a_failed_one_leaves_the_older_version_and_frees_the_lock(
        self, empty: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older = {"0001_old.sql": "create table old (n int)"}
        newer = {"0002_good.sql": "create table good (n int)", "0003_bad.sql": "create table half (n int); select 1/0"}
        files = dict(older)
        monkeypatch.setattr("sync_pipeline.store.migrate._files", lambda: files)
        assert migrate(empty) == ["0001_old.sql"]
        files.update(newer)
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                migrate(empty)
        with psycopg.connect(empty) as conn:
            found = conn.execute("select to_regclass('old'), to_regclass('good'), to_regclass('half')").fetchone()
        assert found == ("old", None, None)
        files.clear()
        files.update(older)
        assert migrate(empty) == []  # the older version goes on with what it knows


class TestTransactions:
    async def test_all_or_nothing(self, database: Database) -> None:
        async def fails() -> None:
            async with database.transaction() as conn:
                await conn.execute("insert into t values (1)")
                raise RuntimeError("after the insert")

        async with database.transaction() as conn:
            await conn.execute("create table t (n integer)")
        with pytest.raises(RuntimeError, match="after the insert"):
            await fails()
        async with database.transaction() as conn:
            assert await (await conn.execute("select count(*) from t")).fetchone() == (0,)

    async def test_a_lost_connection_may_pass(self, database: Database, database_url: str) -> None:
        async def loses_its_connection() -> None:
            async with database.transaction() as conn:
                with psycopg.connect(database_url, autocommit=True) as other:
                    other.execute("select pg_terminate_backend(%s)", (conn.info.backend_pid,))
                await conn.execute("select 1")

        with pytest.raises(TransientError, match="connection was lost"):
            await loses_its_connection()
        async with database.transaction() as conn:
            assert await (await conn.execute("select current_setting('timezone')")).fetchone() == ("UTC",)

    async def test_a_worker_that_was_stopped_does_not_keep_its_locks(
        self, database: Database, database_url: str
    ) -> None:
        lock = "select pg_advisory_xact_lock(7)"

        async def stands_still() -> None:
            async with database.transaction() as conn:
                await conn.execute("set local idle_in_transaction_session_timeout = 100")
                await conn.execute(lock)
                async with Database.open(database_url) as others, others.transaction() as other:
                    await other.execute(lock)  # comes as soon as the server has put an end to the one above
                await conn.execute("select 1")

        with pytest.raises(TransientError, match="connection was lost"):
            await stands_still()
        async with database.transaction() as conn:
            found = await conn.execute("select current_setting('idle_in_transaction_session_timeout')")
            assert await found.fetchone() == ("2min",)

    async def test_options_of_the_url_hold_unless_ours_say_otherwise(self, database_url: str) -> None:
        own = quote("-c work_mem=7MB -c timezone=Europe/Berlin")
        separator = "&" if "?" in database_url else "?"
        async with Database.open(f"{database_url}{separator}options={own}") as database:
            asked = "select current_setting('work_mem'), current_setting('timezone')"
            assert await database.statement(asked, {}) == [("7MB", "UTC")]

    async def test_a_statement_on_a_lost_connection_may_pass(self, database_url: str) -> None:
        async with Database.open(database_url, max_size=1) as database:
            await database.statement("select 1", {})
            with psycopg.connect(database_url, autocommit=True) as other:
                other.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid()"
                )
            with pytest.raises(TransientError, match="connection was lost"):
                await database.statement("select 1", {})
            assert await database.statement("select 1", {}) == [(1,)]

    async def test_a_connection_that_is_given_back_goes_to_the_statement_that_waits_for_one(
        self, database_url: str
    ) -> None:
        """It was kept in hand for the next statement, and who waited did so until another one ended."""
        async with Database.open(database_url) as database:

            async def sleep(seconds: float) -> None:
                await database.statement("select pg_sleep(%(seconds)s)", {"seconds": seconds})

            await asyncio.gather(sleep(0.1), sleep(0.1))  # both connections are there
            soon, late = asyncio.create_task(sleep(0.3)), asyncio.create_task(sleep(30))
            await asyncio.sleep(0.05)
            async with asyncio.timeout(10):
                await asyncio.gather(sleep(0.01), soon)
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)

    async def test_a_statement_that_gets_no_answer_is_given_up(self, database: Database) -> None:
        await database.statement("create table t as select 1 as n", {})
        before = await database.statement("select pg_backend_pid()", {})
        async with database.transaction() as conn:
            await conn.execute("select from t for update")
            begun = time.monotonic()
            with pytest.raises(TransientError, match=r"did not answer in 0\.3 s"):
                await database.statement("update t set n = 2", {}, patience_s=0.3)
            assert time.monotonic() - begun < 3
            waiting = (
                "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            )
            assert await database.statement(waiting, {}) == [(0,)], "the server has ended it"
        assert await database.statement("select n from t", {}) == [(1,)]
        assert await database.statement("select pg_backend_pid()", {}) != before, "its connection is not used again"

    async def test_a_server_that_does_not_end_it_either_is_not_waited_for(self, own: Embedded) -> None:
        """The driver waits five seconds for each of two answers then."""
        async with Database.open(own.ensure()) as database:
            [(pid,)] = await database.statement("select pg_backend_pid()", {})
            stopped = [psutil.Process(pid), psutil.Process(postmaster(own))]
            for process in stopped:
                process.suspend()
            begun = time.monotonic()
            try:
                with pytest.raises(TransientError, match=r"did not answer in 0\.3 s"):
                    await database.statement("select 1", {}, patience_s=0.3)
                assert time.monotonic() - begun < 3
            finally:
                for process in stopped:
                    process.resume()
            assert await database.statement("select 1", {}) == [(1,)]

    @pytest.mark.parametrize("statement", ["select 1 / 0", "select pg_sleep(60)"], ids=["failed", "cancelled"])
    async def test_after_such_a_statement_a_transaction_is_one(self, database_url: str, statement: str) -> None:
        """A statement commits by itself; its connection, the only one here, does not go on doing so."""
        async with Database.open(database_url, max_size=1) as database:
            await database.statement("create table t (n int)", {})
            with pytest.raises((StoreRefused, TimeoutError)):
                await asyncio.wait_for(database.statement(statement, {}), 0.3)
            async with database.transaction() as conn:
                await conn.execute("insert into t values (1)")
                await conn.rollback()
            assert await database.statement("select count(*) from t", {}) == [(0,)]
            idle = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%%'"
            assert await database.statement(idle, {}) == [(0,)]

    async def test_a_refused_statement_is_named_by_its_code_and_not_by_its_values(self, database: Database) -> None:
        async with database.transaction() as conn:
            await conn.execute("create table t (n int unique)")

        async def copies() -> None:
            async with database.transaction() as conn, conn.cursor().copy("copy t from stdin") as copy:
                await copy.write(b"4711x\n")

        async def inserts() -> None:
            async with database.transaction() as conn:
                await conn.execute("insert into t values (4711), (4711)")

        async def divides() -> None:
            await database.statement("select %(n)s / 0", {"n": 4711})

        async def misuses() -> None:
            await database.statement("select %(n)s", {"other": 4711})

        for refused, named, sqlstate in (
            (copies, "InvalidTextRepresentation", "22P02"),
            (inserts, "UniqueViolation", "23505"),
            (divides, "DivisionByZero", "22012"),
            (misuses, "ProgrammingError", None),
        ):
            with pytest.raises(StoreRefused, match=f"{named}, SQLSTATE {sqlstate or 'none'}") as caught:
                await refused()
            assert caught.value.sqlstate == sqlstate
            assert "4711" not in repr(caught.value)
            assert caught.value.__suppress_context__, "a traceback would quote what Postgres said"
        assert await database.statement("select count(*) from t", {}) == [(0,)]

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        values=st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.sampled_from(["NULL", '"', "\\"])
        )
    )
    def test_an_array_in_postgres_own_words(self, server: Embedded, values: list[str]) -> None:
        with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
            assert conn.execute("select %s::text[]", (text_array(values),)).fetchone() == (values,)
