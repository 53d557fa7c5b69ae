"""Content-addressed storage for models and large values, on any fsspec file system.

A blob is named by the SHA-256 of its content; putting the same content twice is one blob. A file is
written under a temporary name and moved into place, so that a reader sees all of it or nothing.
What is read is held against its name; what is put again takes the place of what was damaged.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import mmap
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from skipper.failpoints import failpoint

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
SHARDS = 256
"""Blobs lie in this many folders, by the first byte of their names."""
_READ_ONLY = 0o400
FRESH_S = 900.0
"""On a remote file system, a blob younger than this is not written again when it is put again."""

SETTLES_S = 300.0
"""Longer than it takes from a blob's last touch until what refers to it is written down."""


class DamagedError(OSError):
    """A blob whose content is not what its name says."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EBADMSG, "its content is not what was stored", name)


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """One file of a stored folder; ``size`` is in bytes."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True, kw_only=True)
class StoredFolder:
    """A folder in the store: its files, by their paths in it, and what is known of them."""

    files: Mapping[str, str]
    """Digests."""
    sizes: Mapping[str, int]
    """In bytes; empty for a folder from before they were recorded."""
    made_with: Mapping[str, str]
    """Libraries that its writer used, and their versions."""

    @property
    def size(self) -> int | None:
        """Bytes of all its files together; None where that is not recorded."""
        return sum(self.sizes.values()) if self.sizes.keys() == self.files.keys() else None


