"""Instances as real processes, started by a stand-in for templates."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from skipper.instance.jobs import Job, JobKind
from skipper.metrics import PoolMetrics
from skipper.pool.instance import Ends, Instance, Lane, State
from skipper.pool.instances import STARTS, Instances
from skipper.settings import Settings

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
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
HANGS = "import time; time.sleep(60)"


class Script:
    """Starts processes that run the given programs, one after the other, the last for ever."""

    def __init__(self, *programs: str) -> None:
        self._programs = list(programs)
        self.started = 0

    async def start(self, instance: Instance, *, spawn: bool = False) -> Ends:
        return self._start()

    def _start(self) -> Ends:
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
        return Ends(sock=ours, stdout=out, stderr=err, pid=pid)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what processes do: there is no event to wait on."""
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.005)


class Pool:
    """The instances of one pool, started by ``script``."""

    def __init__(self, folder: Path, *programs: str, **pool: Any) -> None:
        settings = Settings.model_validate({"project_dir": folder, "pools": {"cpu": pool}})
        self.script = Script(*programs)
        script: Any = self.script
        board: Any = None  # nobody here serves a model
        self.instances = Instances(settings, "cpu", script, board, PoolMetrics())

    async def run(self) -> Instance:
        instance, _ = await self.instances.run(SURVEY, Lane.READING)
        return instance


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
    assert instance.state is State.IDLE
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
    with pytest.raises(TimeoutError):
        await pools[0].run()
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
    (broken,) = pools[0].instances.quarantine.broken
    assert broken.file == "/project/plugins/mine.py"
    assert broken.error == f"{told} while its skipper_sources ran"


async def test_a_plugin_whose_file_has_changed_is_tried_again(
    tmp_path: Path, pools: list[Pool]
) -> None:
    file = tmp_path / "mine.py"
    ends = TURN.replace("/project/plugins/mine.py", str(file)) + "import os; os._exit(0)"
    pools.append(Pool(tmp_path, *[ends] * STARTS, REPORTS))
    quarantine = pools[0].instances.quarantine
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
    assert (await starting).state is State.IDLE
