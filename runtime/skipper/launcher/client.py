"""Talks to a running launcher through its socket. Blocking, and cheap to import."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from skipper.errors import UnavailableError
from skipper.settings.model import Settings
from skipper.wire.control import GetStatus, LauncherQuestion, StopTree

SOCKET = "launcher.sock"
_ANSWER_S = 5.0


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


class _connected:  # noqa: N801 - a context manager that is called like a function
    def __init__(self, settings: Settings) -> None:
        self._path = settings.run_dir / SOCKET
        self._sock = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> socket.socket | None:
        self._sock.settimeout(_ANSWER_S)
        try:
            self._sock.connect(str(self._path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.close()


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
