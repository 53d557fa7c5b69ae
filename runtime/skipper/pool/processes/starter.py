"""Starts instances: forked from a template that holds their libraries, or afresh."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from skipper import system
from skipper.instance.jobs import Job, JobKind, SourceInfo
from skipper.pool.processes.process import HostEnds
from skipper.settings.environment import child_environment, thread_limits
from skipper.settings.pools import PoolSettings
from skipper.wire.messages import TemplateInfo

log = logging.getLogger(__name__)
T = TypeVar("T")

FORK_S = 5.0
"""How long a template may take to fork, or to come to it; then it is replaced."""
CAN_FORK = system.IS_LINUX


@dataclass(frozen=True)
class TemplateKey:
    """What a template holds: libraries, imported under these environment variables."""

    libraries: frozenset[str] = frozenset()
    environment: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, source: SourceInfo) -> TemplateKey:
        """What instances of this file need."""
        if not source.libraries:
            return cls()
        return cls(frozenset(source.libraries), frozenset(source.environment.items()))


def _key_of(job: Job) -> TemplateKey:
    """What a job needs: nothing to read a file that imports libraries where it uses them."""
    if job.source is None or (job.kind is JobKind.READ and not job.source.imports):
        return TemplateKey()
    return TemplateKey.of(job.source)


class Starter:
    """Owns the templates of one host."""

    def __init__(
        self,
        settings: PoolSettings,
        tree: str,
        first: Template | None = None,
        fork_s: float = FORK_S,
    ) -> None:
        self._settings, self._fork_s = settings, fork_s
        self._environment = _environment(tree)
        self._forks = settings.start == "fork" or (settings.start == "auto" and CAN_FORK)
        self._templates: dict[TemplateKey, Template] = (
            {TemplateKey(): first} if first is not None else {}
        )
        system.adopt_orphans()

    async def start(self, job: Job, *, spawn: bool = False) -> HostEnds:
        """Start a process that can do the job; the host's ends of its descriptors."""
        if self._forks and not spawn:
            template, load_s = self._template(_key_of(job)), self._settings.load_timeout_s
            with _descriptors() as (ends, theirs):
                if pid := await template.fork(theirs, load_s, self._fork_s):
                    return ends.keep(pid)
        # New descriptors: a template that failed may have forked a process that holds the others.
        with _descriptors() as (ends, theirs):
            return ends.keep(self._spawn(theirs))

    def keep(self, sources: Iterable[SourceInfo]) -> None:
        """Retire the templates that none of these files needs."""
        kept = {TemplateKey(), *map(TemplateKey.of, sources)}
        for key in [known for known in self._templates if known not in kept]:
            self._templates.pop(key).stop()

    def close(self) -> None:
        for template in self._templates.values():
            template.stop()
        self._templates.clear()

    @property
    def is_forking(self) -> bool:
        """Whether there may be an instance by now whose process id is not known yet."""
        return any(template.is_forking for template in self._templates.values())

    @property
    def pids(self) -> set[int]:
        """Its templates' processes; those that have died are reaped on the way."""
        return {template.pid for template in self._templates.values() if not template.is_dead}

    def describe(self) -> tuple[TemplateInfo, ...]:
        return tuple(template.describe() for template in self._templates.values())

    def _template(self, key: TemplateKey) -> Template:
        template = self._templates.get(key)
        if template is not None and template.is_outdated:
            log.info("a library has changed: its template is made anew", extra=template.extra)
            template.stop()
        if template is not None and template.is_dead:
            template.stop()
            template = None
        if template is None:
            template = self._templates[key] = Template(key, self._environment)
        return template

    def _spawn(self, theirs: list[int]) -> int:
        # Not subprocess.Popen: it would reap the process, whose status is for Instance to read.
        command = [sys.executable, "-m", "skipper.instance.child", "3", str(os.getpid())]
        placed = [
            (os.POSIX_SPAWN_DUP2, source, target)
            for source, target in zip(theirs, (3, 1, 2), strict=True)
        ]
        group: dict[str, Any] = {"setsid": True} if CAN_FORK else {"setpgroup": 0}
        return os.posix_spawn(command[0], command, self._environment, file_actions=placed, **group)


def first_template(tree: str) -> Template | None:
    """Start the template without libraries; None where processes do not fork.

    For a host that has yet to import the rest of itself: everything it does first needs this one.
    """
    return Template(TemplateKey(), _environment(tree)) if CAN_FORK else None


def _environment(tree: str) -> dict[str, str]:
    return child_environment(tree, PYTHONUNBUFFERED="1")


