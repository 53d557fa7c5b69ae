"""How far an instance gives way to others: tasks for good, others until they are ready."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

GIVEN_WAY = 10
"""What is added to the niceness of a process that prepares to serve."""
_THREADS = Path("/proc/self/task")
_AUTOGROUP = Path("/proc/self/autogroup")


def lower(nice: int) -> None:
    """Give way from now on, for good."""
    os.nice(nice)
    _set_group(nice)


class GivingWay:
    """Gives way from :meth:`begin` to :meth:`end`, in a process that may take its priority back.

    That is a privilege (CAP_SYS_NICE, or RLIMIT_NICE, setpriority(2)); without it nothing is
    lowered but the group's share, because the process would be held back for as long as it serves.
    """

    def __init__(self) -> None:
        self._usual = os.getpriority(os.PRIO_PROCESS, 0)
        self._is_lowered = False

    def begin(self) -> None:
        """Give way."""
        _set_group(GIVEN_WAY)
        if _may_return(self._usual):
            os.setpriority(os.PRIO_PROCESS, 0, self._usual + GIVEN_WAY)
            self._is_lowered = True

    def end(self) -> None:
        """Be as before, with all threads that libraries have started meanwhile."""
        _set_group(0)
        if self._is_lowered:
            for thread in _THREADS.iterdir():
                with contextlib.suppress(OSError):  # one that has just ended
                    os.setpriority(os.PRIO_PROCESS, int(thread.name), self._usual)


def _set_group(nice: int) -> None:
    # Where the kernel groups processes by session (sched(7), autogroup) a nice value counts within
    # the group alone, and the group's own may be set back by anybody.
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(nice))


def _may_return(usual: int) -> bool:
    """Whether a nice value can be lowered again: tried on a thread, because it is a thread's."""
    found = []

    def attempt() -> None:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, usual + 1)
            os.setpriority(os.PRIO_PROCESS, 0, usual)
            found.append(True)
        except OSError:
            found.append(False)

    if not _THREADS.is_dir():  # elsewhere than on Linux it is the process's
        return False
    trying = threading.Thread(target=attempt)
    trying.start()
    trying.join()
    return found[0]
