"""The durable lane on a real ledger, with instances that answer as a test wants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from skipper import wire
from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo
from skipper.ledger import Ledger, models, tasks
from skipper.ledger.records import NewTask
from skipper.metrics import PoolMetrics
from skipper.pool.attempt import Services
from skipper.pool.catalogue import Entry, Served
from skipper.pool.instance import Instance, Lane, State
from skipper.pool.journal import Journal
from skipper.pool.tasks import TaskLane
from skipper.spec import FunctionSpec, Kind
from skipper.task import Outcome, Task, new_id
from skipper.task import State as TaskState
from skipper.wire import Frame

LIMIT_S = 10.0
SOURCE = SourceInfo(
    name="f",
    file=Path("f.py"),
    module="functions.f",
    origin="functions",
    code="c0de",
    libraries=(),
    pools=None,
)
SPEC = FunctionSpec(
    name="f.f",
    kind=Kind.TRAINING,
    file="f.py",
    line=1,
    code="c0de",
    input_schema={},
    output_schema={},
)


async def until(condition: Callable[[], object]) -> None:
    """Wait for what threads of the ledger do: there is no event to wait on."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.01)


class Actor(Instance):
    """An instance without a process: ``act`` is given each call's frames to send."""

    def __init__(self, stage: Stage) -> None:
        job = Job(kind=JobKind.SERVE, project_dir=Path(), function="f.f", source=SOURCE)
        super().__init__(
            job,
            Lane.TASKS,
            on_frame=stage.lane.on_frame,
            on_line=lambda *_: None,
            on_gone=stage.lane.on_gone,
        )
        self.state = State.IDLE
        self._stage = stage

    def call(self, payload: bytes, call: Any) -> int:
        self.calls[1] = call
        self.state = State.BUSY
        asyncio.get_running_loop().call_soon(self._stage.act, self)
        return 1

    def say(self, kind: wire.Kind, payload: bytes) -> None:
        self._on_frame(self, Frame(kind, 1, payload))

    def answer(self, value: bytes = b"7") -> None:
        self.say(wire.Kind.REPLY, wire.reply(Outcome.OK, b"c0de", value))

    def stop(self) -> None:
        self.state = State.GONE

    def kill(self) -> None:
        self.end()

    def end(self) -> None:
        """Die, as its host sees it."""
        if self.state is not State.GONE:
            self.state = State.GONE
            self.death_reason = "its process was killed by SIGKILL"
            self._on_gone(self)
            self.gone.set_result(None)


class Moody(Ledger):
    """A ledger that cannot be written ``away`` times."""

    away = 0

    async def merge(self, op: Any, item: Any, *, durable: bool = True) -> Any:
        if op is tasks.finish_all and self.away:
            self.away -= 1
            raise UnavailableError("The database cannot be reached")
        return await super().merge(op, item, durable=durable)


@dataclass
class Stage:
    """A lane with one slot, its ledger, and what the function does."""

    ledger: Moody
    folder: Path
    act: Callable[[Actor], None] = Actor.answer
    on_start: Callable[[Actor], None] = lambda _: None
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        services = Services(
            ledger=self.ledger,
            journal=Journal(self.ledger, lambda _: None),
            blobs=BlobStore(str(self.folder / "blobs")),
            inline_bytes=1024,
            find=self._find,
            start=self._start,
            missing=lambda _: "",
            announce_models=self._announce,
            changed=self.told.extend,
            metrics=PoolMetrics(),
        )
        self.lane = TaskLane("cpu", "host-1", 1, services)

    async def _find(self, name: str) -> Entry:
        return Entry(Served(SPEC, SOURCE))

    async def _start(self, served: Served) -> tuple[Instance, Report]:
        actor = Actor(self)
        self.on_start(actor)
        return actor, Report(specs=(SPEC,), code="c0de")

    async def _announce(self) -> None:
        pass

    def submit(self, *, retries: int = 0) -> str:
        """Accept a task and hand its id to the lane."""
        now = time.time()
        new = NewTask(
            id=new_id(),
            function="f.f",
            kind="training",
            pool="cpu",
            created_at=now,
            available_at=now,
            body=b"{}",
            max_attempts=retries + 1,
        )
        self.ledger.write_now(lambda conn: tasks.accept(conn, new))
        self.lane.take([new.id], lambda: None)
        return new.id

    def task(self, id_: str) -> Task:
        return cast(Task, self.ledger.read_now(lambda conn: tasks.get(conn, id_)))

    async def until(self, id_: str, *states: TaskState) -> Task:
        """The task, once it is in one of these states."""
        await until(lambda: self.task(id_).state in states)
        return self.task(id_)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    with Moody.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        stage = Stage(ledger, tmp_path)
        running = asyncio.create_task(stage.lane.run())
        yield stage
        running.cancel()


