"""One child process: its start, its readiness, its output, its end. No policy.

A child leads a session and a process group of its own, so that a Ctrl-C at the terminal reaches the
launcher alone and a kill reaches whatever the child left in its group.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from skipper.launcher.output import ChildOutput
from skipper.launcher.plan import CONTROL, LISTEN, LOCK, SETTINGS, ChildPlan
from skipper.system import when_ended
from skipper.wire.control import RoleEvent, RoleFailed, RoleReady, parse_role_event

_PROBE_PAUSE_S = 0.02
_PROBE_LIMIT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class LaunchContext:
    """What every child of one tree is started with."""

    settings_file: Path
    directory: Path
    environment: Mapping[str, str]
    """Carries the tree's mark."""
    bare_environment: Mapping[str, str]
    lock_fd: int
    listener: socket.socket | None = None


class Child:
    """One start of a planned child, from :func:`start` to ``exited``."""

    def __init__(
        self,
        plan: ChildPlan,
        popen: subprocess.Popen[bytes],
        control: socket.socket,
        output: ChildOutput,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.plan, self.pid, self.output = plan, popen.pid, output
        self.started_at = time.time()
        self.reason = ""
        """Why the child cannot start, by its own word; empty where it gave none."""
        self.ready: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[int] = loop.create_future()
        self._popen, self._control, self._loop = popen, control, loop
        self._unread = b""
        """The beginning of a line that is yet to end."""
        self._probing: asyncio.Task[None] | None = None
        control.setblocking(False)
        loop.add_reader(control, self._on_readable)
        when_ended(popen.pid, self._on_death, popen.wait)
        if plan.probe:
            self._probing = loop.create_task(self._probe(plan.probe))

    def send(self, line: str) -> None:
        """Send a line on the control channel. A child that does not read is not waited for."""
        with contextlib.suppress(OSError):
            self._control.send(line.encode() + b"\n")

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the child and all that is in its process group."""
        self._signal(signal.SIGKILL, group=True)

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        if self.exited.done():  # its pid may be another's by now
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.killpg if group else os.kill)(self.pid, number)

    def _on_death(self, code: int | None) -> None:
        if code is None:
            # before the child is reaped, while its group's number cannot be another's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            code = self._popen.wait()
        self._loop.remove_reader(self._control)
        self._control.close()
        if self._probing:
            self._probing.cancel()
        self.exited.set_result(code)

    def _on_readable(self) -> None:
        try:
            data = self._control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # the child closed its end; its death is seen elsewhere
            self._loop.remove_reader(self._control)
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            self._on_event(parse_role_event(line))

    def _on_event(self, event: RoleEvent | None) -> None:
        match event:
            case RoleReady():
                self.reason = ""
                self._be_ready()
            case RoleFailed(reason=reason):
                self.reason = reason

    def _be_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    async def _probe(self, path: Path) -> None:
        while not await _answers(path):  # noqa: ASYNC110 - another process has no event to wait on
            await asyncio.sleep(_PROBE_PAUSE_S)
        self._be_ready()


def start(
    plan: ChildPlan, context: LaunchContext, follow: Callable[[str, int], ChildOutput]
) -> Child:
    """Start ``plan``; ``follow`` is given its name and the pipe it writes to. May raise OSError."""
    ours, theirs = socket.socketpair()
    descriptors = {CONTROL: theirs.fileno(), LOCK: context.lock_fd}
    if context.listener:
        descriptors[LISTEN] = context.listener.fileno()
    values = {SETTINGS: str(context.settings_file)} | {
        name: str(fd) for name, fd in descriptors.items()
    }
    read_end, write_end = os.pipe()
    try:
        popen = subprocess.Popen(
            [values.get(word, word) for word in plan.command],
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            pass_fds=[fd for name, fd in descriptors.items() if name in plan.command],
            env=context.environment if plan.is_marked else context.bare_environment,
            cwd=context.directory,
            start_new_session=True,
        )
    except OSError:
        os.close(read_end)
        ours.close()
        raise
    finally:
        theirs.close()
        os.close(write_end)
    return Child(plan, popen, ours, follow(plan.name, read_end))


async def _answers(path: Path) -> bool:
    try:
        async with asyncio.timeout(_PROBE_LIMIT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"PING\r\n")
                return await reader.read(64) != b""
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
