"""Talks to a running launcher through its socket. Blocking, and cheap to import."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

from skipper.errors import UnavailableError
from skipper.settings.model import Settings
from skipper.wire.control import GetStatus, LauncherQuestion, StopTree

SOCKET = "launcher.sock"
_ANSWER_S = 5.0
_NOT_OURS = "is another user's. Set XDG_RUNTIME_DIR to a folder of your own and start again."


def status(settings: Settings) -> dict[str, Any] | None:
    """How the project's tree is, by its launcher; None where none runs.

    A :class:`~skipper.wire.control.TreeStatus`, of which a launcher of another version may leave
    out members or have more: the command prints it as it came. Raises :class:`UnavailableError`
    where a launcher listens and does not answer.
    """
    with _connected(settings) as sock:
        return _ask(sock, GetStatus()) if sock else None


def down(settings: Settings, timeout_s: float, *, kill: bool = False) -> bool:
    """Stop the project's tree and wait until it has ended; False where none ran.

    It drains within ``run.grace_s``, or is killed at once with ``kill``. Raises
    :class:`TimeoutError` when it has not ended after ``timeout_s``.
    """
    end = time.monotonic() + timeout_s
    with _connected(settings) as sock:
        if not sock:
            return False
        _ask(sock, StopTree(kill=kill))
        # the launcher keeps the connection until its process ends
        while (left := end - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                if not sock.recv(4096):
                    return True
            except ConnectionResetError:
                return True
            except TimeoutError:
                break
    raise TimeoutError(f"The tree has not ended after {timeout_s:g} s.")


@contextlib.contextmanager
def _connected(settings: Settings) -> Iterator[socket.socket | None]:
    """A connection to the project's launcher; None where none listens."""
    from skipper.wire.frames import peer_is_us  # brings asyncio, for those who ask

    path = settings.run_dir / SOCKET
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(_ANSWER_S)
        try:
            sock.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            yield None
        except PermissionError:
            raise UnavailableError(f"{path} {_NOT_OURS}") from None
        else:
            # Where folders of run time are in a shared one, anybody may have made ours before us.
            if not peer_is_us(sock, os.getuid()):
                raise UnavailableError(f"{path} {_NOT_OURS}")
            yield sock


def _ask(sock: socket.socket, question: LauncherQuestion) -> dict[str, Any] | None:
    try:
        sock.sendall(question.to_line())
        answer = b""
        while not answer.endswith(b"\n"):
            data = sock.recv(65536)
            if not data:  # it ended while we asked
                return None
            answer += data
    except TimeoutError:
        raise UnavailableError("The launcher does not answer.") from None
    except OSError:
        return None
    found = json.loads(answer)
    return found if isinstance(found, dict) else None
