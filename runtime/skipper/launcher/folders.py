"""A project's folders, the lock that one tree holds, and what a dead tree has left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from skipper.errors import SettingsError, StartError, UnavailableError
from skipper.exits import Exit
from skipper.launcher import client, guard
from skipper.settings.handover import LAST_GOOD, make_run_dir
from skipper.settings.model import Settings
from skipper.settings.trust import exposures, is_trusted, remedy, stranger
from skipper.values.spool import Spool

_OTHERS = 0o077
_TOLD = 3
"""How many paths one message names."""
_WAIT_S = 12.0
"""How long a start waits for the lock of a tree that ends, or whose guard is at work."""


def prepare(settings: Settings) -> list[str]:
    """Make the folders of state and of run time; what is to be told of who else may write.

    Raises :class:`StartError` where it cannot, and where others may write what root would run.
    """
    warnings = _check_writers(settings)
    try:
        for folder in ("", "logs", "broker", "tmp", "blobs"):
            warnings += _make_private(settings.state_dir / folder)
        _keep_from_git(settings.state_dir)
        probe = settings.state_dir / "tmp" / f".{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        make_run_dir(settings)
    except OSError as error:
        raise StartError(
            f"{error.filename or settings.state_dir} cannot be written: {error.strerror}. Skipper "
            f"keeps its state in {settings.state_dir} and its sockets in {settings.run_dir}.",
            code=Exit.NOT_WRITABLE,
        ) from None
    except SettingsError as error:
        raise StartError(str(error), code=Exit.NOT_WRITABLE) from None
    return warnings


def _check_writers(settings: Settings) -> list[str]:
    """Refuse or tell what others may write: this tree runs it, or keeps its state there."""
    project, state = settings.project_dir, settings.state_dir
    advice = remedy(project)
    if not is_trusted(project) and (owner := stranger(state)):
        raise StartError(
            f"{state} belongs to {owner}, and inputs, results and models would lie there. "
            f"Remove it; {advice}.",
            code=Exit.INVALID,
        )
    found = list(exposures(project))
    told = "; ".join(found[:_TOLD])
    if len(found) > _TOLD:
        told += f"; and {len(found) - _TOLD} more"
    if found and os.geteuid() == 0:
        raise StartError(f"{told}, and root would run it. {advice}.", code=Exit.INVALID)
    return [f"{told}, and is run as you. {advice}."] if found else []


def _make_private(folder: Path) -> list[str]:
    """Make a folder that only this user opens, and close one that is there to all others.

    Where a link leads is left as it is, because others may share that; what is open then is told.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(PermissionError):
        if folder.stat().st_mode & _OTHERS and not folder.is_symlink():
            folder.chmod(0o700)
    mode = folder.stat().st_mode
    return [f"{folder} is open to others ({stat.filemode(mode)})."] if mode & _OTHERS else []


def _keep_from_git(folder: Path) -> None:
    with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
        file.write("# Inputs, results, models and logs of Skipper's: nothing to commit.\n*\n")


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[int | None]:
    """Hold the project's lock; its descriptor, or None where a tree runs already."""
    fd = os.open(settings.run_dir / "launcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield fd if _acquire(fd, settings) else None
    finally:
        os.close(fd)


def _acquire(fd: int, settings: Settings) -> bool:
    end = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        else:
            return True
        if _is_serving(settings):
            return False
        if time.monotonic() > end:
            raise StartError(
                f"Another launcher holds {settings.run_dir / 'launcher.lock'} and neither serves "
                "nor ends; see who it is with `lsof`, and end it.",
                code=Exit.TAKEN,
            )
        time.sleep(0.1)


def _is_serving(settings: Settings) -> bool:
    """Whether a tree runs here and is not about to end."""
    try:
        found = client.status(settings)
    except UnavailableError:
        return False
    return found is not None and not found["stopping"]


def clear(settings: Settings) -> None:
    """Remove what a tree left in its folder of run time, and in the spool. Needs the lock.

    What listens there still is ended.
    """
    run_dir = settings.run_dir
    for path in run_dir.glob("*.sock"):
        if pid := _listener(path):
            _end(pid)
        path.unlink(missing_ok=True)
    (run_dir / "settings.json").unlink(missing_ok=True)  # it holds secrets
    shutil.rmtree(run_dir / LAST_GOOD, ignore_errors=True)
    Spool(settings.spool_dir).sweep(0.0)  # whoever was to take what lies there is dead


def _listener(path: Path) -> int | None:
    """The process that listens on the unix socket ``path``, as far as the system shows it."""
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        sock.settimeout(1.0)
        sock.connect(str(path))
        if hasattr(socket, "SO_PEERCRED"):
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            pid, _, _ = struct.unpack("3i", credentials)
            return int(pid) or None
    return None


def _end(pid: int) -> None:
    """SIGTERM, 3 s, SIGKILL: two brokers must not write one append-only file."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        for _ in range(60):
            if not guard.is_alive(pid):
                return
            time.sleep(0.05)
