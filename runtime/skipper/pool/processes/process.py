"""The host's side of one process of its pool: start, report, output, end. No calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from skipper.instance.jobs import Job, Report, Turn
from skipper.instance.link import CLOSED_CODE
from skipper.pool.processes.output import OutputStream, Printed
from skipper.system import exit_words, when_ended
from skipper.wire.frames import Frame, FrameKind, FrameProtocol
from skipper.wire.lines import mark_of

log = logging.getLogger(__name__)

STOP_GRACE_S = 2.0
"""Between TERM and KILL for a process that should stop."""
_CLOSED = "it closed its connection to its host"
_CHUNK = 1 << 16
_PAGE = os.sysconf("SC_PAGE_SIZE")


class InstanceState(StrEnum):
    """Where an instance stands."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    HELD = "held"
    STOPPING = "stopping"
    GONE = "gone"


class Lane(StrEnum):
    """Which of the pool's two capacities an instance belongs to."""

    DIRECT = "direct"
    TASKS = "tasks"
    READING = "reading"


@dataclass(frozen=True, kw_only=True)
class HostEnds:
    """The host's ends of the descriptors that a new instance was given."""

    sock: socket.socket
    stdout: int
    stderr: int
    pid: int


class PluginEndedError(ConnectionError):
    """An instance that died, or was ended because it was late, while it ran a plugin's code."""

    def __init__(self, turn: Turn, reason: str, *, is_late: bool = False) -> None:
        super().__init__(f"{reason} {turn} (plugin {turn.file or turn.plugin})")
        self.turn, self.reason, self.is_late = turn, reason, is_late


class ModelEndedError(ConnectionError):
    """An instance that died, or was ended because it was late, while it loaded a model."""

    def __init__(self, turn: Turn, reason: str, *, is_late: bool = False) -> None:
        assert turn.model is not None
        super().__init__(f"{reason} while it loaded the model {turn.model.label}")
        self.ref, self.reason, self.is_late = turn.model, reason, is_late


