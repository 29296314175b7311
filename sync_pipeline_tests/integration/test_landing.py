from __future__ import annotations

import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sync_pipeline.kernel.errors import ConfigurationError, Fenced, TransientError
from sync_pipeline.kernel.feed import Cursor, FeedId, Reply
from sync_pipeline.landing.objects import LocalObjects, RemoteObjects, open_objects
from sync_pipeline.landing.pages import FetchedPage, Landing
from sync_pipeline.store.database import Database
from sync_pipeline_tests.things import at, rows

FEED = FeedId("shop", "things")


MINUTE = timedelta(minutes=1)


def page(*yields: str) -> FetchedPage:
    return FetchedPage("pages/x.zst", b"x", 3, at(0), Cursor(token="t"), None, yields, asked_at=at(0))


async def test_page_and_cursor_move_together(database: Database) -> None:
    landing = Landing(database)
    taken = await landing.acquire(FEED, owner="me", ttl_s=60)
    assert taken is not None
    lease, cursor = taken
    assert cursor == Cursor()
    after = Cursor(watermark=at(5))
    landed = await landing.land(
        lease, [page("things", "parts"), page("things")], after, session="s", followers=["parts"]
    )
    assert [(one.feed.feed, one.source_feed, one.cursor.token) for one in landed] == [
        ("things", "things", "t"),
        ("parts", "things", "t"),
        ("things", "things", "t"),
    ]
    await landing.release(lease)
    taken = await landing.acquire(FEED, owner="other", ttl_s=60)
    assert taken is not None
    assert taken[1] == after
    assert await rows(database, "select feed, watermark, caught_up_at is not null from sync.feed_state order by 1") == [
        ("parts", at(5), True),
        ("things", at(5), True),
    ]


async def test_one_holder_at_a_time(database: Database) -> None:
    landing = Landing(database)
    assert await landing.acquire(FEED, owner="one", ttl_s=60) is not None
    assert await landing.acquire(FEED, owner="two", ttl_s=60) is None


async def test_a_fenced_worker_writes_nothing(database: Database) -> None:
    landing = Landing(database)
    stale = await landing.acquire(FEED, owner="one", ttl_s=-1)
    fresh = await landing.acquire(FEED, owner="two", ttl_s=60)
    assert stale is not None
    assert fresh is not None
    with pytest.raises(Fenced, match="has written nothing"):
        await landing.land(stale[0], [page("things")], Cursor(watermark=at(9)), session="s")
    assert await rows(database, "select count(*) from sync.page") == [(0,)]
    assert await rows(database, "select watermark from sync.feed_state") == [(None,)]
    await landing.release(stale[0])
    assert await landing.acquire(FEED, owner="three", ttl_s=60) is None


async def test_another_scope_starts_all_feeds_of_the_pages_again(database: Database) -> None:
    landing = Landing(database)
    taken = await landing.acquire(FEED, owner="one", ttl_s=60)
    assert taken is not None
    assert await landing.scope(FEED) is None
    await landing.land(taken[0], [], Cursor(watermark=at(5)), session="s", followers=["parts"])
    await landing.enter_scope(taken[0], "a", restart=None, followers=["parts"])
    assert await landing.scope(FEED) == "a"
    assert await rows(database, "select distinct watermark from sync.feed_state") == [(at(5),)]
    await landing.enter_scope(taken[0], "b", restart="other settings", followers=["parts"])
    assert await rows(database, "select feed, watermark, cursor, restart_reason from sync.feed_state order by 1") == [
        ("parts", None, {}, "other settings"),
        ("things", None, {}, "other settings"),
    ]
    await landing.reset(FEED, since=None)
    with pytest.raises(Fenced, match="has written nothing"):
        await landing.enter_scope(taken[0], "c", restart="late", followers=["parts"])
    assert await landing.scope(FEED) == "b"


async def test_a_reset_fences_the_running_worker(database: Database) -> None:
    landing = Landing(database)
    taken = await landing.acquire(FEED, owner="one", ttl_s=60)
    assert taken is not None
    await landing.reset(FEED, since=at(1))
    with pytest.raises(Fenced):
        await landing.land(taken[0], [page("things")], Cursor(watermark=at(9)), session="s")
    again = await landing.acquire(FEED, owner="two", ttl_s=60)
    assert again is not None
    assert again[1].watermark == at(1)


async def test_a_reset_goes_back_and_never_over_what_was_not_listed(database: Database) -> None:
    landing = Landing(database)
    await landing.reset(FEED, since=at(3))
    taken = await landing.acquire(FEED, owner="one", ttl_s=60)
    assert taken is not None
    assert taken[1].watermark == at(3), "a feed that was never polled starts where it is told to"
    await landing.land(taken[0], [], Cursor(watermark=at(5)), session="s")
    with pytest.raises(
        ConfigurationError, match=rf"shop/things: its cursor stands at {at(5):%Y-%m-%dT%H:%M:%SZ}, .*--skip"
    ):
        await landing.reset(FEED, since=at(5) + timedelta(microseconds=1))
    assert await landing.renew(taken[0]), "nothing was written, and nobody is fenced off"
    await landing.reset(FEED, since=at(5))
    await landing.reset(FEED, since=None)
    taken = await landing.acquire(FEED, owner="one", ttl_s=60)
    assert taken is not None
    await landing.land(taken[0], [], Cursor(opened_at=at(6), pages=1), session="s")
    with pytest.raises(ConfigurationError, match=r"its history is not read to the end yet.*sync-pipeline sync shop"):
        await landing.reset(FEED, since=at(1))
    await landing.reset(FEED, since=at(1), skip=True)
    assert await rows(database, "select watermark from sync.feed_state") == [(at(1),)]


