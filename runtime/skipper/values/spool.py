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
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_NAME = re.compile(r"[0-9a-f]{32}")
_CHUNK = 1 << 20
Buffer = bytes | bytearray | memoryview


class SpooledFile:
    """A file of the spool that is being written; what is not :meth:`kept` goes with the block.

    Its ``digest`` is there only where ``is_hashed``, since that takes longer than to write it.
    """

    def __init__(self, path: Path, *, is_hashed: bool = False) -> None:
        self.name, self._path = path.name, path
        self._stream = open(path, "xb", buffering=0, opener=_private)  # noqa: SIM115 - its own block closes it
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
            rest = rest[self._stream.write(rest) :]

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
        """The file's name; whoever is given it sees to the file from now on."""
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
        self._stream.close()
        if kind is not None or not self._is_kept:
            self._path.unlink(missing_ok=True)


class Spool:
    """The files in ``folder``, which is made when the first is written.

    Where it ``is_among_others``, in a directory that every user writes to, somebody else may have
    made it first: nothing is written to one that is not this user's alone.
    """

    def __init__(self, folder: Path, *, is_among_others: bool = False) -> None:
        self._folder, self._is_among_others = folder, is_among_others

    def create(self, *, is_hashed: bool = False) -> SpooledFile:
        """A new file, to be written in a ``with`` block. Raises OSError."""
        if self._is_among_others:
            _make_private(self._folder)
        path = self._folder / secrets.token_hex(16)
        try:
            return SpooledFile(path, is_hashed=is_hashed)
        except FileNotFoundError:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return SpooledFile(path, is_hashed=is_hashed)

    def put(self, *buffers: Buffer) -> str:
        """The name of a new file with these bytes. Raises OSError."""
        with self.create() as file:
            for buffer in buffers:
                file.write(buffer)
            return file.kept()

    def path(self, name: str) -> Path:
        """Where a file lies. Raises ValueError for what is no name of one."""
        if not _NAME.fullmatch(name):
            raise ValueError("no name of a file in the spool")
        return self._folder / name

    def view(self, name: str) -> memoryview:
        """Its bytes, mapped and read-only; they stay, whatever becomes of the file's name.

        Raises FileNotFoundError where it is gone.
        """
        with self.path(name).open("rb") as stream:
            return mapped(stream.fileno())

    def remove(self, names: Iterable[str]) -> None:
        """Forget these files, those that are gone included."""
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                self.path(name).unlink()

    def sweep(self, age_s: float) -> int:
        """Remove what nobody has written to for ``age_s``; how many files that were."""
        removed, before = 0, time.time() - age_s
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
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


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def mapped(descriptor: int) -> memoryview:
    """A file's bytes, mapped read-only. They stay when the descriptor is closed."""
    try:
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except ValueError:  # which is what an empty file raises
        return memoryview(b"")