class BlobStore:
    """Blobs below one fsspec URL; a plain path is a local folder.

    Folders are stored as a manifest blob that lists their files, so a model is one digest too.
    """

    def __init__(self, url: str, **options: Any) -> None:
        self._fs, root = fsspec.core.url_to_fs(url, **options)
        self._root = root.rstrip("/")
        self._is_local = "file" in (
            self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,)
        )

    @property
    def settles_s(self) -> float:
        """For how long nobody may delete what was put: somebody may be about to refer to it."""
        return SETTLES_S if self._is_local else SETTLES_S + FRESH_S

    def put(self, data: bytes) -> str:
        """Store ``data``; its digest."""
        digest = hashlib.sha256(data).hexdigest()
        if not self._is_stored(digest, lambda stream: stream.read(len(data) + 1) == data):
            with self._written(digest) as stream:
                stream.write(data)
        return digest

    def get(self, digest: str) -> bytes:
        """The content of a blob.

        Raises FileNotFoundError where it is not stored or has expired, :class:`DamagedError` where
        it is another by now, and OSError where it cannot be read.
        """
        with self._fs.open(self._path(digest), "rb") as stream:
            content = bytes(stream.read())
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedError(digest)
        return content

    def path(self, digest: str) -> Path | None:
        """The blob's file, to be read and not to be changed; None for one on another file system.

        Raises as :meth:`get`.
        """
        if not self._is_local:
            return None
        path = Path(self._path(digest))
        with path.open("rb") as stream:
            if _digest_of(stream) != digest:
                raise DamagedError(digest)
        return path

    def view(self, digest: str) -> memoryview:
        """The content of a blob, read-only; mapped, not read, where it is a local file's.

        Raises as :meth:`get`.
        """
        if not self._is_local:
            return memoryview(self.get(digest))
        with Path(self._path(digest)).open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size  # an empty file cannot be mapped
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        if hashlib.sha256(content).hexdigest() != digest:
            raise DamagedError(digest)
        return memoryview(content)

    def put_file(self, file: Path) -> str:
        """Store a file's content without holding it in memory; its digest."""
        with file.open("rb") as stream:
            digest = _digest_of(stream)
        if not self._is_stored(digest, lambda stream: _digest_of(stream) == digest):
            with file.open("rb") as source, self._written(digest) as target:
                shutil.copyfileobj(source, target, _CHUNK)
        return digest

    def adopt(self, file: Path, digest: str | None = None) -> str:
        """Take a file into the store, which leaves nothing where it was; its digest.

        ``digest`` is the SHA-256 that its writer has made; else it is read through for it. Without
        a copy where the store is on the same file system. Raises OSError.
        """
        if digest is None:
            with file.open("rb") as stream:
                digest = _digest_of(stream)
        if not self._is_stored(digest, lambda stream: _digest_of(stream) == digest):
            if self._is_local and file.stat().st_dev == self._device():
                os.utime(file)  # it counts as put now, however long ago it was written
                _sync_file(file)
                failpoint("blobs.adopting")
                self._settle(str(file), digest)
                return digest
            with file.open("rb") as source, self._written(digest) as target:
                shutil.copyfileobj(source, target, _CHUNK)
        file.unlink(missing_ok=True)
        return digest

    def touch(self, digest: str) -> bool:
        """Have a blob count as put now, so that no sweep takes it; whether it is there."""
        try:
            if self._is_local:
                os.utime(self._path(digest))
                return True
            return bool(self._fs.exists(self._path(digest)))
        except (OSError, ValueError):
            return False

    def open(self, digest: str) -> Any:
        """A binary stream of a blob, to be read and sought in. Raises OSError."""
        return self._fs.open(self._path(digest), "rb")

    def _device(self) -> int:
        """Of the file system that a local store lies on."""
        Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)
        return Path(self._root).stat().st_dev

    @contextlib.contextmanager
    def _written(self, digest: str) -> Iterator[Any]:
        """A stream whose content is the blob after the block; one that raises leaves nothing."""
        partial = self._partial()
        try:
            with self._fs.open(partial, "wb") as stream:
                yield stream
                _sync(stream, self._is_local)
            failpoint("blobs.written")
            self._settle(partial, digest)
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk has the more need of its room
                self._fs.rm_file(partial)
            raise

    def put_folder(
        self, folder: Path, *, made_with: Mapping[str, str] | None = None, adopts: bool = False
    ) -> str:
        """Store every regular file below ``folder``; the digest of the manifest.

        ``made_with`` is kept there: libraries and their versions. With ``adopts`` the files are
        taken as :meth:`adopt` takes them, and are in the folder no more.
        """
        found = [
            (file.relative_to(folder).as_posix(), file)
            for file in sorted(folder.rglob("*"))
            if file.is_file() and not file.is_symlink()
        ]
        manifest: dict[str, Any] = {"sizes": {name: file.stat().st_size for name, file in found}}
        put = self.adopt if adopts else self.put_file
        manifest["files"] = {name: put(file) for name, file in found}
        if made_with:
            manifest["made_with"] = dict(made_with)
        return self.put(json.dumps(manifest, sort_keys=True).encode())

    def join(self, folders: Mapping[str, str]) -> str:
        """Store a folder that holds stored ones under these names; the digest of its manifest."""
        found = {
            f"{name}/{file.path}": file
            for name, digest in folders.items()
            for file in self.listing(digest)
        }
        files = {path: file.digest for path, file in found.items()}
        manifest = {"files": files, "sizes": {path: file.size for path, file in found.items()}}
        return self.put(json.dumps(manifest, sort_keys=True).encode())

    def folder(self, digest: str) -> StoredFolder:
        """What a stored folder consists of. Raises as :meth:`get`, and ValueError for no folder."""
        manifest = json.loads(self.get(digest))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
            raise ValueError(f"the blob {digest} is no stored folder")
        return StoredFolder(
            files=manifest["files"],
            sizes=manifest.get("sizes") or {},
            made_with=manifest.get("made_with") or {},
        )

    def get_folder(self, digest: str, target: Path) -> None:
        """Lay a stored folder out in ``target``, which must exist and be empty.

        Raises ValueError for a manifest that names a path outside the folder, and
        :class:`DamagedError` where a content is not what its digest says.
        """
        for name, blob in self.folder(digest).files.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"a stored folder names the file {name!r} outside itself")
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            self._fs.get_file(self._path(blob), str(file))
            with file.open("rb") as stream:
                if _digest_of(stream) != blob:
                    raise DamagedError(name)

    def listing(self, digest: str) -> list[StoredFile]:
        """The files of a stored folder, sorted. Raises as :meth:`get`."""
        return [
            StoredFile(path=path, digest=blob, size=int(self._fs.size(self._path(blob))))
            for path, blob in sorted(self.folder(digest).files.items())
        ]

    def delete(self, digest: str, before: float) -> None:
        """Forget a blob that was last put before that time (since the epoch), if it is still there.

        A younger one stays: somebody has just put the same content, and means to refer to it.
        """
        path = self._path(digest)
        with contextlib.suppress(FileNotFoundError, NotImplementedError):
            if self._fs.modified(path).timestamp() < before:
                self._fs.rm(path, recursive=True)

    def shard(self, number: int) -> list[str]:
        """The digests of one of the :data:`SHARDS` parts of the store, sorted."""
        folder = f"{self._root}/{number:02x}"
        paths = self._fs.ls(folder, detail=False) if self._fs.exists(folder) else ()
        names = (str(path).rstrip("/").rpartition("/")[2] for path in paths)
        return sorted(name for name in names if _DIGEST.fullmatch(name))

    def members(self, digest: str) -> frozenset[str]:
        """What a stored folder consists of: its manifest and its files. Empty where it is gone.

        Raises :class:`DamagedError` where the manifest is not what its digest says.
        """
        try:
            return frozenset({digest, *self.folder(digest).files.values()})
        except FileNotFoundError:
            return frozenset()

    def sweep(self, before: float) -> None:
        """Remove what was begun before that time (since the epoch) by writers who were killed."""
        folder = f"{self._root}/partial"
        for path in self._fs.ls(folder, detail=False) if self._fs.exists(folder) else ():
            with contextlib.suppress(FileNotFoundError, NotImplementedError):
                if self._fs.modified(path).timestamp() < before:
                    self._fs.rm(path, recursive=True)

    def _is_stored(self, digest: str, is_sound: Callable[[Any], bool]) -> bool:
        """Whether the blob is there and its stream ``is_sound``; it then counts as put now."""
        path = self._path(digest)
        try:
            if self._is_local:
                os.utime(path)
            # Other file systems do not let a file be touched: an older one is written again.
            elif time.time() - self._fs.modified(path).timestamp() >= FRESH_S:
                return False
            with self._fs.open(path, "rb") as stream:
                if not is_sound(stream):
                    raise DamagedError(digest)
        except (FileNotFoundError, NotImplementedError):
            return False
        except OSError as error:
            log.warning("blob %s is stored anew: %s", digest, error.strerror)
            return False
        return True

    def _settle(self, partial: str, digest: str) -> None:
        """Give what has been written its name, for good: a power cut does not take it back."""
        path = self._path(digest)
        if not self._is_local:
            self._fs.mv(partial, path)
            return
        folder = Path(path).parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        Path(partial).chmod(_READ_ONLY)  # because functions are given its path
        try:
            Path(partial).replace(path)
        except IsADirectoryError:  # it is put aside, for the sweep
            Path(path).replace(self._partial())
            Path(partial).replace(path)
        for changed in (folder, folder.parent):
            _sync_folder(changed)

    def _path(self, digest: str) -> str:
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"{digest!r} is not a blob's name")
        return f"{self._root}/{digest[:2]}/{digest}"

    def _partial(self) -> str:
        folder = f"{self._root}/partial"
        if self._is_local:
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        return f"{folder}/{secrets.token_hex(16)}"


def _digest_of(stream: Any) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(stream: Any, is_local: bool) -> None:
    if is_local:
        stream.flush()
        os.fsync(stream.fileno())


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_folder(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A private folder below ``parent`` that is gone after its ``with`` block."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=parent)
