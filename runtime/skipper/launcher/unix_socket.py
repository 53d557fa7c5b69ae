"""The gateway's unix socket, which stands in the file system for as long as the tree lives.

Who may write into its folder could put another socket in its place, and who may open it is let in:
so both are looked at, and nothing but a dead tree's own socket is ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from skipper.errors import StartError
from skipper.exits import Exit
from skipper.settings.environment import SOCKET_PATH_LIMIT

_BACKLOG = 2048
_ANSWER_S = 1.0


@contextlib.contextmanager
def listening(path: Path, group: str = "") -> Iterator[socket.socket]:
    """A socket that listens at ``path``, for this user and ``group`` alone; gone at the end.

    Raises :class:`StartError` where something else is there, or might be put there by others.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
        raise _wrong(path, f"it is longer than the {SOCKET_PATH_LIMIT} bytes that the system takes")
    number = _number(group) if group else -1
    _check_folder(path)
    _remove_dead(path)
    with socket.socket(socket.AF_UNIX) as sock:
        _bind(sock, path)
        own = os.lstat(path)
        try:
            _share(path, group, number)
            sock.listen(_BACKLOG)  # no sooner, because from now on it can be connected to
            yield sock
        finally:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), own):
                    path.unlink()


def _wrong(path: Path, why: str, code: int = Exit.INVALID) -> StartError:
    return StartError(f"gateway.socket = {str(path)!r}: {why}.", code=code)


def _number(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise StartError(
            f"gateway.socket_group = {group!r}: there is no such group; see `getent group`.",
            code=Exit.INVALID,
        ) from None


def _check_folder(path: Path) -> None:
    try:
        found = path.parent.stat()
    except OSError as error:
        why = f"its folder {path.parent} cannot be used ({error.strerror}): make it"
        raise _wrong(path, why) from None
    is_open = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if is_open or found.st_uid not in (0, os.getuid()):
        raise _wrong(
            path,
            f"others may write into its folder {path.parent}, and put a socket of theirs in its "
            "place; use a folder of your own",
        )


def _remove_dead(path: Path) -> None:
    """Remove what a tree that was killed has left. Raises StartError for anything else."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _wrong(path, f"it cannot be looked at ({error.strerror})") from None
    if not stat.S_ISSOCK(found.st_mode):
        kind = "a symbolic link" if stat.S_ISLNK(found.st_mode) else "no socket"
        raise _wrong(path, f"what is there is {kind}: remove it, or choose another path")
    if found.st_uid != os.getuid():
        raise _wrong(path, "the socket that is there is another user's: choose another path")
    if (owner := _listener(path)) is not None:
        by = f" (process {owner})" if owner else ""
        raise _wrong(path, f"somebody listens there already{by}: choose another path", Exit.TAKEN)
    path.unlink()


def _listener(path: Path) -> int | None:
    """The process that listens at ``path``, 0 where the system does not tell; None for nobody."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_ANSWER_S)
        try:
            sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except OSError:  # its backlog is full, for instance: somebody is there
            return 0
        if not hasattr(socket, "SO_PEERCRED"):
            return 0
        pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def _bind(sock: socket.socket, path: Path) -> None:
    mask = os.umask(0o177)  # of the whole process, which has one thread at this time
    try:
        sock.bind(str(path))
    except OSError as error:
        code = Exit.TAKEN if error.errno == errno.EADDRINUSE else Exit.NOT_WRITABLE
        raise _wrong(path, f"it cannot be made ({error.strerror})", code) from None
    finally:
        os.umask(mask)


def _share(path: Path, group: str, number: int) -> None:
    if not group:
        return
    try:
        os.chown(path, -1, number, follow_symlinks=False)
        path.chmod(0o660)
    except OSError as error:
        raise StartError(
            f"gateway.socket_group = {group!r}: the socket cannot be given to it "
            f"({error.strerror}): this user must be in the group.",
            code=Exit.INVALID,
        ) from None
