"""Where raw pages are kept: compressed, named by the hash of their content, never changed.

A local directory by default; any fsspec URL (s3://, gs://, abfs://, memory://) otherwise.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Protocol

import fsspec
import zstandard

LEVEL = 3
MAX_PAGE_BYTES = 256 * 1024 * 1024


class ObjectStore(Protocol):
    def put(self, body: bytes) -> tuple[str, bytes]:
        """Keep `body`; returns (key, sha256). Durable when it returns; keeping the same body again is a no-op."""

    def get(self, key: str) -> bytes:
        """The body kept under `key`. Raises LookupError if it is gone, ValueError if its hash does not match."""


def _key(digest: bytes) -> str:
    name = digest.hex()
    return f"pages/{name[:2]}/{name}.zst"


def _checked(key: str, packed: bytes) -> bytes:
    body = zstandard.ZstdDecompressor().decompress(packed, max_output_size=MAX_PAGE_BYTES)
    if _key(hashlib.sha256(body).digest()) != key:
        raise ValueError("a landed page does not match its hash: the object store has changed it")
    return body


class LocalObjects:
    """A directory. A page is written beside its place, flushed to disk and renamed, so that it is whole or absent."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, body: bytes) -> tuple[str, bytes]:
        digest = hashlib.sha256(body).digest()
        key = _key(digest)
        path = self._root / key
        if path.exists():
            return key, digest
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        packed = zstandard.ZstdCompressor(level=LEVEL).compress(body)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(packed)
                file.flush()
                os.fdatasync(file.fileno())
            os.rename(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        self._sync_directory(path.parent)
        return key, digest

    def get(self, key: str) -> bytes:
        try:
            packed = (self._root / key).read_bytes()
        except FileNotFoundError:
            raise LookupError(f"landed page {key} is not in {self._root}") from None
        return _checked(key, packed)

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
        self._fs, self._root = fsspec.core.url_to_fs(url)

    def put(self, body: bytes) -> tuple[str, bytes]:
        digest = hashlib.sha256(body).digest()
        key = _key(digest)
        path = f"{self._root}/{key}"
        if not self._fs.exists(path):
            self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            self._fs.pipe_file(path, zstandard.ZstdCompressor(level=LEVEL).compress(body))
        return key, digest

    def get(self, key: str) -> bytes:
        try:
            packed = bytes(self._fs.cat_file(f"{self._root}/{key}"))
        except FileNotFoundError:
            raise LookupError(f"landed page {key} is not in the object store") from None
        return _checked(key, packed)


def open_objects(url: str | Path) -> ObjectStore:
    """`url`: a directory or an fsspec URL."""
    text = str(url)
    if "://" in text and not text.startswith("file://"):
        return RemoteObjects(text)
    return LocalObjects(Path(text.removeprefix("file://")))
