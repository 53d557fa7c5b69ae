"""What processes of this machine may use: its cores and memory, or less where a limit says so.

A limit is an affinity mask (``taskset``, a cpuset) or one of a control group, of either version:
``cpu.max`` and ``memory.max``, or ``cpu.cfs_quota_us`` and ``memory.limit_in_bytes``. Those of the
groups around a process's own hold, too. What cannot be read limits nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_UNIFIED = ""
"""The controller that stands for all of version 2, as ``/proc/self/cgroup`` writes it."""
_UNREADABLE = (OSError, ValueError, ZeroDivisionError)
"""There is no such file, or it says ``max``."""


class Machine(NamedTuple):
    """What may be used here: whole cores, at least one, and bytes of memory."""

    cores: int
    memory: int


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What the system says. ``quotas`` are in cores, such as 1.5; ``limits`` in bytes."""

    cores: int
    memory: int
    affinity: int | None = None
    """On how many cores this process may run; None where the system does not say."""
    quotas: tuple[float, ...] = ()
    limits: tuple[int, ...] = ()


def usable(readings: Readings) -> Machine:
    """The least that all readings leave. Of a broken core the whole one counts: 1.5 are 2. Pure."""
    cores = min(readings.cores, readings.affinity or readings.cores)
    for quota in readings.quotas:
        cores = min(cores, math.ceil(quota))
    return Machine(max(1, cores), min((readings.memory, *readings.limits)))


def words(readings: Readings) -> str:
    """What is left of the machine, where that is less than all of it; else nothing. Pure."""
    left = usable(readings)
    words = []
    if left.cores < readings.cores:
        words.append(f"{left.cores} of {readings.cores} cores")
    if left.memory < readings.memory:
        words.append(f"{left.memory / (1 << 30):.1f} of {readings.memory / (1 << 30):.1f} GiB")
    return " and ".join(words)


def here() -> Machine:
    """What this very process may use, as it is now."""
    return usable(read())


def read(root: Path = Path("/")) -> Readings:
    """Ask the system. Below ``root`` are ``proc`` and the folders of control groups."""
    groups = [(each, root / folder.lstrip("/")) for each, folder in _groups(root)]
    return Readings(
        cores=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        affinity=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        quotas=tuple(_quotas(group for each, group in groups if each in (_UNIFIED, "cpu"))),
        limits=tuple(_limits(group for each, group in groups if each in (_UNIFIED, "memory"))),
    )


def _groups(root: Path) -> list[tuple[str, str]]:
    try:
        proc = root / "proc" / "self"
        return list(folders((proc / "cgroup").read_text(), (proc / "mountinfo").read_text()))
    except (OSError, ValueError):  # no Linux, or none that has control groups
        return []


def folders(cgroup: str, mountinfo: str) -> Iterator[tuple[str, str]]:
    """Each controller, and the folders of its groups from the process's own outwards. Pure.

    The arguments are the texts of ``/proc/self/cgroup`` and ``mountinfo``, see cgroups(7). Where a
    container sees a part of the tree alone, its own group may be the mount itself.
    """
    paths = {
        controller: path
        for line in cgroup.splitlines()
        for _, names, path in [line.split(":", 2)]
        for controller in names.split(",")
    }
    for line in mountinfo.splitlines():
        mount, _, kind = line.partition(" - ")
        root, point = map(_plain, mount.split()[3:5])
        kinds = kind.split()
        if kinds[0] not in ("cgroup", "cgroup2"):
            continue
        options = {_UNIFIED} if kinds[0] == "cgroup2" else set(kinds[-1].split(","))
        for controller in sorted(options & set(paths)):
            for inner in _outwards(paths[controller], root):
                yield controller, point.rstrip("/") + inner


def _outwards(path: str, root: str) -> Iterator[str]:
    """A group's path below a mount of ``root``, and those of the groups around it."""
    top = root.rstrip("/")
    below = path.removeprefix(top) if f"{path}/".startswith(f"{top}/") else ""
    parts = [part for part in below.split("/") if part]
    for number in range(len(parts), -1, -1):
        yield "".join(f"/{part}" for part in parts[:number])


def _plain(text: str) -> str:
    """A path of mountinfo, in which blanks are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _quotas(groups: Iterable[Path]) -> Iterator[float]:
    for group in groups:
        with contextlib.suppress(*_UNREADABLE):
            quota, period = map(int, (group / "cpu.max").read_text().split())
            yield quota / period
        with contextlib.suppress(*_UNREADABLE):
            quota = int((group / "cpu.cfs_quota_us").read_text())
            period = int((group / "cpu.cfs_period_us").read_text())
            if quota > 0:  # -1 is none
                yield quota / period


def _limits(groups: Iterable[Path]) -> Iterator[int]:
    for group in groups:
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(*_UNREADABLE):
                yield int((group / name).read_text())
