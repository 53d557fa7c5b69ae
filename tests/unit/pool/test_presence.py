"""What the ledger knows of a host, and what a host learns there."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from skipper.ledger import tasks
from skipper.ledger.records import NewTask
from skipper.pool.durable.claimer import Claimer
from skipper.pool.durable.lane import TaskLane
from skipper.pool.presence import Presence, seat
from skipper.task import State, new_id
from skipper.values.value import Value
from tests.blocking import BlockingLedger


class Strays(Claimer):
    """A claimer that counts how often strays are looked for."""

    def __init__(self) -> None:
        self.looks = 0

    async def give_back_strays(self) -> None:
        self.looks += 1


class Cancelled(TaskLane):
    """A lane that keeps which tasks it is to cancel."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def cancel(self, task_id: str) -> bool:
        self.ids.append(task_id)
        return True


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[BlockingLedger]:
    with BlockingLedger.open(ledger_url) as opened:
        yield opened


def presence(ledger: BlockingLedger, host_id: str, lane: TaskLane | None = None) -> Presence:
    return Presence(ledger, host_id, "cpu", Strays(), lane or Cancelled())


def claimed(ledger: BlockingLedger, host_id: str) -> str:
    """A task that this host has claimed."""
    task_id, now = new_id(), time.time()
    new = NewTask(
        id=task_id,
        function="f.f",
        kind="training",
        pool="cpu",
        created_at=now,
        available_at=now,
        input=Value(inline=b"{}"),
        max_attempts=1,
    )
    ledger.write_now(lambda conn: tasks.accept(conn, new))
    ledger.write_now(lambda conn: tasks.claim(conn, [task_id], host_id, now))
    return task_id


def state(ledger: BlockingLedger, task_id: str) -> State:
    task = ledger.read_now(lambda conn: tasks.get(conn, task_id))
    assert task is not None
    return task.state


@pytest.mark.parametrize(("folder", "expected"), [("one", State.QUEUED), ("other", State.RUNNING)])
async def test_whoever_takes_a_seat_gives_back_what_its_last_holder_ran(
    ledger: BlockingLedger, tmp_path: Path, folder: str, expected: State
) -> None:
    await presence(ledger, "cpu-1").register(tmp_path / "one")
    task_id = claimed(ledger, "cpu-1")
    await presence(ledger, "cpu-2").register(tmp_path / folder)
    assert state(ledger, task_id) is expected


async def test_a_beat_learns_which_tasks_are_to_be_cancelled(
    ledger: BlockingLedger, tmp_path: Path
) -> None:
    lane = Cancelled()
    here = presence(ledger, "cpu-1", lane)
    await here.register(tmp_path)
    task_id = claimed(ledger, "cpu-1")
    ledger.write_now(lambda conn: tasks.cancel(conn, task_id, time.time()))
    beating = asyncio.create_task(here.beat())
    async with asyncio.timeout(10):
        while not lane.ids:  # noqa: ASYNC110 - it comes from the ledger's thread
            await asyncio.sleep(0.005)
    beating.cancel()
    assert lane.ids == [task_id]


def test_a_seat_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "cpu.lock"
    with seat(path), pytest.raises(BlockingIOError), path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with path.open() as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
