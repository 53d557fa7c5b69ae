"""Instances as real processes, started by a stand-in for templates."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Never

import psutil
import pytest

from skipper.instance.jobs import Job, JobKind
from skipper.pool.processes.instance import Instance, InstanceOwner
from skipper.pool.processes.instances import STARTS, WORN_AFTER_S, Instances
from skipper.pool.processes.process import HostEnds, InstanceState
from skipper.pool.processes.quarantine import Quarantine
from skipper.settings.model import Settings
from skipper.wire.frames import Frame, FrameKind
from tests.unit.pool.played import Nobody

SURVEY = Job(kind=JobKind.SURVEY, project_dir=Path())
REPORTS = """
import socket, struct, time
sock = socket.socket(fileno=3)
body = b'{"code": "c0de"}'
sock.sendall(struct.pack("!IBQ", len(body), 33, 0) + body)
time.sleep(60)
"""
TURN = """
import socket, struct
body = b'{"plugin": "mine", "file": "/project/plugins/mine.py", "hook": "skipper_sources"}'
sock = socket.socket(fileno=3)
sock.sendall(struct.pack("!IBQ", len(body), 38, 0) + body)
"""
HANGS_UP = REPORTS.replace("time.sleep", "sock.close(); time.sleep")
CLOSED = REPORTS + "import os; os._exit(83)"
ANSWERS = f"""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
{REPORTS.replace("time.sleep(60)", "signal.sigwait([signal.SIGUSR1])")}
sock.sendall(struct.pack("!IBQ", 0, 18, 1))
"""
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "import time; time.sleep(60)"


class Script:
    """Starts processes that run the given programs, one after the other, the last for ever."""

    def __init__(self, *programs: str) -> None:
        self._programs = list(programs)
        self.pids: set[int] = set()
        self.is_forking = False
        self.started = 0

    async def start(self, job: Job, *, spawn: bool = False) -> HostEnds:
        return self.begin()

    def begin(self) -> HostEnds:
        program = self._programs[min(self.started, len(self._programs) - 1)]
        self.started += 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        (out, their_out), (err, their_err) = os.pipe(), os.pipe()
        placed = [
            (os.POSIX_SPAWN_DUP2, source, target)
            for source, target in ((theirs.fileno(), 3), (their_out, 1), (their_err, 2))
        ]
        pid = os.posix_spawn(
            sys.executable, ["python", "-c", program], os.environ, file_actions=placed, setsid=True
        )
        theirs.close()
        os.close(their_out)
        os.close(their_err)
        return HostEnds(sock=ours, stdout=out, stderr=err, pid=pid)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what processes do: there is no event to wait on."""
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


class Pool(Nobody):
    """The instances of one pool, and their owner; started by ``script``."""

    def __init__(self, folder: Path, *programs: str, **pool: Any) -> None:
        settings = Settings.model_validate({"project_dir": folder, "pools": {"cpu": pool}})
        self.script, self.worn = Script(*programs), list[object]()
        script: Any = self.script
        self.quarantine = Quarantine()
        self.instances = Instances(settings, "cpu", script, Nobody(), self.quarantine)

    async def run(self) -> Instance[Never]:
        owner: InstanceOwner[Never] = self
        instance, _ = await self.instances.run(SURVEY, owner)
        return instance

    def on_worn(self, instance: object) -> None:
        self.worn.append(instance)


@pytest.fixture
async def pools() -> AsyncIterator[list[Pool]]:
    made: list[Pool] = []
    yield made
    for pool in made:
        await pool.instances.close()


async def test_an_instance_that_is_killed_while_it_loads_is_started_again(
    tmp_path: Path, pools: list[Pool]
) -> None:
    pools.append(Pool(tmp_path, DIES, DIES, REPORTS))
    instance = await pools[0].run()
    assert instance.state is InstanceState.IDLE
    assert pools[0].instances.all == {instance}


async def test_one_that_always_dies_while_it_loads_is_given_up(
    tmp_path: Path, pools: list[Pool]
) -> None:
    pools.append(Pool(tmp_path, DIES))
    with pytest.raises(ConnectionError, match="SIGKILL"):
        await pools[0].run()
    assert pools[0].script.started == STARTS


