"""The durable lane on a real ledger, with instances that answer as a test wants."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from skipper import wire
from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo
from skipper.ledger import Ledger, events, models, tasks
from skipper.ledger.records import NewTask
from skipper.metrics import PoolMetrics
from skipper.pool import recorder
from skipper.pool import tasks as lanes
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
    find: Callable[[str], Awaitable[Entry | None]] = field(init=False)

    def __post_init__(self) -> None:
        self.find = self._find
        services = Services(
            ledger=self.ledger,
            journal=Journal(self.ledger, lambda _: None),
            blobs=BlobStore(str(self.folder / "blobs")),
            inline_bytes=1024,
            find=lambda name: self.find(name),  # noqa: PLW0108 - a test may set another
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

    def submit(self, *, retries: int = 0, timeout_s: float | None = None) -> str:
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
            timeout_s=timeout_s,
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
async def stage(
    ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    monkeypatch.setattr(recorder, "AGAIN_S", 0.01)
    with Moody.open(ledger_url) as ledger:
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


# --- cancels and deadlines -------------------------------------------------------------------


def problem(outcome: Outcome, detail: str = "ValueError: no") -> bytes:
    return wire.problem(outcome, detail, b"c0de")


async def test_a_task_that_is_cancelled_before_its_instance_is_ready_never_runs(
    stage: Stage,
) -> None:
    ran: list[Actor] = []
    stage.act = ran.append
    started: list[Actor] = []

    def cancel(actor: Actor) -> None:
        started.append(actor)
        stage.lane.cancel(next(iter(stage.lane.running)))

    stage.on_start = cancel
    await stage.until(stage.submit(), TaskState.CANCELLED)
    assert (len(started), ran) == (1, [])
    stage.act, stage.on_start = Actor.answer, lambda _: None
    await stage.until(stage.submit(), TaskState.SUCCEEDED)


async def begun(stage: Stage, **task: Any) -> tuple[str, Actor]:
    """A task whose function is at work, and its instance."""
    actors: list[Actor] = []
    stage.act = actors.append
    task_id = stage.submit(**task)
    await until(lambda: actors)
    return task_id, actors[0]


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (wire.reply(Outcome.OK, b"c0de", b"7"), TaskState.SUCCEEDED),
        (problem(Outcome.CANCELLED), TaskState.CANCELLED),
        (problem(Outcome.FAILED), TaskState.CANCELLED),
    ],
)
async def test_a_cancelled_function_is_cancelled_unless_it_has_a_value(
    stage: Stage, reply: bytes, state: TaskState
) -> None:
    task_id, actor = await begun(stage, retries=1)
    assert stage.lane.cancel(task_id)
    actor.say(wire.Kind.REPLY, reply)
    await stage.until(task_id, state)


async def test_a_cancelled_function_that_does_not_look_is_interrupted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "CANCEL_GRACE_S", 0.0)
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    await until(lambda: actor.state is State.STOPPING)
    actor.end()
    await stage.until(task_id, TaskState.CANCELLED)


async def test_only_what_runs_here_can_be_cancelled_here(stage: Stage) -> None:
    assert not stage.lane.cancel("no such task")


async def test_a_task_beyond_its_time_is_interrupted(stage: Stage) -> None:
    task_id, actor = await begun(stage, timeout_s=0.01)
    await until(lambda: actor.state is State.STOPPING)
    actor.end()
    task = await stage.until(task_id, TaskState.TIMED_OUT)
    assert (task.error or {})["detail"] == "the deadline of 0.01 s passed while it ran"


async def test_a_value_that_comes_just_after_the_deadline_still_counts(stage: Stage) -> None:
    task_id, actor = await begun(stage, timeout_s=0.01)
    await until(lambda: actor.state is State.STOPPING)
    actor.answer()
    await stage.until(task_id, TaskState.SUCCEEDED)


# --- ends ------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_while_attempts_are_left(stage: Stage) -> None:
    stage.act = lambda actor: actor.say(wire.Kind.REPLY, problem(Outcome.FAILED))
    last = stage.submit()
    assert (await stage.until(last, TaskState.FAILED)).error is not None
    task = await stage.until(stage.submit(retries=1), TaskState.RETRYING)
    assert task.available_at > time.time()


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.UNAVAILABLE, Outcome.CANCELLED])
async def test_what_would_end_the_same_is_not_tried_again(stage: Stage, outcome: Outcome) -> None:
    stage.act = lambda actor: actor.say(wire.Kind.REPLY, problem(outcome))
    ended = await stage.until(stage.submit(retries=3), TaskState.FAILED, TaskState.CANCELLED)
    assert ended.state is (
        TaskState.CANCELLED if outcome is Outcome.CANCELLED else TaskState.FAILED
    )


async def test_a_large_value_is_stored_beside_the_ledger(stage: Stage) -> None:
    stage.act = lambda actor: actor.answer(b'"' + b"x" * 5000 + b'"')
    task_id = stage.submit()
    await stage.until(task_id, TaskState.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert result is not None
    assert (result.value, BlobStore(str(stage.folder / "blobs")).get(result.ref or "")[:3]) == (
        None,
        b'"xx',
    )


async def test_a_value_that_cannot_be_stored_fails_its_task_and_is_not_made_again(
    stage: Stage,
) -> None:
    (stage.folder / "blobs").write_text("in the way")
    stage.act = lambda actor: actor.answer(b'"' + b"x" * 2000 + b'"')
    task = await stage.until(stage.submit(retries=3), TaskState.FAILED)
    assert task.attempt == 1
    assert "could not be stored" in (task.error or {})["detail"]


async def test_whoever_watches_is_told_of_the_claim_and_of_the_end(stage: Stage) -> None:
    task_id = stage.submit()
    await stage.until(task_id, TaskState.SUCCEEDED)
    await until(lambda: not stage.lane.running)
    assert stage.told == [task_id, task_id]


# --- capacity --------------------------------------------------------------------------------


async def test_no_more_tasks_run_than_there_are_slots(stage: Stage) -> None:
    first, actor = await begun(stage)
    second = stage.submit()
    await until(lambda: stage.lane.waiting == 1)
    assert [*stage.lane.running] == [first]
    stage.act = Actor.answer
    actor.answer()
    await stage.until(second, TaskState.SUCCEEDED)


async def test_a_task_that_dies_while_its_slot_is_lent_takes_the_slot_back(stage: Stage) -> None:
    _, actor = await begun(stage)
    stage.lane.lend_slot(actor)
    assert stage.lane.free == 1
    actor.end()
    assert stage.lane.free == 0, "until its end is recorded it holds its slot"
    stage.lane.return_slot(actor)
    await until(lambda: not stage.lane.running)
    assert stage.lane.free == 1


async def test_what_waits_after_its_task_has_ended_has_no_slot_to_lend(stage: Stage) -> None:
    _, actor = await begun(stage)
    stage.lane.lend_slot(actor)  # by a thread that the function leaves behind
    actor.answer()
    await until(lambda: not stage.lane.running)
    assert stage.lane.free == 1
    assert actor.state is State.GONE, "it is not given another task"
    stage.lane.return_slot(actor)
    assert stage.lane.free == 1


async def test_a_task_that_waits_for_others_lends_the_one_slot_it_has(stage: Stage) -> None:
    _, actor = await begun(stage)
    for _ in range(3):
        stage.lane.lend_slot(actor)
    assert stage.lane.free == 1
    stage.act = Actor.answer
    await stage.until(stage.submit(), TaskState.SUCCEEDED)
    for _ in range(3):
        stage.lane.return_slot(actor)
    await until(lambda: len(stage.lane.running) == 1)
    assert stage.lane.free == 0


async def test_messages_beyond_the_short_list_stay_with_the_broker(stage: Stage) -> None:
    """Only what is on the list has been taken, and so acknowledged."""
    _, actor = await begun(stage)
    taken: list[int] = []
    for n in range(lanes.SHORT_LIST + 3):
        stage.lane.take([f"unknown-{n}"], partial(taken.append, n))
    assert taken == [*range(lanes.SHORT_LIST)]
    actor.answer()
    await until(lambda: len(taken) == lanes.SHORT_LIST + 3)


async def test_an_id_that_is_doubled_or_unknown_harms_nobody(stage: Stage) -> None:
    runs: list[Actor] = []

    def act(actor: Actor) -> None:
        runs.append(actor)
        actor.answer()

    stage.act = act
    stage.lane.take(["no such task", ""], lambda: None)
    task_id = stage.submit()
    stage.lane.take([task_id, task_id], lambda: None)
    await stage.until(task_id, TaskState.SUCCEEDED)
    stage.lane.take([task_id], lambda: None)
    await until(lambda: not stage.lane.waiting and not stage.lane.running)
    assert len(runs) == 1


async def test_an_instance_is_used_again_until_its_version_is_retired(stage: Stage) -> None:
    actors: list[Actor] = []
    served = Served(SPEC, SOURCE)

    async def find(_: str) -> Entry:
        return Entry(served)

    stage.find = find

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.answer()

    stage.act = act
    for _ in range(2):
        await stage.until(stage.submit(), TaskState.SUCCEEDED)
        await until(lambda: not stage.lane.running)
    stage.lane.retire(served)
    assert actors[0] is actors[1]
    assert actors[0].state is State.GONE
    await stage.until(stage.submit(), TaskState.SUCCEEDED)
    assert actors[2] is not actors[0]


async def test_an_instance_that_nobody_needs_is_stopped(stage: Stage) -> None:
    actors: list[Actor] = []

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.answer()

    stage.act = act
    await stage.until(stage.submit(), TaskState.SUCCEEDED)
    await until(lambda: not stage.lane.running)
    stage.lane.sweep(time.monotonic() + lanes.IDLE_S - 1)
    assert actors[0].is_alive
    stage.lane.sweep(time.monotonic() + lanes.IDLE_S + 1)
    assert not actors[0].is_alive


async def test_what_a_task_prints_is_its_log(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    assert stage.lane.on_line(actor, "stdout", "half way") == task_id
    actor.answer()
    await stage.until(task_id, TaskState.SUCCEEDED)
    (event,) = await stage.ledger.read_events(lambda conn: events.after(conn, task_id, 0, 9))
    assert (event.type, event.data) == ("log", {"stream": "stdout", "text": "half way"})


async def test_a_draining_lane_takes_and_claims_nothing_more(stage: Stage) -> None:
    await stage.lane.close(0.0)
    taken: list[int] = []
    task_id = stage.submit()
    stage.lane.take([task_id], partial(taken.append, 1))
    stage.lane.nudge()
    await asyncio.sleep(0)
    assert (taken, stage.lane.running) == ([], {})
    assert stage.task(task_id).state is TaskState.QUEUED