class Template:
    """One template process and the requests to it, one at a time."""

    def __init__(self, key: TemplateKey, environment: dict[str, str]) -> None:
        self.libraries = sorted(key.libraries)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "skipper.instance.template",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    *self.libraries,
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment | thread_limits(1) | dict(key.environment),
                start_new_session=True,
            )
        ours.setblocking(False)
        self._control = ours
        self._turn = asyncio.Lock()
        self._threads = 0
        self._files: list[tuple[str, int]] = []

    @functools.cached_property
    def _ready(self) -> asyncio.Task[None]:
        """Begun with the first fork: a template may be started before there is an event loop."""
        return asyncio.get_running_loop().create_task(self._become_ready())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def extra(self) -> dict[str, object]:
        return {"template": self.shown, "pid": self.pid}

    @property
    def is_outdated(self) -> bool:
        """Whether anything has been installed since its libraries were imported."""
        return any(_written_at(file) != at for file, at in self._files)

    @property
    def is_dead(self) -> bool:
        return self._control.fileno() < 0 or self._process.poll() is not None

    @property
    def is_forking(self) -> bool:
        return self._turn.locked()

    async def fork(self, descriptors: list[int], timeout_s: float, fork_s: float) -> int:
        """Fork an instance with these descriptors; its pid. 0 where it must be spawned instead.

        The libraries may take ``timeout_s`` to be imported, a fork ``fork_s``.
        """
        try:
            await asyncio.wait({self._ready}, timeout=timeout_s)
            if not self._ready.done():
                raise TimeoutError(f"it did not import {self.shown} within {timeout_s:g} s")
            if self._ready.cancelled():
                raise ConnectionError("it was retired")
            self._ready.result()
            if self._threads > 1:
                return 0
            answer = await _to_its_end(self._exchange(descriptors, min(timeout_s, fork_s)))
        except (OSError, ValueError, TimeoutError) as error:
            log.warning(
                "a template failed and is replaced",
                extra={"template": self.shown, "error": repr(error)},
            )
            self.stop()
            return 0
        self._record_threads(answer["threads"])
        return answer["pid"]

    async def _exchange(self, descriptors: list[int], timeout_s: float) -> dict[str, int]:
        async with asyncio.timeout(timeout_s), self._turn:
            socket.send_fds(self._control, [b"fork"], descriptors)
            answer: dict[str, int] = json.loads(await self._receive())
            return answer

    def stop(self) -> None:
        self._ready.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._control.close()
        self._reaped = asyncio.get_running_loop().run_in_executor(None, self._process.wait)

    @property
    def shown(self) -> str:
        return ", ".join(self.libraries) or "bare"

    def describe(self) -> TemplateInfo:
        return TemplateInfo(
            libraries=tuple(self.libraries),
            pid=self.pid,
            state="ready" if self._threads else "loading",
            forks=self._threads == 1,
        )

    async def _become_ready(self) -> None:
        hello = json.loads(await self._receive())
        self._files = hello["files"]
        extra = self.extra
        for missing in hello["missing"]:
            log.warning("a template could not import %s", missing, extra=extra)
        self._record_threads(hello["threads"])

    def _record_threads(self, threads: int) -> None:
        """A library may start one when it is imported, or later."""
        if threads > 1 and self._threads <= 1:
            log.warning(
                "its libraries start threads: instances are spawned, not forked", extra=self.extra
            )
        self._threads = threads

    async def _receive(self) -> bytes:
        """The next message. Raises ConnectionError where the template is gone."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(self._control, _set, readable)
        try:
            await readable
        finally:
            loop.remove_reader(self._control)
        data = self._control.recv(1 << 16)
        if not data:
            raise ConnectionError("the template process ended")
        return data


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for ``work``. Where nobody waits any more it is done first: it is half of an exchange.

    The fork that nobody wants finds its descriptors closed, and ends.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class _OpenEnds:
    """The host's ends, closed after their ``with`` block unless a process has the other ones."""

    def __init__(self, sock: socket.socket, stdout: int, stderr: int) -> None:
        self._sock, self._stdout, self._stderr = sock, stdout, stderr
        self._is_kept = False

    def keep(self, pid: int) -> HostEnds:
        """The ends, now those of process ``pid``."""
        self._is_kept = True
        return HostEnds(sock=self._sock, stdout=self._stdout, stderr=self._stderr, pid=pid)

    def close(self) -> None:
        if not self._is_kept:
            self._sock.close()
            os.close(self._stdout)
            os.close(self._stderr)


def _written_at(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def _descriptors() -> Iterator[tuple[_OpenEnds, list[int]]]:
    """A new instance's descriptors: the host's ends, and its own for as long as the block lasts."""
    ours, theirs = socket.socketpair()
    stdout, their_stdout = os.pipe()
    stderr, their_stderr = os.pipe()
    ours.setblocking(False)
    ends, others = _OpenEnds(ours, stdout, stderr), [theirs.detach(), their_stdout, their_stderr]
    try:
        yield ends, others
    finally:
        for descriptor in others:
            os.close(descriptor)
        ends.close()
