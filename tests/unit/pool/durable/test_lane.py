"""The durable lane on a real ledger, with instances that answer as a test wants."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import bindparam, update

from skipper import failpoints
from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo
from skipper.ledger import events, models, tasks
from skipper.ledger.connection import Statement
from skipper.ledger.records import NewTask, Result
from skipper.ledger.schema import tasks as task_table
from skipper.outcomes import Outcome
from skipper.pool.durable import lane as lanes
from skipper.pool.durable import recorder, reserve, slots
from skipper.pool.durable.attempt import LaneContext
from skipper.pool.durable.journal import Journal
from skipper.pool.durable.lane import TaskLane
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.instance import Instance, InstanceState, Lane
from skipper.pool.processes.output import Printed
from skipper.pool.processes.version import FunctionVersion
from skipper.spec import FunctionSpec, Kind
from skipper.task import Attempt as TaskAttempt
from skipper.task import State, Task, new_id
from skipper.values.store import ValueStore
from skipper.values.value import Value
from skipper.wire import calls, frames
from skipper.wire.events import SavedModel
from skipper.wire.frames import Frame
from tests.blocking import BlockingLedger

LIMIT_S = 10.0
INPUT = Value(inline=b"{}")
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
            on_printed=lambda *_: None,
            on_gone=stage.lane.on_gone,
        )
        self.state = InstanceState.IDLE
        self._stage = stage

    def call(self, payload: bytes, call: Any) -> int:
        self.calls[1] = call
        self.state = InstanceState.BUSY
        asyncio.get_running_loop().call_soon(self._stage.act, self)
        return 1

    def say(self, kind: int, payload: bytes) -> None:
        self._on_frame(self, Frame(kind, 1, payload))

    def answer(self, value: bytes = b"7") -> None:
        self.say(frames.FrameKind.REPLY, calls.reply(Outcome.OK, b"c0de", value))

    def stop(self) -> None:
        self.end()

    def kill(self) -> None:
        self.end()

    def end(self) -> None:
        """Die, as its host sees it."""
        if self.state is not InstanceState.GONE:
            self.state = InstanceState.GONE
            self.death_reason = "its process was killed by SIGKILL"
            self._on_gone(self)
            self.gone.set_result(None)


class Lingerer(Actor):
    """An instance that answers, and whose process takes its time to end."""

    def stop(self) -> None:
        self.state = InstanceState.STOPPING


class Moody(BlockingLedger):
    """A ledger that cannot be written ``away`` times."""

    away = 0

    on_claimed: Callable[[], None] | None = None
    """Runs between a claim's commit and its host's hearing of it."""
    looks = 0

    async def merge(self, op: Any, item: Any, *, durable: bool = True) -> Any:
        if op is tasks.finish_all and self.away:
            self.away -= 1
            raise UnavailableError("The database cannot be reached")
        done = await super().merge(op, item, durable=durable)
        if op is tasks.claim_all and self.on_claimed is not None:
            self.on_claimed()
        return done

    async def read(self, op: Any) -> Any:
        self.looks += 1
        return await super().read(op)


class FullAtFirst(BlobStore):
    """A store on a disk that has no room ``refusals`` times."""

    refusals = 0

    def put(self, data: bytes) -> str:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().put(data)


def inline(result: Result) -> bytes:
    assert result.value is not None
    assert result.value.inline is not None
    return result.value.inline


@dataclass
class Stage:
    """A lane with one slot, its ledger, and what the function does."""

    ledger: Moody
    folder: Path
    act: Callable[[Actor], None] = Actor.answer
    on_start: Callable[[Actor], None] = lambda _: None
    on_load: Callable[[], Awaitable[None]] | None = None
    """What happens before an instance is there."""
    made_of: type[Actor] = Actor
    spec: FunctionSpec = SPEC
    told: list[str] = field(default_factory=list)
    find: Callable[[str], Awaitable[FunctionVersion | None]] = field(init=False)
    blobs: FullAtFirst = field(init=False)

    def __post_init__(self) -> None:
        self.find = self._find
        self.blobs = FullAtFirst(str(self.folder / "blobs"))
        context = LaneContext(
            ledger=self.ledger,
            journal=Journal(self.ledger, lambda _: None),
            values=ValueStore(self.blobs, 1024, room_s=0.0),
            find=lambda name: self.find(name),  # noqa: PLW0108 - a test may set another
            start=self._start,
            untrained=lambda _: "",
            announce_models=self._announce,
            changed=self.told.extend,
            metrics=PoolMetrics(),
        )
        self.lane = TaskLane("cpu", "host-1", 1, context)

    async def _find(self, name: str) -> FunctionVersion:
        return FunctionVersion(self.spec, SOURCE)

    async def _start(self, version: FunctionVersion) -> tuple[Instance, Report]:
        if self.on_load is not None:
            await self.on_load()
        actor = self.made_of(self)
        self.on_start(actor)
        return actor, Report(specs=(SPEC,), code="c0de")

    async def _announce(self) -> None:
        pass

    def accept(self, *, retries: int = 0, **given: Any) -> str:
        """Accept a task that the lane does not hear of."""
        now = time.time()
        usual = {"function": "f.f", "kind": "training", "pool": "cpu", "input": INPUT}
        times = {"created_at": now, "available_at": now}
        new = NewTask(id=new_id(), max_attempts=retries + 1, **{**usual, **times, **given})
        self.ledger.write_now(lambda conn: tasks.accept(conn, new))
        return new.id

    def submit(self, **given: Any) -> str:
        """Accept a task and hand its id to the lane."""
        task_id = self.accept(**given)
        self.lane.take([task_id], lambda: None)
        return task_id

    def attempts(self, id_: str) -> list[TaskAttempt]:
        return self.ledger.read_now(lambda conn: tasks.attempts(conn, id_))

    def task(self, id_: str) -> Task:
        return cast(Task, self.ledger.read_now(lambda conn: tasks.get(conn, id_)))

    async def until(self, id_: str, *states: State) -> Task:
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
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    assert (task.attempt, task.code) == (1, "c0de")


async def test_an_instance_that_dies_right_after_its_start_costs_an_attempt(stage: Stage) -> None:
    stage.on_start = Actor.end
    task = await stage.until(stage.submit(), State.CRASHED)
    assert "SIGKILL" in (task.error or {})["detail"]


async def test_an_instance_that_dies_in_a_call_costs_an_attempt(stage: Stage) -> None:
    stage.act = Actor.end
    await stage.until(stage.submit(), State.CRASHED)


@pytest.mark.parametrize("point", ["tasks.dispatching", "tasks.dispatched", "tasks.replied"])
async def test_where_the_host_fails_the_attempt_ends_with_its_process(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr(failpoints, "_folder", stage.folder)
    (stage.folder / point).write_text("raise")
    actors: list[Actor] = []
    stage.on_start, stage.act = actors.append, Actor.answer
    task = await stage.until(stage.submit(), State.CRASHED)
    assert "its host failed" in (task.error or {})["detail"]
    assert [actor.state for actor in actors] == [InstanceState.GONE]
    await stage.until(stage.submit(), State.SUCCEEDED)


async def test_what_has_run_is_not_run_again_while_the_ledger_is_away(stage: Stage) -> None:
    runs = []

    def act(actor: Actor) -> None:
        runs.append(actor)
        actor.answer()

    stage.act = act
    stage.ledger.away = 2
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    assert (task.attempt, len(runs)) == (1, 1)


async def test_a_task_that_the_host_lost_track_of_is_given_back(stage: Stage) -> None:
    def garble(actor: Actor) -> None:
        nameless: Any = None
        saved = SavedModel(name=nameless, format="f", digest="d", metrics={})
        actor.say(frames.FrameKind.EVENT, saved.to_json())
        stage.act = Actor.answer
        actor.answer()

    stage.act = garble  # a model without a name: recording the end fails in the host itself
    task_id = stage.submit()
    await stage.until(task_id, State.RUNNING)
    await until(lambda: not stage.lane.running)
    await stage.lane.give_back_strays()
    assert stage.task(task_id).state is State.RUNNING  # a claim may be on its way still
    await stage.lane.give_back_strays()
    assert stage.task(task_id).state is State.QUEUED
    stage.lane.take([task_id], lambda: None)
    assert (await stage.until(task_id, State.SUCCEEDED)).attempt == 2


async def test_what_runs_here_is_not_given_back(stage: Stage) -> None:
    stage.act = lambda _: None
    task_id = stage.submit()
    await stage.until(task_id, State.RUNNING)
    for _ in range(3):
        await stage.lane.give_back_strays()
    assert stage.task(task_id).state is State.RUNNING


async def test_a_shutdown_gives_back_what_runs_once_its_process_is_dead(stage: Stage) -> None:
    actors: list[Actor] = []
    stage.act = actors.append
    task_id = stage.submit()
    await stage.until(task_id, State.RUNNING)
    await until(lambda: actors)
    await stage.lane.close(0.0)
    assert actors[0].state is InstanceState.GONE
    task = stage.task(task_id)
    assert (task.state, task.attempt) == (State.QUEUED, 1)


async def test_a_task_publishes_its_model_once_however_often_it_runs(stage: Stage) -> None:
    saved = {"name": "m", "digest": "d" * 64, "format": "plain"}

    def train(actor: Actor) -> None:
        event = {"type": "model", "data": saved, "metrics": {"loss": len(attempts)}}
        attempts.append(1)
        actor.say(frames.FrameKind.EVENT, json.dumps(event).encode())
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
    task = await stage.until(task_id, State.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert task.attempt == 2
    assert result is not None
    assert json.loads(inline(result)) == {
        "name": "m",
        "version": 1,
        "metrics": {"loss": 0},
    }


# --- cancels and deadlines -------------------------------------------------------------------


def problem(outcome: Outcome, detail: str = "ValueError: no") -> bytes:
    return calls.problem(outcome, detail, b"c0de")


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
    await stage.until(stage.submit(), State.CANCELLED)
    assert (len(started), ran) == (1, [])
    stage.act, stage.on_start = Actor.answer, lambda _: None
    await stage.until(stage.submit(), State.SUCCEEDED)


async def test_a_start_that_hangs_does_not_hold_up_a_cancel_nor_the_slot(stage: Stage) -> None:
    loading, given_up = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        loading.set()
        try:
            await asyncio.Event().wait()
        finally:
            given_up.set()

    stage.on_load = hang
    task_id = stage.submit(retries=3)
    await asyncio.wait_for(loading.wait(), LIMIT_S)
    assert stage.lane.cancel(task_id)
    task = await stage.until(task_id, State.CANCELLED)
    assert (task.attempt, given_up.is_set()) == (1, True)
    stage.on_load = None
    await stage.until(stage.submit(), State.SUCCEEDED)


async def test_a_task_that_is_cancelled_while_it_is_claimed_never_runs(stage: Stage) -> None:
    ran: list[Actor] = []
    stage.act = ran.append
    task_id = stage.accept()

    def cancel() -> None:
        assert stage.lane.cancel(task_id)

    stage.ledger.on_claimed = cancel
    stage.lane.take([task_id], lambda: None)
    await stage.until(task_id, State.CANCELLED)
    assert ran == []


async def test_the_slot_is_busy_until_the_process_is_gone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "GONE_S", 0.01)
    stage.made_of = Lingerer
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    actor.say(frames.FrameKind.REPLY, problem(Outcome.CANCELLED))
    await stage.until(task_id, State.CANCELLED)  # even where the process will not go
    assert (stage.lane.free, len(stage.lane.running)) == (0, 1)
    actor.end()
    await until(lambda: stage.lane.free == 1)


async def test_an_end_is_written_when_nothing_of_the_run_is_left(stage: Stage) -> None:
    stage.made_of = Lingerer
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    actor.say(frames.FrameKind.REPLY, problem(Outcome.CANCELLED))
    await until(lambda: actor.state is InstanceState.STOPPING)
    assert stage.task(task_id).state is State.RUNNING
    actor.end()
    await stage.until(task_id, State.CANCELLED)


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
        (calls.reply(Outcome.OK, b"c0de", b"7"), State.SUCCEEDED),
        (problem(Outcome.CANCELLED), State.CANCELLED),
        (problem(Outcome.FAILED), State.CANCELLED),
    ],
)
async def test_a_cancelled_function_is_cancelled_unless_it_has_a_value(
    stage: Stage, reply: bytes, state: State
) -> None:
    task_id, actor = await begun(stage, retries=1)
    assert stage.lane.cancel(task_id)
    actor.say(frames.FrameKind.REPLY, reply)
    await stage.until(task_id, state)


async def test_a_cancelled_function_that_does_not_look_is_interrupted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "CANCEL_GRACE_S", 0.0)
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    await until(lambda: actor.state is InstanceState.STOPPING)
    actor.end()
    await stage.until(task_id, State.CANCELLED)


async def test_only_what_runs_here_can_be_cancelled_here(stage: Stage) -> None:
    assert not stage.lane.cancel("no such task")


async def test_a_task_beyond_its_time_is_interrupted(stage: Stage) -> None:
    task_id, actor = await begun(stage, timeout_s=0.01)
    await until(lambda: actor.state is InstanceState.STOPPING)
    actor.end()
    task = await stage.until(task_id, State.TIMED_OUT)
    assert (task.error or {})["detail"] == "the deadline of 0.01 s passed while it ran"


async def test_a_value_that_comes_just_after_the_deadline_still_counts(stage: Stage) -> None:
    task_id, actor = await begun(stage, timeout_s=0.01)
    await until(lambda: actor.state is InstanceState.STOPPING)
    actor.answer()
    await stage.until(task_id, State.SUCCEEDED)


# --- ends ------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_while_attempts_are_left(stage: Stage) -> None:
    stage.act = lambda actor: actor.say(frames.FrameKind.REPLY, problem(Outcome.FAILED))
    last = stage.submit()
    assert (await stage.until(last, State.FAILED)).error is not None
    task = await stage.until(stage.submit(retries=1), State.RETRYING)
    assert task.available_at > time.time()


async def test_an_exception_that_is_not_named_is_not_tried_again(stage: Stage) -> None:
    told = calls.problem(Outcome.FAILED, "ValueError: no", b"c0de", retryable=False)
    stage.act = lambda actor: actor.say(frames.FrameKind.REPLY, told)
    task = await stage.until(stage.submit(retries=3), State.FAILED)
    assert task.attempt == 1


@pytest.mark.parametrize(
    ("backoff_s", "spent", "least", "most"),
    [(1.0, 0, 0.5, 1.0), (10.0, 0, 5.0, 10.0), (10.0, 2, 20.0, 40.0), (10.0, 2000, 150.0, 300.0)],
)
async def test_pauses_between_attempts_double_from_the_functions_first_to_five_minutes(
    stage: Stage, backoff_s: float, spent: int, least: float, most: float
) -> None:
    stage.spec = SPEC.model_copy(update={"backoff_s": backoff_s})
    stage.act = lambda actor: actor.say(frames.FrameKind.REPLY, problem(Outcome.FAILED))
    task_id = stage.accept(retries=3000)
    write = Statement(update(task_table).values(spent=bindparam("spent")))
    stage.ledger.write_now(lambda conn: conn.run(write, {"spent": spent}))
    stage.lane.take([task_id], lambda: None)
    task = await stage.until(task_id, State.RETRYING)
    (attempt,) = stage.attempts(task_id)
    assert least <= task.available_at - (attempt.ended_at or 0) + 0.1 <= most + 0.2


async def test_a_start_that_takes_too_long_is_a_timed_out_attempt(stage: Stage) -> None:
    async def give_up() -> None:
        raise TimeoutError("it did not finish loading within 3 s")

    stage.on_load = give_up
    task_id = stage.submit(retries=1)
    await stage.until(task_id, State.RETRYING)
    (attempt,) = stage.attempts(task_id)
    assert attempt.outcome == "timed_out"
    told = "f.f did not start: it did not finish loading within 3 s"
    assert (attempt.error or {})["detail"] == told


async def test_an_attempt_that_crashed_still_names_what_ran_it(stage: Stage) -> None:
    stage.act = Actor.end
    task_id = stage.submit(retries=1)
    await stage.until(task_id, State.RETRYING)
    (attempt,) = stage.attempts(task_id)
    assert (attempt.code, attempt.instance, attempt.outcome) == ("c0de", "f.f#0", "crashed")
    assert attempt.ended_at is not None


async def test_what_runs_for_a_while_is_noted_for_those_who_lose_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "NOTED_S", 0.01)
    task_id, _ = await begun(stage, timeout_s=100.0)
    await until(lambda: stage.task(task_id).code)
    task = stage.task(task_id)
    assert (task.deadline_at or 0) > (task.started_at or 0) + 100.0
    stage.ledger.write_now(lambda conn: tasks.release(conn, "host-1", None, 1.0, lost=True))
    (attempt,) = stage.attempts(task_id)
    assert (attempt.code, attempt.instance, attempt.outcome) == ("c0de", "f.f#0", "lost")


@pytest.mark.parametrize("outcome", [Outcome.INVALID, Outcome.UNAVAILABLE])
async def test_what_would_end_the_same_is_not_tried_again(stage: Stage, outcome: Outcome) -> None:
    stage.act = lambda actor: actor.say(frames.FrameKind.REPLY, problem(outcome))
    await stage.until(stage.submit(retries=3), State.FAILED)


async def test_a_function_that_ends_as_cancelled_by_itself_has_failed(stage: Stage) -> None:
    stage.act = lambda actor: actor.say(frames.FrameKind.REPLY, problem(Outcome.CANCELLED))
    task = await stage.until(stage.submit(), State.FAILED)
    assert "nobody cancelled it" in (task.error or {})["detail"]


async def test_a_large_value_is_stored_beside_the_ledger(stage: Stage) -> None:
    stage.act = lambda actor: actor.answer(b'"' + b"x" * 5000 + b'"')
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert result is not None
    assert result.value is not None
    assert result.value.ref is not None
    assert BlobStore(str(stage.folder / "blobs")).get(result.value.ref)[:3] == b'"xx'


async def test_a_value_that_cannot_be_stored_fails_its_task_and_is_not_made_again(
    stage: Stage,
) -> None:
    (stage.folder / "blobs").write_text("in the way")
    stage.act = lambda actor: actor.answer(b'"' + b"x" * 2000 + b'"')
    task = await stage.until(stage.submit(retries=3), State.FAILED)
    assert task.attempt == 1
    assert "could not be stored" in (task.error or {})["detail"]


async def test_a_value_waits_for_room_on_a_disk_that_is_full(stage: Stage) -> None:
    stage.blobs.refusals = 2
    stage.act = lambda actor: actor.answer(b'"' + b"x" * 2000 + b'"')
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    assert (task.attempt, stage.blobs.refusals) == (1, 0)


async def test_a_process_that_has_used_most_of_its_memory_runs_no_other_task(stage: Stage) -> None:
    actors: list[Actor] = []
    version = FunctionVersion(SPEC, SOURCE)

    async def find(_: str) -> FunctionVersion:
        return version

    stage.find, stage.on_start = find, actors.append
    for is_worn in (False, True, False):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.lane.running)
        actors[-1].is_worn = is_worn
    assert len(actors) == 2


async def test_whoever_watches_is_told_of_the_claim_and_of_the_end(stage: Stage) -> None:
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
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
    await stage.until(second, State.SUCCEEDED)


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
    assert actor.state is InstanceState.GONE, "it is not given another task"
    stage.lane.return_slot(actor)
    assert stage.lane.free == 1


async def test_a_task_that_waits_for_others_lends_the_one_slot_it_has(stage: Stage) -> None:
    _, actor = await begun(stage)
    for _ in range(3):
        stage.lane.lend_slot(actor)
    assert stage.lane.free == 1
    stage.act = Actor.answer
    await stage.until(stage.submit(), State.SUCCEEDED)
    for _ in range(3):
        stage.lane.return_slot(actor)
    await until(lambda: len(stage.lane.running) == 1)
    assert stage.lane.free == 0


async def test_a_slot_that_was_lent_is_lent_no_more_once_its_process_is_dead(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    stage.lane.lend_slot(actor)
    stage.lane.lend_slot(actor)
    actor.end()
    await stage.until(task_id, State.CRASHED)
    await until(lambda: not stage.lane.running)
    assert stage.lane.free == 1
    stage.lane.return_slot(actor)
    stage.lane.return_slot(actor)
    assert stage.lane.free == 1


def order_of(stage: Stage, *ids: str) -> list[str]:
    """The order in which these tasks were claimed."""
    return sorted(ids, key=lambda id_: stage.task(id_).started_at or 0)


async def test_the_most_urgent_of_many_starts_next_though_the_broker_has_not_told_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FRESH_S", 0.0)
    _, actor = await begun(stage)
    others = [stage.submit(function="a.many") for _ in range(50)]
    urgent = stage.accept(function="b.one", priority=5)
    stage.act = Actor.answer
    actor.answer()
    await until(lambda: all(stage.task(id_).state.is_terminal for id_ in (*others, urgent)))
    assert order_of(stage, *others, urgent)[0] == urgent


async def test_two_functions_take_turns_however_many_tasks_one_has(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "FRESH_S", 0.0)
    _, actor = await begun(stage)
    many = [stage.submit(function="a.many") for _ in range(30)]
    few = [stage.accept(function="b.few") for _ in range(5)]
    ran: list[str] = []

    def act(actor: Actor) -> None:
        ran.append(actor.calls[1].claim.task.function)
        actor.answer()

    stage.act = act
    actor.answer()
    await until(lambda: all(stage.task(id_).state.is_terminal for id_ in (*many, *few)))
    assert ran[:10] == ["a.many", "b.few"] * 5


async def test_where_everything_may_start_the_ledger_is_not_asked_what_waits(stage: Stage) -> None:
    for _ in range(5):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.lane.running)
    await until(lambda: not stage.lane._found_work)  # what follows a task is over
    before, at_claim = stage.ledger.looks, list[int]()
    stage.ledger.on_claimed = lambda: at_claim.append(stage.ledger.looks)
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert at_claim == [before]


async def test_a_host_at_rest_starts_what_it_is_nudged_with_and_looks_at_nothing(
    stage: Stage,
) -> None:
    await stage.until(stage.submit(), State.SUCCEEDED)
    await until(lambda: not stage.lane._found_work)
    looks, nudged = stage.ledger.looks, stage.accept()
    at_claim = list[int]()
    stage.ledger.on_claimed = lambda: at_claim.append(stage.ledger.looks)
    stage.lane.nudge(nudged)
    await stage.until(nudged, State.SUCCEEDED)
    assert at_claim == [looks]


async def test_what_has_ended_here_is_not_claimed_when_the_broker_names_it(stage: Stage) -> None:
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
    await until(lambda: not stage.lane.running and not stage.lane._found_work)
    taken, claims = list[int](), list[int]()
    stage.ledger.on_claimed = lambda: claims.append(1)
    stage.lane.take([task_id], partial(taken.append, 1))
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert (taken, claims) == ([1], [1])


async def test_what_has_expired_is_not_started(stage: Stage) -> None:
    task_id = stage.submit(expires_at=time.time() - 1.0)
    await stage.until(stage.submit(), State.SUCCEEDED)
    stage.lane.nudge(task_id)
    await until(lambda: not stage.lane.waiting and not stage.lane.running)
    assert (stage.task(task_id).state, stage.task(task_id).attempt) == (State.QUEUED, 0)


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
    await stage.until(task_id, State.SUCCEEDED)
    stage.lane.take([task_id], lambda: None)
    await until(lambda: not stage.lane.waiting and not stage.lane.running)
    assert len(runs) == 1


async def test_an_instance_is_used_again_until_its_version_is_retired(stage: Stage) -> None:
    actors: list[Actor] = []
    version = FunctionVersion(SPEC, SOURCE)

    async def find(_: str) -> FunctionVersion:
        return version

    stage.find = find

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.answer()

    stage.act = act
    for _ in range(2):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.lane.running)
    stage.lane.retire(version)
    assert actors[0] is actors[1]
    assert actors[0].state is InstanceState.GONE
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert actors[2] is not actors[0]


async def test_each_version_of_a_function_keeps_an_instance_of_its_own(stage: Stage) -> None:
    actors: list[Actor] = []
    old, new = FunctionVersion(SPEC, SOURCE), FunctionVersion(SPEC, SOURCE)
    assigned = iter((old, new, old, new))

    async def find(_: str) -> FunctionVersion:
        return next(assigned)

    stage.find = find

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.answer()

    stage.act = act
    for _ in range(4):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.lane.running)
    first, second, third, fourth = actors
    assert (first, second) == (third, fourth)
    assert first is not second
    stage.lane.retire(old)
    assert first.state is InstanceState.GONE
    assert second.is_alive


async def test_a_busy_instance_of_a_retired_version_is_stopped_when_it_is_done(
    stage: Stage,
) -> None:
    version = FunctionVersion(SPEC, SOURCE)

    async def find(_: str) -> FunctionVersion:
        return version

    stage.find = find
    task_id, actor = await begun(stage)
    stage.lane.retire(version)
    assert actor.is_alive
    actor.answer()
    await stage.until(task_id, State.SUCCEEDED)
    await until(lambda: not actor.is_alive)


async def test_an_instance_that_nobody_needs_is_stopped(stage: Stage) -> None:
    actors: list[Actor] = []

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.answer()

    stage.act = act
    await stage.until(stage.submit(), State.SUCCEEDED)
    await until(lambda: not stage.lane.running)
    stage.lane.sweep(time.monotonic() + reserve.IDLE_S - 1)
    assert actors[0].is_alive
    stage.lane.sweep(time.monotonic() + reserve.IDLE_S + 1)
    assert not actors[0].is_alive


async def test_what_a_task_prints_is_its_log(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    assert stage.lane.on_printed(actor, Printed("stdout", ["half way"])) == task_id
    actor.answer()
    await stage.until(task_id, State.SUCCEEDED)
    (event,) = await stage.ledger.read_events(lambda conn: events.after(conn, task_id, 0, 9))
    assert (event.type, event.data) == ("log", {"stream": "stdout", "text": "half way"})
    assert (event.attempt, event.number) == (1, 1)


async def test_a_draining_lane_takes_and_claims_nothing_more(stage: Stage) -> None:
    await stage.lane.close(0.0)
    taken: list[int] = []
    task_id = stage.submit()
    stage.lane.take([task_id], partial(taken.append, 1))
    stage.lane.nudge(task_id)
    await asyncio.sleep(0)
    assert (taken, stage.lane.running) == ([], {})
    assert stage.task(task_id).state is State.QUEUED


async def begun_ahead(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, patience_s: float = LIMIT_S
) -> tuple[str, Actor, list[str]]:
    """A task that runs in the one slot, and others that have been claimed ahead of it."""
    monkeypatch.setattr(slots, "AHEAD_S", LIMIT_S)  # however slow this machine is
    monkeypatch.setattr(slots, "PATIENCE_S", patience_s)
    await stage.until(stage.submit(), State.SUCCEEDED)
    actors: list[Actor] = []
    stage.act = actors.append
    ids = [stage.submit() for _ in range(4)]
    await until(lambda: len(stage.lane.running) == len(ids) and actors)
    running, *claimed = ids
    assert [id_ for id_ in ids if stage.lane.running[id_].instance is not None] == [running]
    return running, actors[0], claimed


async def test_what_was_claimed_ahead_runs_when_the_slot_comes_free(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, actor, claimed = await begun_ahead(stage, monkeypatch)
    stage.act = Actor.answer
    actor.answer()
    for id_ in (running, *claimed):
        await stage.until(id_, State.SUCCEEDED)


async def test_what_was_claimed_ahead_in_vain_is_given_back(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _, claimed = await begun_ahead(stage, monkeypatch, slots.PATIENCE_S)
    for id_ in claimed:
        await stage.until(id_, State.QUEUED)
    assert [*stage.lane.running] == [running]


async def test_a_task_that_was_claimed_ahead_is_cancelled_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _, claimed = await begun_ahead(stage, monkeypatch)
    assert stage.lane.cancel(claimed[0])
    await stage.until(claimed[0], State.CANCELLED)
    assert stage.lane.running[running].verdict is None


async def test_a_host_that_shuts_down_gives_back_what_it_has_claimed_ahead(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, actor, claimed = await begun_ahead(stage, monkeypatch)
    closing = asyncio.ensure_future(stage.lane.close(10.0))
    for id_ in claimed:
        await stage.until(id_, State.QUEUED)
    actor.answer()
    await closing
    await stage.until(running, State.SUCCEEDED)
