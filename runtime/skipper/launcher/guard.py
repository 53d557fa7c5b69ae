"""The guard: a process of its own that ends what is left of a tree whose launcher is gone.

Started as ``python -I -S guard.py TREE FD LOCK SETTINGS``, with the standard library alone, so that
it is up within milliseconds. The launcher sends it on ``FD`` which children live (``+pid
start-time``, ``-pid``); the end of file is the launcher's death. Then the file ``SETTINGS``, which
holds the tree's secrets, is removed, and every process of the tree is asked to end (SIGTERM), and
after :data:`PATIENCE_S` made to (SIGKILL). ``LOCK``, the project's, is held open until that is
done. A process belongs to the tree when it

- carries the tree's mark in its environment,
- is one of the children that the launcher sent (valkey-server overwrites its environment),
- is in the session of such a child, or descends from anything named here.

It imports nothing of Skipper. The launcher uses :func:`kill_tree` too, at the end of a shutdown.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

PATIENCE_S = 1.5
LIMIT_S = 8.0
"""The whole of :func:`kill_tree`: what survives SIGKILL that long is stuck in the kernel."""

_PROC = Path("/proc")


class Process(NamedTuple):
    """One living process as ``/proc`` shows it. ``started`` parts a pid from its next owner."""

    pid: int
    parent: int
    session: int
    started: int
    is_zombie: bool


def main(argv: list[str]) -> None:
    """Follow the launcher until it is gone, then end its tree."""
    tree, fd, settings = argv[1], int(argv[2]), argv[4]
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    with open(fd, "rb", buffering=0, closefd=False) as channel:
        with contextlib.suppress(OSError):  # whoever it was is gone
            os.write(fd, b'{"event": "ready"}\n')
        roots = _follow(channel)
    # First, because nobody starts any more who reads it, and ending all may take seconds.
    with contextlib.suppress(OSError):  # the launcher has removed it
        os.unlink(settings)  # noqa: PTH108 - a name is all it takes
    kill_tree(tree, roots)


def _follow(channel: Iterable[bytes]) -> dict[int, int]:
    """The children that live when the channel ends: pid → start time."""
    roots: dict[int, int] = {}
    with contextlib.suppress(OSError):  # a reset is an end as well
        for line in channel:
            pid, _, started = line[1:].partition(b" ")
            if line.startswith(b"+"):
                roots[int(pid)] = int(started)
            else:
                roots.pop(int(pid), None)
    return roots


def kill_tree(
    tree: str,
    roots: Mapping[int, int],
    *,
    patience_s: float = PATIENCE_S,
    limit_s: float = LIMIT_S,
    spare: Collection[int] = (),
) -> set[int]:
    """End every process of ``tree`` but ``spare`` and this one; pids that could not be ended."""
    begun = time.monotonic()
    first_signal_at = math.inf
    signalled: set[int] = set()
    quiet = 0
    left: set[int] = set()
    while time.monotonic() - begun < limit_s:
        left = members(tree, roots) - {os.getpid(), *spare}
        quiet = 0 if left else quiet + 1
        if quiet == 2:  # a process between fork and exec may hide from one snapshot
            return set()
        now = time.monotonic()
        if left:
            # From here and not from the start, because a snapshot of all processes may take long.
            first_signal_at = min(first_signal_at, now)
        is_urgent = now - first_signal_at >= patience_s
        for pid in left if is_urgent else left - signalled:
            _send(pid, signal.SIGKILL if is_urgent else signal.SIGTERM)
        signalled |= left
        time.sleep(0.05)
    return left


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # without /proc only the launcher's children are known, and each leads a group
        (os.kill if _PROC.is_dir() else os.killpg)(pid, number)


def members(tree: str, roots: Mapping[int, int]) -> set[int]:
    """The pids that belong to ``tree`` now, zombies left out."""
    found = snapshot()
    if not found:  # no /proc: what the launcher sent is all that can be known
        return {pid for pid in roots if is_alive(pid)}
    own = {pid for pid, started in roots.items() if pid in found and found[pid].started == started}
    sessions = own | (roots.keys() - found.keys())
    mark = f"SKIPPER_TREE={tree}".encode()
    inside = own | {
        each.pid for each in found.values() if each.session in sessions or is_marked(each.pid, mark)
    }
    inside |= descendants(found.values(), inside)
    return {pid for pid in inside if not found[pid].is_zombie}


def descendants(processes: Iterable[Process], ancestors: Collection[int]) -> set[int]:
    """The pids of all children, grandchildren and so on of ``ancestors``."""
    children: dict[int, list[int]] = {}
    for each in processes:
        children.setdefault(each.parent, []).append(each.pid)
    below: set[int] = set()
    todo = list(ancestors)
    while todo:
        for pid in children.get(todo.pop(), ()):
            if pid not in below:
                below.add(pid)
                todo.append(pid)
    return below


def snapshot() -> dict[int, Process]:
    """Every process of the machine by pid; nothing where the system has no ``/proc``."""
    if not _PROC.is_dir():
        return {}
    found = (process_of(int(name)) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208 - names are all it takes
    return {each.pid: each for each in found if each}


def process_of(pid: int) -> Process | None:
    """One process; None where there is none, or no ``/proc``."""
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # after the name, which may hold anything: state, parent, group, session, …; see proc(5)
    fields = text[text.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in (b"Z", b"X"))


def is_marked(pid: int, mark: bytes) -> bool:
    """Whether ``mark``, ``NAME=value``, stands in the environment that ``pid`` was started with."""
    try:
        return mark in (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:  # another user's, or gone
        return False


def is_alive(pid: int) -> bool:
    """Whether ``pid`` is a process that has not ended, reaped or not."""
    if seen := process_of(pid):
        return not seen.is_zombie
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


if __name__ == "__main__":
    main(sys.argv)