async def test_a_reset_gives_up_landed_pages_of_its_own_feed_only(database: Database) -> None:
    landing = Landing(database)
    others = FeedId("shop", "others")
    pages = await landing.land_beside(FEED, [page("things", "parts")], session="s", began=at(0))
    pages += await landing.land_beside(others, [page("others")], session="s", began=at(0))
    await rows(database, "update sync.page set status = 'applied' where feed = 'parts' returning 1")
    await landing.reset(FEED, since=at(1), given_up=[one.id for one in pages])
    assert await rows(database, "select feed, status, given_up_at is not null from sync.page order by id") == [
        ("things", "given_up", True),
        ("parts", "applied", False),
        ("others", "landed", False),
    ]
    assert await landing.pending("shop", ["things", "parts"]) == await landing.landed(FEED) == []


def replies(*bodies: bytes) -> list[Reply]:
    return [Reply(200, {}, body, at(0), at(0)) for body in bodies]


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_objects_are_what_was_put(tmp_path: Path, kind: str) -> None:
    store = open_objects(tmp_path / "a b") if kind == "local" else open_objects(f"memory://{tmp_path.name}")
    assert isinstance(store, LocalObjects if kind == "local" else RemoteObjects)
    bodies = [b"", b"{}", b"\x00\xff" * 70_000, b"{}"]
    keys = store.put(replies(*bodies))
    assert store.put(replies(*bodies)) == keys
    assert [store.get(key) for key in keys] == bodies
    [alone] = store.put(replies(b"{}"))
    assert store.get(alone) == b"{}"
    gone = alone.replace("pages/", "pages/0", 1)[: len(alone)]
    for key in (alone.replace(alone[6:8], "zz", 1), gone, ""):
        with pytest.raises(LookupError):
            store.get(key)


def test_a_changed_object_is_noticed(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    [one], [two] = store.put(replies(b"one")), store.put(replies(b"two"))
    paths = [tmp_path / key.partition("#")[0] for key in (one, two)]
    paths[0].write_bytes(paths[1].read_bytes())
    with pytest.raises(ValueError, match="does not match"):
        store.get(one)
    paths[1].write_bytes(b"not zstd")
    with pytest.raises(ValueError, match="does not match"):
        store.get(two)


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_an_object_that_is_cut_off_is_kept_anew(tmp_path: Path, kind: str) -> None:
    store = open_objects(tmp_path) if kind == "local" else open_objects(f"memory://{tmp_path.name}")
    [key] = store.put(replies(b"a page"))
    name = key.partition("#")[0]
    if kind == "local":
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:5])
    else:
        fsspec.filesystem("memory").pipe_file(f"/{tmp_path.name}/{name}", b"short")
    with pytest.raises(ValueError, match="does not match"):
        store.get(key)
    assert store.put(replies(b"a page")) == [key]
    assert store.get(key) == b"a page"


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """(kind, inode) of all that is flushed to disk."""
    seen: list[tuple[str, int]] = []

    def watched(name: str) -> None:
        real = getattr(os, name)

        def flush(descriptor: int) -> None:
            seen.append((name, os.fstat(descriptor).st_ino))
            real(descriptor)

        monkeypatch.setattr(os, name, flush)

    watched("fsync")
    watched("fdatasync")
    return seen


def inodes(*paths: Path) -> set[tuple[str, int]]:
    return {("fsync", path.stat().st_ino) for path in paths}


def test_the_directories_of_an_object_are_flushed_with_it(tmp_path: Path, flushed: list[tuple[str, int]]) -> None:
    root = tmp_path / "data" / "landing"
    [key] = LocalObjects(root).put(replies(b"a page"))
    path = root / key.partition("#")[0]
    above = [path.parent, root / "pages", root, root.parent, tmp_path]
    assert {*flushed} == {("fdatasync", path.stat().st_ino), *inodes(*above)}
    assert len(flushed) == 6


def test_a_directory_of_another_process_is_flushed_once(tmp_path: Path, flushed: list[tuple[str, int]]) -> None:
    """That one may have been killed between making it and flushing its name."""
    for number in range(256):
        (tmp_path / f"pages/{number:02x}").mkdir(parents=True)
    store = LocalObjects(tmp_path)
    [key] = store.put(replies(b"a page"))
    assert {*flushed} >= inodes(tmp_path / "pages", tmp_path, (tmp_path / key).parent)
    flushed.clear()
    store.put(replies(b"another page"))
    assert not {*flushed} & inodes(tmp_path / "pages", tmp_path)
    assert len(flushed) == 2, "of an object itself: it, and its place in its directory"


