"""What may be used of a machine follows from what the system says, whichever way it says it.

A tool that sizes itself by all cores of the machine, while it may use one, is
https://github.com/thatmattlove/hyperglass/issues/356.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skipper import machine
from skipper.machine import Machine, Readings, folders, read, usable, words
from skipper.pool.slots import Capacity
from skipper.settings.pools import PoolSettings

GIB = 1 << 30


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        (Readings(cores=8, memory=64 * GIB), (8, 64)),
        (Readings(cores=8, memory=64 * GIB, affinity=8), (8, 64)),
        (Readings(cores=8, memory=64 * GIB, affinity=1), (1, 64)),
        (Readings(cores=8, memory=64 * GIB, quotas=(2.0,)), (2, 64)),
        (Readings(cores=8, memory=64 * GIB, quotas=(1.5,)), (2, 64)),
        (Readings(cores=8, memory=64 * GIB, quotas=(0.1,)), (1, 64)),
        (Readings(cores=8, memory=64 * GIB, quotas=(100.0,)), (8, 64)),
        (Readings(cores=8, memory=64 * GIB, quotas=(6.0, 3.0, 5.0), affinity=4), (3, 64)),
        (Readings(cores=8, memory=64 * GIB, quotas=(6.0,), affinity=4), (4, 64)),
        (Readings(cores=8, memory=64 * GIB, limits=(4 * GIB,)), (8, 4)),
        (Readings(cores=8, memory=64 * GIB, limits=(9223372036854771712, 32 * GIB)), (8, 32)),
    ],
)
def test_the_least_that_any_limit_leaves_is_what_may_be_used(
    readings: Readings, expected: tuple[int, int]
) -> None:
    assert usable(readings) == Machine(expected[0], expected[1] * GIB)


def test_what_is_left_is_told_where_it_is_less_than_the_machine() -> None:
    whole = Readings(cores=8, memory=64 * GIB)
    assert not words(whole)
    assert words(Readings(cores=8, memory=64 * GIB, affinity=2)) == "2 of 8 cores"
    less = Readings(cores=8, memory=64 * GIB, quotas=(1.0,), limits=(GIB // 2,))
    assert words(less) == "1 of 8 cores and 0.5 of 64.0 GiB"


# --- where the limits stand ------------------------------------------------------------------

V2_OUTSIDE = (
    "0::/system.slice/skipper.service\n",
    "31 24 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
    [
        ("", "/sys/fs/cgroup/system.slice/skipper.service"),
        ("", "/sys/fs/cgroup/system.slice"),
        ("", "/sys/fs/cgroup"),
    ],
)
V2_IN_A_CONTAINER = (
    "0::/\n",
    "31 24 0:27 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
    [("", "/sys/fs/cgroup")],
)
V1_OUTSIDE = (
    "4:cpu,cpuacct:/docker/f00\n2:memory:/docker/f00\n1:name=systemd:/docker/f00\n",
    (
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        "33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "34 31 0:31 / /proc rw - proc proc rw\n"
    ),
    [
        *(
            (each, f"/sys/fs/cgroup/cpu,cpuacct{inner}")
            for each in ("cpu", "cpuacct")
            for inner in ("/docker/f00", "/docker", "")
        ),
        ("memory", "/sys/fs/cgroup/memory/docker/f00"),
        ("memory", "/sys/fs/cgroup/memory/docker"),
        ("memory", "/sys/fs/cgroup/memory"),
    ],
)
V1_IN_A_CONTAINER = (
    "4:cpu:/docker/f00\n",
    "32 31 0:29 /docker/f00 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n",
    [("cpu", "/sys/fs/cgroup/cpu")],
)
ANOTHER_PART_IS_MOUNTED = (
    "4:cpu:/docker/f00\n",
    "32 31 0:29 /docker/f0 /sys/fs/cgroup/cpu\\040here ro - cgroup cgroup rw,cpu\n",
    [("cpu", "/sys/fs/cgroup/cpu here")],
)


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [V2_OUTSIDE, V2_IN_A_CONTAINER, V1_OUTSIDE, V1_IN_A_CONTAINER, ANOTHER_PART_IS_MOUNTED],
)
def test_the_groups_around_a_process_are_found_from_its_own_outwards(
    cgroup: str, mountinfo: str, expected: list[tuple[str, str]]
) -> None:
    assert list(folders(cgroup, mountinfo)) == expected


def written(root: Path, texts: dict[str, str]) -> Readings:
    """What is read of a system whose files say this."""
    for name, text in texts.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return read(root)


V2_FILES = {"proc/self/cgroup": V2_OUTSIDE[0], "proc/self/mountinfo": V2_OUTSIDE[1]}
V1_FILES = {"proc/self/cgroup": V1_OUTSIDE[0], "proc/self/mountinfo": V1_OUTSIDE[1]}


@pytest.mark.parametrize(
    ("texts", "quotas", "limits"),
    [
        ({}, (), ()),
        (V2_FILES, (), ()),
        (
            V2_FILES
            | {
                "sys/fs/cgroup/system.slice/skipper.service/cpu.max": "max 100000\n",
                "sys/fs/cgroup/system.slice/skipper.service/memory.max": "max\n",
                "sys/fs/cgroup/system.slice/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/system.slice/memory.max": "1073741824\n",
            },
            (1.5,),
            (GIB,),
        ),
        (
            V1_FILES
            | {
                "sys/fs/cgroup/cpu,cpuacct/docker/f00/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/docker/f00/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes": "536870912\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            (2.0,),
            (GIB // 2, 9223372036854771712),
        ),
        (V2_FILES | {"sys/fs/cgroup/cpu.max": "no number\n"}, (), ()),
        (V2_FILES | {"sys/fs/cgroup/cpu.max": "100000 0\n"}, (), ()),
        ({"proc/self/cgroup": "no group\n", "proc/self/mountinfo": ""}, (), ()),
    ],
)
def test_limits_of_either_version_are_read_and_what_cannot_be_read_limits_nothing(
    tmp_path: Path, texts: dict[str, str], quotas: tuple[float, ...], limits: tuple[int, ...]
) -> None:
    readings = written(tmp_path, texts)
    assert (readings.quotas, readings.limits) == (quotas, limits)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_that_may_use_one_core_has_slots_and_threads_for_one() -> None:
    code = (
        "from skipper.pool.slots import Capacity; from skipper.settings.pools import PoolSettings; "
        "print(*Capacity.of(PoolSettings()))"
    )
    core = min(os.sched_getaffinity(0))
    found = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}}); {code}"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert found.stdout.split() == ["1", "2", "1"]


def test_slots_are_those_of_this_machine_where_no_setting_says_otherwise() -> None:
    cores = machine.here().cores
    assert Capacity.of(PoolSettings()) == (cores, 2 * cores, cores)
    assert Capacity.of(PoolSettings(slots=3, task_slots=5)) == (cores, 3, 5)
