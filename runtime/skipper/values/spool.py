"""The spool: large values on their way between the processes of one machine, one file each.

Who has received or made one writes it here, as it comes, and sends its name on; who takes it maps
the file, so that nothing between the two holds or copies it. A value is in here once, and for as
long as its call lasts: whoever sent it, and whoever has been sent it and does not pass it on,
removes it. What processes that were killed have left is swept.

The folder is on the project's disk, which for what lives so shortly is the system's page cache. A
name is a random one, made here: no caller's word is part of a path.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from skipper.values.kept import HAS_LEASES, IDLE_S, PREFIX, KeptFiles, let_stay, opened

_NAME = re.compile(r"[0-9a-f]{32}")
_CHUNK = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
KEPT_BYTES = 64 << 20
"""Of files that a process may keep to write them again, at most."""
Buffer = bytes | bytearray | memoryview


class SpooledFile:
    """A file of the spool that is being written; what is not :meth:`kept` goes with the block.

    ``descriptor`` is open for writing at its start, and ``old_size`` bytes that it has are not its
    content. Its ``digest`` is there only where ``is_hashed``, since that takes longer than writing.
    """

    def __init__(
        self, path: Path, descriptor: int, spool: Spool, *, old_size: int = 0, is_hashed: bool
    ) -> None:
        self.name, self._path = path.name, path
        self._descriptor, self._spool, self._old_size = descriptor, spool, old_size
        self._digest = hashlib.sha256() if is_hashed else None
        self.size = 0
        self._is_kept = False

    def write(self, data: Buffer) -> None:
        """Add ``data``. Raises OSError, such as for a full disk."""
        if self._digest is not None:
            self._digest.update(data)
        rest = memoryview(data).cast("B")
        self.size += len(rest)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def copy(self, source: Path) -> None:
        """Add the content of a file. Raises OSError."""
        with source.open("rb") as stream:
            while data := stream.read(_CHUNK):
                self.write(data)

    @property
    def digest(self) -> str | None:
        """SHA-256 of what has been written so far, in hexadecimal digits."""
        return None if self._digest is None else self._digest.hexdigest()

    def kept(self) -> str:
        """The file's name; whoever is given it sees to the file from now on. Raises OSError."""
        if self._old_size > self.size:
            os.ftruncate(self._descriptor, self.size)
        self._is_kept = True
        return self.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        is_wanted = kind is None and self._is_kept
        self._spool.written(self._path, descriptor, is_wanted=is_wanted)


class Spool:
    """The files in ``folder``, which is made when the first is written.

    Where it ``is_among_others``, in a directory that every user writes to, somebody else may have
    made it first: nothing is written to one that is not this user's alone.

    This process writes files again, up to ``keeps`` bytes of them, which it :meth:`tidies
    <tidy>` and lets go in the end. ``on_removed`` is told the names of those that are removed here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        is_among_others: bool = False,
        keeps: int = 0,
        on_removed: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.folder, self._is_among_others = folder, is_among_others
        self._kept = KeptFiles(folder, keeps) if keeps and HAS_LEASES else None
        self._on_removed = on_removed

    def create(self, *, is_hashed: bool = False) -> SpooledFile:
        """A new file, to be written in a ``with`` block. Raises OSError."""
        path = self.folder / secrets.token_hex(16)
        if self._kept is not None and (found := self._kept.take(path)) is not None:
            descriptor, size = found
            os.lseek(descriptor, 0, os.SEEK_SET)
            return SpooledFile(path, descriptor, self, old_size=size, is_hashed=is_hashed)
        if self._is_among_others:
            _make_private(self.folder)
        try:
            descriptor = os.open(path, _NEW, 0o600)
        except FileNotFoundError:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, _NEW, 0o600)
        return SpooledFile(path, descriptor, self, is_hashed=is_hashed)

    def written(self, path: Path, descriptor: int, *, is_wanted: bool) -> None:
        """A file has been written; one that is not wanted is gone then."""
        try:
            if self._kept is None or not self._kept.keep(descriptor, path):
                os.close(descriptor)
        finally:
            if not is_wanted:
                path.unlink(missing_ok=True)

    def put(self, *buffers: Buffer) -> str:
        """The name of a new file with these bytes. Raises OSError."""
        with self.create() as file:
            for buffer in buffers:
                file.write(buffer)
            return file.kept()

    def path(self, name: str) -> Path:
        """Where a file lies, for who opens it there, takes it away or links to it.

        Raises ValueError for what is no name of one, and FileNotFoundError where it is gone.
        """
        path = self._path(name)
        let_stay(path)
        return path

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError("no name of a file in the spool")
        return self.folder / name

    def view(self, name: str) -> memoryview:
        """Its bytes, mapped and read-only; they stay, whatever becomes of the file's name.

        Raises FileNotFoundError where it is gone.
        """
        with opened(self._path(name)) as descriptor:
            return mapped(descriptor)

    def open(self, name: str) -> BinaryIO:
        """A stream of its bytes. Raises FileNotFoundError where it is gone."""
        with opened(self._path(name)) as descriptor:
            return os.fdopen(os.dup(descriptor), "rb")

    def read(self, name: str) -> bytes:
        """A copy of its bytes, which takes half the time of one from :meth:`view`.

        Raises FileNotFoundError where it is gone.
        """
        with self.open(name) as stream:
            return stream.read()

    def remove(self, names: Iterable[str]) -> None:
        """Forget these files, those that are gone included."""
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                self._path(name).unlink()
            self._on_removed(name)

    def let_go(self, idle_s: float = 0.0) -> None:
        """Forget what this process has kept for longer to write it again."""
        if self._kept is not None:
            self._kept.let_go(idle_s)

    def tidy(self, idle_s: float = IDLE_S) -> None:
        """Forget what has been kept for longer by any process, be it dead. Raises OSError."""
        self.let_go(idle_s)
        self._remove_old(f"{PREFIX}*", idle_s)

    def sweep(self, age_s: float) -> int:
        """Remove what nobody has written to for ``age_s``; how many files that were."""
        return self._remove_old("*", age_s)

    def _remove_old(self, pattern: str, age_s: float) -> int:
        removed, before = 0, time.time() - age_s
        for path in self.folder.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    removed += 1
        return removed


def _make_private(folder: Path) -> None:
    """Make a folder that only this user opens. Raises PermissionError where it is another's."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()  # because whoever makes a link decides where it leads
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        advice = "the folder must be your own and closed to others: remove it, or set TMPDIR"
        raise PermissionError(errno.EACCES, advice, str(folder))


def mapped(descriptor: int) -> memoryview:
    """A file's bytes, mapped read-only. They stay when the descriptor is closed."""
    try:
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except ValueError:  # which is what an empty file raises
        return memoryview(b"")
