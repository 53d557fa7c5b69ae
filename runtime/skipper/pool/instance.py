"""The host's side of one instance: its process, its socket, its output, the calls it runs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from skipper import wire
from skipper.instance.jobs import Job, ModelRef, Report
from skipper.wire import Frame, FrameProtocol, Kind

STOP_GRACE_S = 2.0
"""Between TERM and KILL for a process that should stop."""
_LINE_LIMIT = 16 * 1024
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Lane(StrEnum):
    """Which of the pool's two capacities an instance belongs to."""

    DIRECT = "direct"
    TASKS = "tasks"
    READING = "reading"


class State(StrEnum):
    """Where an instance stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STOPPING = "stopping"
    GONE = "gone"


@dataclass(frozen=True, kw_only=True)
class Ends:
    """The host's ends of the descriptors that a new instance was given."""

    sock: socket.socket
    stdout: int
    stderr: int
    pid: int


class Instance:
    """One process of the pool.

    ``on_frame`` gets every frame that belongs to a call, ``on_line`` each line of output,
    ``on_gone`` the instance itself once its process has ended.
    """

    def __init__(
        self,
        job: Job,
        lane: Lane,
        *,
        on_frame: Callable[[Instance, Frame], None],
        on_line: Callable[[Instance, str, str], None],
        on_gone: Callable[[Instance], None],
    ) -> None:
        self.job, self.lane, self.state = job, lane, State.STARTING
        self._on_frame, self._on_line, self._on_gone = on_frame, on_line, on_gone
        self.pid = 0
        self.calls: dict[int, Any] = {}
        """The calls it runs, by id, as the lane that sent them knows them."""
        self.waiting = 0
        """Of its calls, how many wait for a call of their own."""
        self.served = 0
        """Calls it has been given so far."""
        self.is_worn = False
        """A fresh instance is on its way to take its place."""
        self.idle_since = time.monotonic()
        self.ready_at = math.inf
        self.ready_mb = 0.0
        """Its memory when it was ready: much of that may be shared with its template."""
        self.death_reason = ""
        self._last_id = 0
        self._models = {ref.name: ref.version for ref in job.models}
        self._unloaded = 0
        self.loaded = asyncio.Event()
        """Set while it holds, or has tried to load, every version that it was told to take."""
        self.loaded.set()
        self._report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol: FrameProtocol | None = None
        self._outputs: dict[str, _Output] = {}
        self._pidfd = -1

    @property
    def name(self) -> str:
        return f"{self.job.function or self.job.kind}#{self.pid}"

    @property
    def takes_calls(self) -> bool:
        """Whether it has reported, and is not being ended."""
        return self.state in (State.IDLE, State.BUSY)

    @property
    def is_alive(self) -> bool:
        return self.state not in (State.STOPPING, State.GONE)

    # --- life ---

    async def start(self, ends: Ends, timeout_s: float) -> Report:
        """Hand the job over and wait for the report. Ends the process where none comes in time."""
        loop = asyncio.get_running_loop()
        for stream, descriptor in (("stdout", ends.stdout), ("stderr", ends.stderr)):
            self._outputs[stream] = _Output(descriptor, partial(self._on_line, self, stream))
        await loop.create_unix_connection(
            lambda: FrameProtocol(self._frames, lambda _: self._hung_up(), self._connected),
            sock=ends.sock,
        )
        self._watch(ends.pid)
        try:
            report = await asyncio.wait_for(asyncio.shield(self._report), timeout_s)
        except TimeoutError:
            self.death_reason = f"it did not finish loading within {timeout_s:g} s"
            self.kill()
            await self.gone
            raise
        if self.state is State.STARTING:
            self.state = State.IDLE
        self.idle_since = self.ready_at = time.monotonic()
        self.ready_mb = self.memory_mb()
        return report

    def stop(self) -> None:
        """End the process: it is told to, then made to."""
        if self.state in (State.STOPPING, State.GONE):
            return
        self.state = State.STOPPING
        if self._protocol is not None:
            self._protocol.transport.close()
        self.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(STOP_GRACE_S, self.kill)

    def terminate(self, grace_s: float = STOP_GRACE_S) -> None:
        """Interrupt what runs: TERM now, KILL after a grace. Replies still arrive in between."""
        if self.state is State.GONE:
            return
        self.state = State.STOPPING
        self.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace_s, self.kill)

    def kill(self) -> None:
        """End the process and everything in its group, now."""
        if self.state is not State.GONE:
            self.state = State.STOPPING
            self.signal(signal.SIGKILL, group=True)

    def signal(self, signum: int, *, group: bool = False) -> None:
        if not self.pid or self.state is State.GONE:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signum)
        if group:  # a process that has just been forked leads none yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signum)

    def _connected(self, protocol: FrameProtocol) -> None:
        self._protocol = protocol
        protocol.send(Kind.JOB, 0, self.job.model_dump_json().encode())

    def _frames(self, protocol: FrameProtocol, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind == Kind.REPORT:
                self._reported(frame)
            else:
                self._on_frame(self, frame)

    def _reported(self, frame: Frame) -> None:
        """The answer to its job, and then to each version of a model that it was told to take."""
        if not self._report.done():
            self._report.set_result(Report.model_validate_json(frame.payload))
            return
        self._unloaded -= 1
        if not self._unloaded:
            self.loaded.set()

    def _watch(self, pid: int) -> None:
        self.pid, loop = pid, asyncio.get_running_loop()
        try:
            self._pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended()
        except (AttributeError, OSError):  # not Linux, or before 5.3: a thread waits for its end
            threading.Thread(target=self._wait, args=(loop,), daemon=True).start()
        else:
            loop.add_reader(self._pidfd, self._ended)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        status = None
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(RuntimeError):  # the loop ended first
            loop.call_soon_threadsafe(self._ended, status)

    def _hung_up(self) -> None:
        """The socket closed. The process may live on for a moment, or for ever: end it."""
        if self.state is not State.GONE:
            self.state = State.STOPPING
            asyncio.get_running_loop().call_later(STOP_GRACE_S, self.kill)

    def _ended(self, status: int | None = None) -> None:
        """Its process has ended; ``status`` where that has been reaped already."""
        if self.state is State.GONE:
            return
        self.signal(signal.SIGKILL, group=True)  # whatever it left in its process group
        self.state = State.GONE
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
        self.death_reason = self.death_reason or _how_it_ended(self.pid, status)
        self.drain()
        for output in self._outputs.values():
            output.close()
        if self._protocol is not None:
            self._protocol.transport.close()
        if not self._report.done():
            self._report.set_exception(ConnectionError(self.death_reason))
            self._report.exception()  # nobody may be waiting any more
        self.loaded.set()
        self._on_gone(self)
        self.gone.set_result(None)

    # --- calls ---

    def call(self, payload: bytes, call: Any) -> int:
        """Send a call; frames with the returned id belong to it."""
        id_ = self._enter(call)
        self._transport.write(wire.pack(Kind.CALL, id_, payload))
        return id_

    def call_batch(self, calls: list[tuple[bytes, Any]]) -> None:
        """Send calls that are to run as one."""
        frames = [wire.pack(Kind.CALL, self._enter(call), payload) for payload, call in calls]
        self._transport.write(wire.pack(Kind.BATCH, 0, *frames))

    def _enter(self, call: Any) -> int:
        self._last_id = id_ = self._last_id + 1
        self.calls[id_] = call
        self.served += 1
        self.state = State.BUSY
        return id_

    @property
    def _transport(self) -> asyncio.Transport:
        assert self._protocol is not None
        return self._protocol.transport

    def done(self, id_: int) -> Any:
        """The call with this id has ended; what it was, or None where it is not known."""
        call = self.calls.pop(id_, None)
        if not self.calls and self.state is State.BUSY:
            self.state = State.IDLE
            self.idle_since = time.monotonic()
        return call

    def cancel(self, id_: int) -> None:
        """Ask the function to stop by itself."""
        self.send(Kind.CANCEL, id_)

    def send(self, kind: int, id_: int, *parts: bytes) -> None:
        if self._protocol is not None and self.state is not State.GONE:
            self._protocol.send(kind, id_, *parts)

    def take_model(self, ref: ModelRef) -> None:
        """Have calls from now on served by this version, if the instance holds an older one."""
        if self._models.get(ref.name, ref.version) < ref.version:
            self._models[ref.name] = ref.version
            self._unloaded += 1
            self.loaded.clear()
            self.send(Kind.MODEL, 0, ref.model_dump_json().encode())

    def drain(self) -> None:
        """Read what the process has written by now, so that it counts to the call that ends."""
        for output in self._outputs.values():
            output.read()
            output.end_line()

    def memory_mb(self) -> float:
        """Resident memory, MiB, with what it shares with its template; 0 where it is not told."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)
        except (OSError, IndexError):
            return 0.0


class _Output:
    """One stream of an instance, cut into lines of bounded length."""

    def __init__(self, descriptor: int, on_line: Callable[[str], None]) -> None:
        self._descriptor, self._on_line, self._rest = descriptor, on_line, b""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self.read)

    def read(self) -> None:
        if self._descriptor < 0:
            return
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE_LIMIT:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._on_line(line[:_LINE_LIMIT].decode(errors="replace").rstrip("\r"))

    def end_line(self) -> None:
        """Take what has no line end yet for a line: what comes next is another call's."""
        rest, self._rest = self._rest, b""
        if rest:
            self._on_line(rest.decode(errors="replace"))

    def close(self) -> None:
        if self._descriptor < 0:
            return
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self.end_line()


def _how_it_ended(pid: int, status: int | None) -> str:
    """Reap the process, unless its status is known, and say how it ended."""
    try:
        if status is None:
            _, status = os.waitpid(pid, os.WNOHANG) if pid else (0, 0)
    except ChildProcessError:
        return "its process ended"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process exited with code {code}"