def test_a_directory_that_is_made_later_is_flushed_too(tmp_path: Path, flushed: list[tuple[str, int]]) -> None:
    store = LocalObjects(tmp_path)
    for number in range(20):
        flushed.clear()
        before = {path.name for path in tmp_path.glob("pages/*")}
        [key] = store.put(replies(b"page %d" % number))
        made = (tmp_path / key).parent.name not in before
        assert bool({*flushed} & inodes(tmp_path / "pages")) == made


def test_pages_that_are_packed_otherwise_spoil_no_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalObjects(tmp_path)
    bodies = [bytes(number * number % 251 for number in range(length)) * 9 for length in (900, 1700)]
    before = store.put(replies(*bodies))
    monkeypatch.setattr("sync_pipeline.landing.objects.LEVEL", 19)
    after = store.put(replies(*bodies))
    assert before != after
    assert [store.get(key) for key in before + after] == bodies * 2


class Unwell(MemoryFileSystem):
    """A file system of which everything fails."""

    protocol = "unwell"
    failure: Exception = RuntimeError("bucket-of-someone")

    def exists(self, path: str, **kwargs: Any) -> bool:
        raise self.failure

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        raise self.failure


@pytest.mark.parametrize("doing", ["put", "get"])
@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [
        (RuntimeError("bucket-of-someone"), TransientError, r"\(RuntimeError\)"),
        (OSError(5, "bucket-of-someone"), TransientError, r"\(OSError EIO\)"),
        (PermissionError(13, "bucket-of-someone"), ConfigurationError, "lacks the right"),
    ],
    ids=["its own", "input and output", "not allowed"],
)
def test_a_remote_store_that_fails_is_named_by_its_error(
    doing: str, failure: Exception, kind: type[Exception], told: str
) -> None:
    fsspec.register_implementation("unwell", Unwell, clobber=True)
    store = open_objects("unwell://bucket-of-someone")
    key = RemoteObjects("memory://other").put(replies(b"{}"))[0]
    Unwell.failure = failure
    with pytest.raises(kind, match=told) as caught:
        store.put(replies(b"{}")) if doing == "put" else store.get(key)
    assert "bucket-of-someone" not in str(caught.value)


def test_a_local_store_that_fails_is_no_page_that_is_gone(tmp_path: Path) -> None:
    store = LocalObjects(tmp_path)
    [key] = store.put(replies(b"{}"))
    shutil.rmtree(tmp_path / "pages")
    with pytest.raises(LookupError):
        store.get(key)
    (tmp_path / "pages").write_bytes(b"")
    for fails in (lambda: store.get(key), lambda: store.put(replies(b"{}"))):
        with pytest.raises(TransientError, match=r"the object store could not .* \(\w+ E\w+\)") as caught:
            fails()
        assert str(tmp_path) not in str(caught.value)


async def test_what_a_repair_lists_was_shown_when_its_listing_began(database: Database) -> None:
    """By the database's clock: a worker's may be fast, and then its older showing would pass for the later one."""
    landing = Landing(database)
    [(began,)] = await rows(database, "select clock_timestamp()")
    fast, slow = (replace(page("things"), fetched_at=moment) for moment in (began + 60 * MINUTE, began - 60 * MINUTE))
    [live] = await landing.land_beside(FEED, [slow], session="s", began=began + MINUTE)
    [beside] = await landing.land_beside(FEED, [fast], session="s", began=began)
    assert beside.id > live.id
    assert await rows(database, "select sync.shown_later(%s, %s)", live.id, beside.id) == [(True,)]
    assert [one.shown_at for one in await landing.landed(FEED)] == [began + MINUTE, began]


@pytest.mark.parametrize(
    ("failure", "kind", "told"),
    [
        (ImportError("Install unwellfs to access Unwell"), ConfigurationError, r"unwell:// needs .*Install unwellfs"),
        (
            ValueError("bucket-of-someone"),
            ConfigurationError,
            r"SYNC_LANDING_URL: .*unwell:// URL \(ValueError\); write",
        ),
        (TypeError("bucket-of-someone"), ConfigurationError, r"\(TypeError\)"),
        (PermissionError(13, "bucket-of-someone"), ConfigurationError, "lacks the right"),
        (
            ConnectionRefusedError(111, "bucket-of-someone"),
            TransientError,
            r"could not be opened \(ConnectionRefusedError",
        ),
    ],
    ids=["no package", "its own", "of another kind", "not allowed", "away"],
)
def test_a_store_that_cannot_be_opened_says_what_to_do(
    failure: Exception, kind: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opening(url: str) -> None:
        raise failure

    monkeypatch.setattr("fsspec.core.url_to_fs", opening)
    with pytest.raises(kind, match=told) as caught:
        open_objects("unwell://key:secret@bucket-of-someone")
    assert "someone" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_protocol_that_nobody_knows_is_no_place_for_pages() -> None:
    with pytest.raises(ConfigurationError, match=r"foo:// URL \(ValueError\)"):
        open_objects("foo://bucket")
