"""What this system can do for processes that start others: know their end, let none outlive them.

Linux has all of it. Elsewhere (macOS, old kernels) each function does what can be done instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_PR_SET_CHILD_SUBREAPER = 36
IS_LINUX = sys.platform.startswith("linux")


def adopt_orphans() -> None:
    """Become the parent of every process below this one that loses its own. Linux only."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies. Linux only; elsewhere nothing.

    Waits until ``parent`` is the parent: a fork is handed to it when the process between them ends.
    Where ``parent`` has ended already, so does this process.
    """
    if not IS_LINUX:
        return
    while os.getppid() != parent:
        if _has_ended(parent):
            os._exit(0)
        os.sched_yield()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(0)


def _has_ended(pid: int) -> bool:
    """Whether a process is gone, or would be if its parent had taken notice."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True
    return stat.rpartition(b")")[2].split()[0] in (b"Z", b"X")  # proc(5); a name may hold a )


def children() -> set[int]:
    """Process ids of this process's children, adopted ones and unreaped ones among them."""
    lists = list(Path("/proc/self/task").glob("*/children"))
    if not lists:  # not Linux, or without CONFIG_PROC_CHILDREN: this looks at every process
        import psutil  # here alone: instances, which start by the hundred, need none of it

        return {child.pid for child in psutil.Process().children()}
    found: set[int] = set()
    for path in lists:
        with contextlib.suppress(OSError):  # a thread that has just ended
            found |= set(map(int, path.read_text().split()))
    return found


def when_ended(
    pid: int, then: Callable[[int | None], None], wait: Callable[[], int | None]
) -> None:
    """Run ``then`` on the running event loop, once, when a child of this process has ended.

    It is given None while the child has yet to be reaped, and its process group's number cannot be
    another's. Where the system cannot do that, a thread reaps it by ``wait``, and ``then`` is given
    the exit code that this returns, or None where that cannot be known.
    """
    loop = asyncio.get_running_loop()

    def reap() -> None:
        code = wait()
        with contextlib.suppress(RuntimeError):  # the loop ended first
            loop.call_soon_threadsafe(then, code)

    def ended() -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        then(None)

    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:  # somebody has reaped it already
        loop.call_soon(then, None)
    except (AttributeError, OSError):  # not on macOS, nor on kernels before 5.3
        threading.Thread(target=reap, daemon=True).start()
    else:
        loop.add_reader(descriptor, ended)


def exit_words(code: int) -> str:
    """An exit code in words: "exit code 3", "killed by SIGSEGV"."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-code}"