async def test_one_that_does_not_report_in_time_is_ended(tmp_path: Path, pools: list[Pool]) -> None:
    pools.append(Pool(tmp_path, HANGS, load_timeout_s=0.2))
    with pytest.raises(TimeoutError, match=r"did not finish loading within 0\.2 s"):
        await pools[0].run()
    assert pools[0].instances.all == set()


async def test_a_start_may_have_a_limit_of_its_own(tmp_path: Path, pools: list[Pool]) -> None:
    pools.append(Pool(tmp_path, HANGS))
    with pytest.raises(TimeoutError, match=r"within 0\.1 s"):
        await pools[0].instances.run(SURVEY, pools[0], timeout_s=0.1)


async def test_a_start_that_nobody_waits_for_leaves_no_process(
    tmp_path: Path, pools: list[Pool]
) -> None:
    pools.append(Pool(tmp_path, HANGS))
    starting = asyncio.create_task(pools[0].run())
    await until(lambda: any(instance.pid for instance in pools[0].instances.all))
    (instance,) = pools[0].instances.all
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (instance.state, pools[0].script.started) == (InstanceState.GONE, 1)


class Grows:
    """The memory of all instances, MiB, as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mb = 0.0
        monkeypatch.setattr(Instance, "memory_mb", lambda _: self.mb)


@pytest.fixture
def grows(monkeypatch: pytest.MonkeyPatch) -> Grows:
    return Grows(monkeypatch)


async def test_an_instance_is_worn_by_what_it_has_taken_itself_and_not_when_it_is_young(
    tmp_path: Path, pools: list[Pool], grows: Grows
) -> None:
    pools.append(Pool(tmp_path, REPORTS, memory_mb=1000))
    instances, worn = pools[0].instances, pools[0].worn
    grows.mb = 900.0  # most of it is its template's
    instance = await pools[0].run()
    young, old = instance.ready_at + WORN_AFTER_S - 1, instance.ready_at + WORN_AFTER_S + 1
    for mb, now, is_worn in [
        (900.0, old, False),
        (970.0, old + 1, False),
        (990.0, young, False),
        (990.0, old + 2, True),
    ]:
        grows.mb = mb
        instances._next_memory = 0.0
        instances.sweep(now)
        assert bool(worn) is is_worn, (mb, now)
    assert instance.state is InstanceState.IDLE


async def test_an_instance_above_its_limit_is_ended_and_says_why(
    tmp_path: Path, pools: list[Pool], grows: Grows
) -> None:
    pools.append(Pool(tmp_path, REPORTS, memory_mb=1000))
    instance = await pools[0].run()
    grows.mb = 1001.0
    pools[0].instances.sweep(0.0)
    await instance.gone
    assert "more than its limit of 1000 MiB" in instance.death_reason


@pytest.mark.parametrize("program", [HANGS_UP, CLOSED.replace("sleep(60)", "sleep(0.1)")])
async def test_an_instance_that_closes_its_connection_is_ended_and_says_so(
    tmp_path: Path, pools: list[Pool], program: str
) -> None:
    """One that lives on, and one that finds out when it wants to answer."""
    pools.append(Pool(tmp_path, program))
    instance = await pools[0].run()
    async with asyncio.timeout(10):
        await instance.gone
    assert instance.death_reason == "it closed its connection to its host"


class Hearer(Nobody):
    """Remembers what it gets of its instance, in order."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_frame(self, *given: object) -> None:
        frame = given[-1]
        assert isinstance(frame, Frame)
        self.heard.append(f"frame {frame.kind} of call {frame.id}")

    def on_gone(self, _: object) -> None:
        self.heard.append("gone")