async def test_a_task_runs_to_its_end(stage: Stage) -> None:
    task = await stage.until(stage.submit(), TaskState.SUCCEEDED)
    assert (task.attempt, task.code) == (1, "c0de")


async def test_an_instance_that_dies_right_after_its_start_costs_an_attempt(stage: Stage) -> None:
    stage.on_start = Actor.end
    task = await stage.until(stage.submit(), TaskState.CRASHED)
    assert "SIGKILL" in (task.error or {})["detail"]


async def test_an_instance_that_dies_in_a_call_costs_an_attempt(stage: Stage) -> None:
    stage.act = Actor.end
    await stage.until(stage.submit(), TaskState.CRASHED)


async def test_what_has_run_is_not_run_again_while_the_ledger_is_away(stage: Stage) -> None:
    runs = []

    def act(actor: Actor) -> None:
        runs.append(actor)
        actor.answer()

    stage.act = act
    stage.ledger.away = 2
    task = await stage.until(stage.submit(), TaskState.SUCCEEDED)
    assert (task.attempt, len(runs)) == (1, 1)


async def test_a_task_that_the_host_lost_track_of_is_given_back(stage: Stage) -> None:
    def garble(actor: Actor) -> None:
        actor.say(wire.Kind.EVENT, b'{"type":"model","data":{},"metrics":{}}')
        stage.act = Actor.answer
        actor.answer()

    stage.act = garble  # a model without a name: recording the end fails in the host itself
    task_id = stage.submit()
    await stage.until(task_id, TaskState.RUNNING)
    await until(lambda: not stage.lane.running)
    await stage.lane.give_back_strays()
    assert stage.task(task_id).state is TaskState.RUNNING  # a claim may be on its way still
    await stage.lane.give_back_strays()
    assert stage.task(task_id).state is TaskState.QUEUED
    stage.lane.take([task_id], lambda: None)
    assert (await stage.until(task_id, TaskState.SUCCEEDED)).attempt == 2


async def test_what_runs_here_is_not_given_back(stage: Stage) -> None:
    stage.act = lambda _: None
    task_id = stage.submit()
    await stage.until(task_id, TaskState.RUNNING)
    for _ in range(3):
        await stage.lane.give_back_strays()
    assert stage.task(task_id).state is TaskState.RUNNING


async def test_a_shutdown_gives_back_what_runs_once_its_process_is_dead(stage: Stage) -> None:
    actors: list[Actor] = []
    stage.act = actors.append
    task_id = stage.submit()
    await stage.until(task_id, TaskState.RUNNING)
    await until(lambda: actors)
    await stage.lane.close(0.0)
    assert actors[0].state is State.GONE
    task = stage.task(task_id)
    assert (task.state, task.attempt) == (TaskState.QUEUED, 1)


async def test_a_task_publishes_its_model_once_however_often_it_runs(stage: Stage) -> None:
    saved = {"name": "m", "digest": "d" * 64, "format": "plain"}

    def train(actor: Actor) -> None:
        event = {"type": "model", "data": saved, "metrics": {"loss": len(attempts)}}
        attempts.append(1)
        actor.say(wire.Kind.EVENT, json.dumps(event).encode())
        if len(attempts) == 1:
            stage.ledger.away = 1_000_000  # its end is never written
        actor.answer()

    attempts: list[int] = []
    stage.act = train
    task_id = stage.submit()
    await until(lambda: stage.ledger.read_now(lambda conn: models.latest(conn, "m")))
    stage.ledger.write_now(lambda conn: tasks.release(conn, "host-1", None, time.time(), lost=True))
    stage.ledger.away = 0
    await until(lambda: not stage.lane.running)
    stage.lane.take([task_id], lambda: None)
    task = await stage.until(task_id, TaskState.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert task.attempt == 2
    assert result is not None
    assert json.loads(result.value or b"") == {
        "name": "m",
        "version": 1,
        "metrics": {"loss": 0},
    }