class InstanceProcess(ABC):
    """One process of the pool, whatever it runs.

    It ends in ``GONE``, which ``gone`` tells of too, and ``death_reason`` says why.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.state = job, InstanceState.STARTING
        self.pid = 0
        self.idle_since = time.monotonic()
        """When it was ready, or its last call ended."""
        self.ready_at = math.inf
        self.ready_mb = 0.0
        """Its memory when it was ready: much of that may be shared with its template."""
        self.death_reason = ""
        self._turn = b""
        """Whose code runs before the report, as its last frame about that says."""
        self._report: asyncio.Future[Report] = asyncio.get_running_loop().create_future()
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._protocol: FrameProtocol | None = None
        self._sock: socket.socket | None = None
        self._outputs: list[OutputStream] = []

    @property
    def name(self) -> str:
        return f"{self.job.function or self.job.kind}#{self.pid}"

    @property
    def is_alive(self) -> bool:
        return self.state not in (InstanceState.STOPPING, InstanceState.GONE)

    # --- what those who use it make of it ---

    @property
    @abstractmethod
    def lane(self) -> Lane: ...

    @property
    @abstractmethod
    def running(self) -> int:
        """How many calls it runs."""

    @abstractmethod
    def wear(self) -> None:
        """It has filled most of the memory that it may take."""

    @abstractmethod
    def _on_frame(self, frame: Frame) -> None:
        """It has sent a frame that is neither its report nor about what comes before that."""

    @abstractmethod
    def _on_printed(self, printed: Printed) -> None:
        """It has written lines of output."""

    @abstractmethod
    def _on_gone(self) -> None:
        """It has ended. Everything that it has sent or written has been passed on before."""

    # --- life ---

    async def start(self, ends: HostEnds, timeout_s: float) -> Report:
        """Hand the job over and wait for the report.

        The process is ended, and gone, where none comes in time or nobody waits any more. Raises
        TimeoutError, or ConnectionError where the process ends by itself.
        """
        loop = asyncio.get_running_loop()
        self._outputs = [
            OutputStream(name, descriptor, self._on_printed, mark_of(self.job.mark))
            for name, descriptor in (("stdout", ends.stdout), ("stderr", ends.stderr))
        ]
        self._sock, self.pid = ends.sock, ends.pid
        when_ended(self.pid, self._ended, self._reap)
        try:
            await loop.create_unix_connection(
                lambda: FrameProtocol(self._frames, lambda _: self._hung_up(), self._connected),
                sock=ends.sock,
            )
            report = await asyncio.wait_for(asyncio.shield(self._report), timeout_s)
        except TimeoutError:
            await self._give_up(f"it did not finish loading within {timeout_s:g} s")
            late = f"it did not come back within {timeout_s:g} s"
            if (culprit := self._culprit(late, is_late=True)) is not None:
                raise culprit from None
            raise TimeoutError(self.death_reason) from None
        except asyncio.CancelledError:
            await self._give_up("its start was given up")
            raise
        if self.state is InstanceState.STARTING:
            self.state = InstanceState.IDLE
        self.idle_since = self.ready_at = time.monotonic()
        self.ready_mb = self.memory_mb()
        return report

    async def _give_up(self, reason: str) -> None:
        self.death_reason = reason
        self.kill()
        await self.until_gone()

    async def until_gone(self, timeout_s: float | None = None) -> None:
        """Wait for the end of the process, or for ``timeout_s``."""
        await asyncio.wait({self.gone}, timeout=timeout_s)

    def stop(self) -> None:
        """End the process: it is asked to, then made to."""
        if self.state is InstanceState.GONE:
            return
        if self._protocol is not None:  # one that has been interrupted waits for this alone
            self._protocol.transport.close()
        if self.state is not InstanceState.STOPPING:
            self.terminate()

    def terminate(self, grace_s: float = STOP_GRACE_S) -> None:
        """Interrupt what runs: TERM now, KILL after a grace. Replies still arrive in between."""
        if self.state is InstanceState.GONE:
            return
        self.state = InstanceState.STOPPING
        self.signal(signal.SIGTERM)
        asyncio.get_running_loop().call_later(grace_s, self._kill_late, grace_s)

    def _kill_late(self, grace_s: float) -> None:
        if self.state is not InstanceState.GONE:
            late = "%s had not ended %g s after it was asked to, and is killed"
            log.warning(late, self.name, grace_s, extra={"function": self.job.function})
            self.kill()

    def kill(self) -> None:
        """End the process and everything in its group, now."""
        if self.state is not InstanceState.GONE:
            self.state = InstanceState.STOPPING
            self.signal(signal.SIGKILL, group=True)

    def signal(self, signum: int, *, group: bool = False) -> None:
        if not self.pid or self.state is InstanceState.GONE:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signum)
        if group:  # a process that has just been forked leads none yet
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signum)

    def _connected(self, protocol: FrameProtocol) -> None:
        self._protocol = protocol
        protocol.send(FrameKind.JOB, 0, self.job.model_dump_json().encode())

    def _frames(self, protocol: FrameProtocol, frames: list[Frame]) -> None:
        for frame in frames:
            if frame.kind == FrameKind.REPORT:
                if not self._report.done():
                    self._report.set_result(Report.model_validate_json(frame.payload))
            elif frame.kind == FrameKind.TURN:
                self._turn = frame.payload
            else:
                self._on_frame(frame)

    def _hung_up(self) -> None:
        """The socket closes. The process may live on for a moment, or for ever: end it."""
        if self.state is not InstanceState.GONE:
            is_first = self.state is not InstanceState.STOPPING
            self.state = InstanceState.STOPPING
            self._read_the_rest()
            asyncio.get_running_loop().call_later(STOP_GRACE_S, self._end_deaf, is_first)

    def _end_deaf(self, is_first: bool) -> None:
        """End a process that has hung up, without having been asked to, and lives."""
        if is_first and self.state is not InstanceState.GONE:
            self.death_reason = self.death_reason or _CLOSED
        self.kill()

    def _ended(self, code: int | None = None) -> None:
        """It has ended, with this exit code where it has been reaped already."""
        if self.state is InstanceState.GONE:
            return
        self.signal(signal.SIGKILL, group=True)  # whatever it left in its process group
        self.state = InstanceState.STOPPING
        self._read_the_rest()
        self.state = InstanceState.GONE
        code = self._reap(os.WNOHANG) if code is None else code
        self.death_reason = self.death_reason or _how_it_ended(code)
        self.drain()
        for output in self._outputs:
            output.close()
        if self._protocol is not None:
            self._protocol.transport.close()
        if not self._report.done():
            culprit = self._culprit(self.death_reason)
            self._report.set_exception(culprit or ConnectionError(self.death_reason))
            self._report.exception()  # nobody may be waiting any more
        self._on_gone()
        self.gone.set_result(None)

    def _reap(self, options: int = 0) -> int | None:
        """Its exit code, as :func:`os.waitpid` has it; None where somebody else has reaped it."""
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, options)[1]) if self.pid else 0
        except ChildProcessError:
            return None

    def _read_the_rest(self) -> None:
        """Take the frames that it has sent and nobody has read yet.

        Its end, or that it can be sent nothing more, may be noticed before them; and a call that it
        has answered has not died with it.
        """
        sock, self._sock = self._sock, None
        if self._protocol is None or sock is None:
            return
        with contextlib.suppress(OSError):  # all has been read; a child of its may hold the socket
            while data := sock.recv(_CHUNK, socket.MSG_DONTWAIT):
                self._protocol.data_received(data)

    def _culprit(
        self, reason: str, *, is_late: bool = False
    ) -> PluginEndedError | ModelEndedError | None:
        """Whose turn it was: a plugin's or a model's; None where it was neither's."""
        turn = Turn.model_validate_json(self._turn or b"{}")
        if turn.model is not None:
            return ModelEndedError(turn, reason, is_late=is_late)
        return PluginEndedError(turn, reason, is_late=is_late) if turn.plugin else None

    # --- what it is sent, and what it holds ---

    def send(self, kind: int, id_: int, *parts: bytes) -> None:
        """Send a frame. To a process that has ended it goes nowhere."""
        if self._protocol is not None and self.state is not InstanceState.GONE:
            self._protocol.send(kind, id_, *parts)

    @property
    def versions(self) -> str:
        """The versions of models that it holds, as replies name them."""
        return " ".join(dict.fromkeys(ref.label for ref in self.job.models))

    def drain(self) -> None:
        """Read what the process has written by now, so that it counts to the call that ends."""
        for output in self._outputs:
            output.drain()

    def memory_mb(self) -> float:
        """Resident memory, MiB, with what it shares with its template; 0 where it is not known."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)
        except (OSError, IndexError):
            return 0.0


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "its process ended"
    if code < 0:
        return f"its process was {exit_words(code)}"
    if code == CLOSED_CODE:
        return _CLOSED
    return f"its process exited with code {code}"