@pytest.mark.parametrize("is_sent_more", [False, True])
async def test_what_an_instance_sent_before_it_died_is_heard_before_its_end(
    is_sent_more: bool,
) -> None:
    owner = Hearer()
    instance: Instance[Never] = Instance(SURVEY, owner, Nobody(), Nobody())
    await instance.start(Script(ANSWERS).begin(), 10.0)
    os.kill(instance.pid, signal.SIGUSR1)
    os.waitid(os.P_PID, instance.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop stands still, so that nothing is read
    if is_sent_more:  # the transport gives the socket up at once: it cannot be written to
        instance.send(FrameKind.CALL, 2)
        await instance.gone
    else:
        instance._ended()
    assert owner.heard == ["frame 18 of call 1", "gone"]


async def test_an_orphan_is_ended_with_all_it_has_started_unless_somebody_is_being_born(
    tmp_path: Path, pools: list[Pool]
) -> None:
    pools.append(Pool(tmp_path, REPORTS))
    instances = pools[0].instances
    stray = await asyncio.create_subprocess_exec(
        "sh", "-c", "setsid sleep 60 & echo $!; wait", stdout=asyncio.subprocess.PIPE
    )
    assert stray.stdout is not None
    child = psutil.Process(int(await stray.stdout.readline()))
    pools[0].script.is_forking = True
    for now in (0.0, 10.0, 20.0):
        instances.sweep(now)
    assert stray.returncode is None
    pools[0].script.is_forking = False
    for now in (30.0, 40.0):
        instances.sweep(now)
    await stray.wait()
    await until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


async def test_a_child_that_was_there_before_is_no_orphan(
    tmp_path: Path, pools: list[Pool]
) -> None:
    before = await asyncio.create_subprocess_exec("sleep", "60")
    pools.append(Pool(tmp_path, REPORTS))
    after = await asyncio.create_subprocess_exec("sleep", "60")
    for now in (0.0, 10.0):
        pools[0].instances.sweep(now)
    await after.wait()
    assert psutil.Process(before.pid).status() != psutil.STATUS_ZOMBIE
    before.kill()
    await before.wait()


@pytest.mark.parametrize("has_pidfd", [True, False])
async def test_how_an_instance_ended_is_told_on_every_system(
    tmp_path: Path, pools: list[Pool], monkeypatch: pytest.MonkeyPatch, has_pidfd: bool
) -> None:
    if not has_pidfd:  # as on macOS
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    pools.append(Pool(tmp_path, REPORTS))
    instance = await pools[0].run()
    os.kill(instance.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        await instance.gone
    assert "SIGKILL" in instance.death_reason
    assert pools[0].instances.all == set()


@pytest.mark.parametrize(
    ("ends", "limit_s", "told"),
    [
        (["import os; os._exit(0)"] * STARTS, 60, "its process exited with code 0"),
        ([HANGS], 4, "it did not come back within 4 s"),
    ],
)
async def test_a_plugin_that_ends_its_process_is_named_and_left_out(
    tmp_path: Path, pools: list[Pool], ends: list[str], limit_s: float, told: str
) -> None:
    pools.append(Pool(tmp_path, *[TURN + end for end in ends], REPORTS, load_timeout_s=limit_s))
    instance = await pools[0].run()
    assert instance.job.without == ("mine",)
    (broken,) = pools[0].quarantine.broken
    assert broken.file == "/project/plugins/mine.py"
    assert broken.error == f"{told} while its skipper_sources ran"


async def test_a_plugin_whose_file_has_changed_is_tried_again(
    tmp_path: Path, pools: list[Pool]
) -> None:
    file = tmp_path / "mine.py"
    ends = TURN.replace("/project/plugins/mine.py", str(file)) + "import os; os._exit(0)"
    pools.append(Pool(tmp_path, *[ends] * STARTS, REPORTS))
    quarantine = pools[0].quarantine
    await pools[0].run()
    quarantine.review()
    assert quarantine.names == ("mine",)
    file.write_text("import skipper")
    quarantine.review()
    assert quarantine.broken == []
    assert (await pools[0].run()).job.without == ()


async def test_an_instance_is_known_and_can_be_killed_before_it_says_anything(
    tmp_path: Path, pools: list[Pool]
) -> None:
    pools.append(Pool(tmp_path, HANGS, REPORTS))
    starting = asyncio.create_task(pools[0].run())
    await until(lambda: any(instance.pid for instance in pools[0].instances.all))
    next(iter(pools[0].instances.all)).kill()
    assert (await starting).state is InstanceState.IDLE
