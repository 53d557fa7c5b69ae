"""What user code leaves behind: processes whose parent this host, a sub-reaper, has become."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterable

import psutil

from skipper import system


class Strays:
    """Ends children of this process that nobody knows. Those that were there before are let be."""

    def __init__(self) -> None:
        self._before = system.children()
        self._suspects: set[int] = set()

    def look(self, known: Collection[int]) -> None:
        """End whoever was nobody's at two looks: a fork is known a moment after it is there."""
        strays = system.children() - self._before - set(known)
        _end(strays & self._suspects)
        self._suspects = strays


def _end(pids: Iterable[int]) -> None:
    """End these processes, with all that they have started themselves."""
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            for descendant in psutil.Process(pid).children(recursive=True):
                descendant.kill()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)
