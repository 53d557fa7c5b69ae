"""What every role process shares: its arguments, its control channel to the launcher, its logging.

A role is started as ``python -m skipper.<role> --settings FILE --control FD --name NAME …``. The
control channel is one end of a socket pair: the role writes JSON lines to it, and reads the end of
file as the launcher's death.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from skipper import failpoints
from skipper.errors import StartError
from skipper.settings.environment import failpoints_folder, tree_mark
from skipper.settings.handover import restore
from skipper.settings.masking import secrets_of
from skipper.settings.model import Settings
from skipper.settings.redaction import Redactor
from skipper.wire.control import RoleEvent, RoleFailed, RoleReady

LAUNCHER_GONE = 70
"""Exit code of a role whose launcher disappeared."""
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


@dataclass(frozen=True, kw_only=True)
class Role:
    """One role process and the way back to its launcher."""

    name: str
    settings: Settings
    control: socket.socket | None
    pool: str = ""
    listen_fd: int | None = None
    tree: str = ""
    """Mark of the process tree; its guard ends whatever carries it."""

    @classmethod
    def start(cls, description: str, argv: list[str] | None = None) -> Role:
        """Read the command line and set logging up.

        A role without ``--control`` runs alone, for debugging.
        """
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--settings", type=Path, required=True)
        parser.add_argument("--control", type=int)
        parser.add_argument("--name", required=True)
        parser.add_argument("--pool", default="")
        parser.add_argument("--listen", type=int)
        arguments = parser.parse_args(argv)
        settings = restore(arguments.settings)
        set_up_logging(arguments.name, settings.log.level)
        failpoints.enable(failpoints_folder(), arguments.name)
        control = None
        if arguments.control is not None:
            control = socket.socket(fileno=arguments.control)
            control.set_inheritable(False)
        with contextlib.suppress(ValueError, OSError):  # a hard limit of 0 is what we want anyway
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        return cls(
            name=arguments.name,
            settings=settings,
            control=control,
            pool=arguments.pool,
            listen_fd=arguments.listen,
            tree=tree_mark(),
        )

    def ready(self) -> None:
        """Report to the launcher that this role serves."""
        self._report(RoleReady())

    def _report(self, event: RoleEvent) -> None:
        """Send the launcher one event; a role without one sends nothing."""
        if self.control is not None:
            with contextlib.suppress(OSError):  # the launcher's death is seen as the end of file
                self.control.sendall(event.to_line())

    def fail(self, error: StartError) -> NoReturn:
        """Exit with the error's code, after the launcher, or standard error, has got the reason."""
        reason = Redactor(secrets_of(self.settings))(str(error))
        if self.control is None:
            sys.stderr.write(f"{reason}\n")
        self._report(RoleFailed(reason))
        raise SystemExit(error.code) from None

    def watch_launcher(self, loop: asyncio.AbstractEventLoop) -> None:
        """Exit this process at once when the launcher is gone."""
        if self.control is None:
            return
        control = self.control
        control.setblocking(False)

        def readable() -> None:
            try:
                is_gone = control.recv(4096) == b""
            except BlockingIOError:
                return
            except OSError:  # it died without reading what this role had written
                is_gone = True
            if is_gone:
                _end_descendants()
                os._exit(LAUNCHER_GONE)

        loop.add_reader(control, readable)


def set_up_logging(role: str, level: str) -> None:
    """Send all logging of this process to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(role))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("skipper").setLevel(level.upper())


class JsonFormatter(logging.Formatter):
    """``ts`` (epoch seconds), ``level``, the role's ``name``, ``message``, the record's extras."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": round(record.created, 3),
            "level": record.levelname.lower(),
            "name": self._role,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _end_descendants() -> None:
    """Kill what this process has started or adopted: afterwards nobody knows whose it was."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                process.kill()


def run(role: Role, main: Callable[[Role, asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run ``main(role, stopping)`` on a fast event loop; SIGTERM sets ``stopping``.

    A StartError ends this process with its code.
    """
    import uvloop

    async def body() -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stopping.set)
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)
        role.watch_launcher(loop)
        await main(role, stopping)

    try:
        uvloop.run(body())
    except StartError as error:
        role.fail(error)
