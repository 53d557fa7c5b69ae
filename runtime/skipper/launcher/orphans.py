"""No process is left behind: the sub-reaper and the guard's list.

The launcher adopts whatever loses its parent below it (Linux). It adopts from dead children only,
so what it adopts is a dead host's instances or what user functions started: it is ended at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

from skipper import system
from skipper.launcher import guard
from skipper.launcher.plan import GUARD
from skipper.launcher.process import Child

_GATHER_S = 0.02
_LAST_SWEEPS_S = 3.0


class Roster:
    """The planned children that live. Everything else that has become a child of ours is swept."""

    def __init__(self, tree: str, log: Callable[..., None]) -> None:
        self._tree, self._log = tree, log
        self._started: dict[int, int] = {}
        self._guard: Child | None = None
        self._before = system.children()
        self._due: asyncio.TimerHandle | None = None

    def add(self, child: Child) -> None:
        """A child was started: send it to the guard, or all to the guard if that is the child."""
        seen = guard.process_of(child.pid)
        self._started[child.pid] = seen.started if seen else 0
        if child.plan.level != GUARD:
            self._send_to_guard(child.pid)
            return
        self._guard = child
        for pid in self._started.keys() - {child.pid}:
            self._send_to_guard(pid)

    def remove(self, child: Child) -> None:
        """A child is dead; what it leaves comes to us now."""
        self._started.pop(child.pid, None)
        if child is self._guard:
            self._guard = None
        elif self._guard:
            self._guard.send(f"-{child.pid}")
        self.sweep_soon()

    def sweep_soon(self) -> None:
        if not self._due:
            self._due = asyncio.get_running_loop().call_later(_GATHER_S, self._sweep)

    def end_all(self) -> None:
        """At the end of the tree: end whatever is left of it. Blocks while there is something."""
        end = time.monotonic() + _LAST_SWEEPS_S
        while self._sweep() and time.monotonic() < end:
            time.sleep(0.02)
        guard.kill_tree(self._tree, {}, patience_s=0, limit_s=_LAST_SWEEPS_S, spare=self._started)
        self._sweep()

    def _send_to_guard(self, pid: int) -> None:
        if self._guard:
            self._guard.send(f"+{pid} {self._started[pid]}")

    def _sweep(self) -> int:
        """End and reap adopted processes; how many there were. Their children come to us next."""
        self._due = None
        adopted = system.children() - self._before - self._started.keys()
        mark = f"SKIPPER_TREE={self._tree}".encode()
        for pid in adopted:
            if os.getpid() == 1 and not guard.is_marked(pid, mark):
                continue  # the first process of a container is given everybody's orphans
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        reaped = [pid for pid in adopted if _reap(pid)]
        if reaped:
            self._log("debug", "ended processes that had lost their parent", pids=reaped)
        return len(adopted)


@contextlib.contextmanager
def adopting(roster: Roster) -> Iterator[None]:
    """Adopt what loses its parent below this process, and sweep it as it comes or dies."""
    system.adopt_orphans()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, roster.sweep_soon)
    try:
        yield
        roster.end_all()
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False
