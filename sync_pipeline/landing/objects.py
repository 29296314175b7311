"""Where raw pages are kept: compressed, named by the hash of their content, never changed.

A local directory by default; any fsspec URL (s3://, gs://, abfs://, memory://) otherwise. Pages that are landed together
share one object, a zstd file of one frame per page: making a file durable costs more than writing it, and object stores
ask a price for each.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import zstandard

from sync_pipeline.kernel.errors import ConfigurationError, SyncError, TransientError
from sync_pipeline.kernel.feed import Reply

LEVEL = 3
MAX_PAGE_BYTES = 256 * 1024 * 1024
KEY = re.compile(
    r"(?P<name>pages/[0-9a-f]{2}/[0-9a-f]{64}\.zst)#(?P<start>\d+)\+(?P<size>\d+):(?P<digest>[0-9a-f]{64})"
)


class ObjectStore(Protocol):
    def put(self, replies: Sequence[Reply]) -> list[str]:
        """Keep the bodies together; returns the key of each: the object, the place of its frame in it, and its own hash.

        Durable when it returns; keeping the same again is a no-op, unless it is cut off. Raises TransientError when they
        cannot be kept, and ConfigurationError when that is not allowed."""

    def get(self, key: str) -> bytes:
        """The page kept under `key`. Raises LookupError if it is gone, ValueError if its hash does not match, and what `put`
        raises when it cannot be read."""


class _Packed(NamedTuple):
    name: str
    content: bytes
    keys: list[str]


def _pack(replies: Sequence[Reply]) -> _Packed:
    # All in one call, because this runs beside a busy event loop: after each call that lets the loop go on, a thread waits
    # for its turn longer than compressing takes.
    compressor = zstandard.ZstdCompressor(level=LEVEL)
    compressed = compressor.multi_compress_to_buffer([reply.body for reply in replies], threads=1)
    frames = [compressed[place].tobytes() for place in range(len(compressed))]
    # Of the frames' sizes too: what another zstd has packed lies at other places, and stands beside under a name of its own.
    sizes = b",".join([b"%d" % len(frame) for frame in frames])
    digest = hashlib.sha256(b"".join([*[reply.sha256 for reply in replies], sizes])).hexdigest()
    name = f"pages/{digest[:2]}/{digest}.zst"
    keys: list[str] = []
    start = 0
    for frame, reply in zip(frames, replies, strict=True):
        keys.append(f"{name}#{start}+{len(frame)}:{reply.sha256.hex()}")
        start += len(frame)
    return _Packed(name, b"".join(frames), keys)


class _Place(NamedTuple):
    name: str
    start: int
    end: int
    digest: str


def _place(key: str) -> _Place:
    found = KEY.fullmatch(key)
    if found is None:
        raise LookupError("the landed page has a key of another form")
    start, size = int(found["start"]), int(found["size"])
    return _Place(found["name"], start, start + size, found["digest"])


def _unpacked(place: _Place, frame: bytes) -> bytes:
    try:
        body = zstandard.ZstdDecompressor().decompress(frame, max_output_size=MAX_PAGE_BYTES)
    except zstandard.ZstdError:
        body = None
    if body is None or hashlib.sha256(body).hexdigest() != place.digest:
        raise ValueError("a landed page does not match its hash: the object store has changed it")
    return body


KEEP = "keep a page", "nothing was registered, and the page is asked for again"
OPEN = "be opened", "nothing was asked for"
READ = "read a page", "the page stays landed, and is read again"


@contextmanager
def _failing(failure: type[Exception], doing: str, until_then: str) -> Iterator[None]:
    """Turn what the storage raises into an error of the tree, by its class and code: its text names places and accounts.

    A right that is lacking is no outage: no second try gets it.
    """
    try:
        yield
    except PermissionError:
        raise ConfigurationError(
            f"the object store may not {doing}: the process lacks the right; give it, or correct SYNC_LANDING_URL; {until_then}"
        ) from None
    except failure as error:
        code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
        named = " ".join(filter(None, [type(error).__name__, code]))
        raise TransientError(f"the object store could not {doing} ({named}); {until_then}") from None


class LocalObjects:
    """A directory. An object is written beside its place, flushed to disk and renamed, so that it is whole or absent."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._flushed: set[str] = set()
        """Directories of objects whose own names are surely on disk, whoever made them."""

    def put(self, replies: Sequence[Reply]) -> list[str]:
        packed = _pack(replies)
        path = self._root / packed.name
        with _failing(OSError, *KEEP):
            # One that is cut off is no page. One that is whole is trusted: it was flushed before it got its name, so that all
            # that may still be on its way to the disk is the name, for as long as whoever gave it takes to flush that; and
            # a quiet feed shows the same page with each poll.
            if not path.exists() or path.stat().st_size != len(packed.content):
                self._write(path, packed.content)
        return packed.keys

    def get(self, key: str) -> bytes:
        place = _place(key)
        with _failing(OSError, *READ):
            try:
                with (self._root / place.name).open("rb") as file:
                    file.seek(place.start)
                    frame = file.read(place.end - place.start)
            except FileNotFoundError:
                frame = None
        if frame is None:
            raise LookupError(f"landed page {place.name} is not in {self._root}")
        return _unpacked(place, frame)

    def _write(self, path: Path, content: bytes) -> None:
        self._make_directory(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fdatasync(file.fileno())
            os.rename(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._sync_directory(path.parent)

    def _make_directory(self, path: Path) -> None:
        """A directory whose own name never reached the disk takes all that was flushed in it along. So those above it are
        flushed too, once: also where another process made it, which may have been killed before it came to that."""
        known = path.name in self._flushed
        made = [] if known else [above for above in path.parents if not above.exists()]
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if known:
            return
        there = os.listdir(path.parent)
        above = {path.parent, *(directory.parent for directory in made)}
        for directory in above if self._flushed else {*above, self._root}:
            self._sync_directory(directory)
        self._flushed.update(there)

    @staticmethod
    def _sync_directory(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class RemoteObjects:
    """Any fsspec file system. Object stores write whole objects, so no rename is needed."""

    def __init__(self, url: str) -> None:
        import fsspec  # on its first use: most installations keep their pages on a disk

        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, replies: Sequence[Reply]) -> list[str]:
        packed = _pack(replies)
        path = f"{self._root}/{packed.name}"
        with _failing(Exception, *KEEP):  # each file system has errors of its own
            if not self._fs.exists(path) or self._fs.size(path) != len(packed.content):
                self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
                self._fs.pipe_file(path, packed.content)
        return packed.keys

    def get(self, key: str) -> bytes:
        place = _place(key)
        with _failing(Exception, *READ):
            try:
                frame = bytes(self._fs.cat_file(f"{self._root}/{place.name}", start=place.start, end=place.end))
            except FileNotFoundError:
                frame = None
        if frame is None:
            raise LookupError(f"landed page {place.name} is not in the object store")
        return _unpacked(place, frame)


def open_objects(url: str | Path) -> ObjectStore:
    """`url`: a directory or an fsspec URL. Raises ConfigurationError, TransientError when its server cannot be reached."""
    text = str(url)
    if "://" in text and not text.startswith("file://"):
        return _open_remote(text)
    return LocalObjects(Path(text.removeprefix("file://")))


def _open_remote(url: str) -> RemoteObjects:
    """Named by the protocol only: the rest of a URL may hold accounts and keys."""
    protocol = url.partition("://")[0]
    try:
        with _failing(OSError, *OPEN):
            return RemoteObjects(url)
    except ImportError as error:
        raise ConfigurationError(
            f"SYNC_LANDING_URL: the package that {protocol}:// needs is not installed ({error}); install it beside "
            "sync_pipeline, or name a directory"
        ) from None
    except SyncError:
        raise
    except Exception as error:  # each file system has errors of its own for a URL that it cannot take
        raise ConfigurationError(
            f"SYNC_LANDING_URL: no object store can be opened by such a {protocol}:// URL ({type(error).__name__}); write a "
            "directory, or a URL that fsspec knows"
        ) from None
