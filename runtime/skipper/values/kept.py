"""Files of the spool that their writer writes again, which costs a quarter of a new one.

To have fresh pages and to give them back takes longer than to copy into them. But a file must not
be written to while anybody may still see what it held, and whoever reads it, in whatever process,
need not tell: the kernel is asked. A file that is kept has a second name, made of its inode's
number, which its writer alone uses. It is written again if

1. it has no other name: whoever was sent it has removed it, and nobody can come to it any more;
2. nobody has it open or mapped, forked children included, which is when the kernel grants a lease
   on it (``F_SETLEASE``); and
3. its second name is there still and can be given another: whoever wants to have a file for good
   removes that name (:func:`let_stay`), as the sweep does with those that lie idle.

This holds because readers look once more, after they have opened a name, whether it is there still
(:func:`opened`): it was, with the file open, before its writer could find 1 and 2. Where there are
no leases (other systems than Linux, some file systems) no file is written again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

PREFIX = "kept-"
IDLE_S = 10.0
"""How long what a file held may lie there after its call for the next one to overwrite it."""
MOST_FILES = 64
LARGEST = 16 << 20
"""Bytes of a file that is kept; what is larger is rare, and takes more of the disk than of time."""
_LOOKED_AT = 4
"""Files of which one may be free before a new one is made."""


class _KeptFile(NamedTuple):
    descriptor: int
    path: Path
    """Its second name."""
    size: int
    since: float
    """When it was written, on the monotonic clock."""


class _State(Enum):
    FREE = "nobody sees it, and it has its new name"
    IN_USE = "somebody may see it"
    LOST = "it cannot be written again"


class KeptFiles:
    """What a process has written in ``folder`` and may write again: ``most`` bytes altogether."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._files: deque[_KeptFile] = deque()
        self._size = 0
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def take(self, name: Path) -> tuple[int, int] | None:
        """A file that nobody sees, now with this ``name``: its descriptor, and its size.

        None where there is none. Its content is what it was.
        """
        if os.getpid() != self._pid:  # of a forked child, whose parent may take the same
            return None
        with self._lock:
            for _ in range(min(_LOOKED_AT, len(self._files))):
                file = self._files.popleft()
                state = self._state(file, name)
                if state is _State.FREE:
                    self._size -= file.size
                    return file.descriptor, file.size
                if state is _State.IN_USE:
                    self._files.append(file)
                else:
                    self._drop(file)
        return None

    def keep(self, descriptor: int, name: Path) -> bool:
        """Keep a file that has been written as ``name``, if there is room for it.

        Otherwise its descriptor stays the caller's.
        """
        found = os.fstat(descriptor)
        if os.getpid() != self._pid or not 0 < found.st_size <= min(LARGEST, self._most):
            return False
        path = second_name(self._folder, found.st_ino)
        with self._lock:
            try:
                os.link(name, path)
            except FileExistsError:
                pass  # it has been written again
            except OSError:
                return False
            self._make_room(found.st_size)
            self._files.append(_KeptFile(descriptor, path, found.st_size, time.monotonic()))
            self._size += found.st_size
        return True

    def let_go(self, idle_s: float = 0.0) -> None:
        """Forget what has been kept for longer."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            for file in list(self._files):
                if time.monotonic() - file.since >= idle_s:
                    self._files.remove(file)
                    self._size -= file.size
                    self._drop(file)

    def _make_room(self, size: int) -> None:
        while len(self._files) >= MOST_FILES or self._size + size > self._most:
            file = self._files.popleft()
            self._size -= file.size
            self._drop(file)

    def _state(self, file: _KeptFile, name: Path) -> _State:
        """Whether it can be written again. In this order, for the reasons that are told above."""
        names = os.fstat(file.descriptor).st_nlink
        if names != 1:
            return _State.IN_USE if names else _State.LOST
        try:
            if not _is_unseen(file.descriptor):
                return _State.IN_USE
            os.link(file.path, name)
        except OSError:
            return _State.LOST
        return _State.FREE

    def _drop(self, file: _KeptFile) -> None:
        with contextlib.suppress(OSError):
            file.path.unlink()
        os.close(file.descriptor)


def _is_unseen(descriptor: int) -> bool:
    """Whether nobody else has the file open or mapped. Raises OSError where that is not told."""
    # In place of SIGIO, which would end this process if somebody opened the file just now.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except BlockingIOError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


HAS_LEASES = hasattr(fcntl, "F_SETLEASE")


def second_name(folder: Path, inode: int) -> Path:
    """What the writer of a file calls it."""
    return folder / f"{PREFIX}{inode}"


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a file that has this name, open for reading.

    Raises FileNotFoundError where it is gone, be it meanwhile.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def let_stay(path: Path) -> None:
    """Have a file never be written again, whoever opens it by its name from now on.

    Raises FileNotFoundError where it is gone.
    """
    with opened(path) as descriptor:
        found = os.fstat(descriptor)
        if found.st_nlink > 1:
            second_name(path.parent, found.st_ino).unlink(missing_ok=True)
