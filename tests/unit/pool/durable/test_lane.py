"""What becomes of a task from its claim to its end."""

from __future__ import annotations

import asyncio

import pytest

from skipper import failpoints
from skipper.ledger import events, tasks
from skipper.outcomes import Outcome
from skipper.pool.durable.lane import Patience
from skipper.pool.processes.marked import MarkedLine
from skipper.pool.processes.output import Printed
from skipper.pool.processes.process import InstanceState
from skipper.task import State
from skipper.values.envelope import unpack
from skipper.wire import calls
from tests.unit.pool.durable.stage import (
    LIMIT_S,
    SPEC,
    Actor,
    Given,
    Stage,
    begun,
    problem,
    until,
)
from tests.unit.pool.played import Played, left_in, spooled_reply


async def test_a_task_runs_to_its_end(stage: Stage) -> None:
    task = await stage.until(stage.submit(), State.SUCCEEDED)
    assert (task.attempt, task.code) == (1, "c0de")


async def test_an_instance_that_dies_right_after_its_start_costs_an_attempt(stage: Stage) -> None:
    stage.on_start = Played.dies
    task = await stage.until(stage.submit(), State.CRASHED)
    assert "SIGKILL" in (task.error or {})["detail"]


async def test_an_instance_that_dies_in_a_call_costs_an_attempt(stage: Stage) -> None:
    stage.act = Played.dies
    await stage.until(stage.submit(), State.CRASHED)


@pytest.mark.parametrize("point", ["tasks.dispatching", "tasks.dispatched", "tasks.replied"])
async def test_where_the_host_fails_the_attempt_ends_with_its_process(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setattr(failpoints, "_folder", stage.folder)
    (stage.folder / point).write_text("raise")
    actors: list[Actor] = []
    stage.on_start, stage.act = actors.append, Played.replies
    task = await stage.until(stage.submit(), State.CRASHED)
    assert "its host failed" in (task.error or {})["detail"]
    assert [actor.state for actor in actors] == [InstanceState.GONE]
    await stage.until(stage.submit(), State.SUCCEEDED)


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


# --- cancels and deadlines -------------------------------------------------------------------


async def test_a_task_that_is_cancelled_before_its_instance_is_ready_never_runs(
    stage: Stage,
) -> None:
    ran: list[Actor] = []
    stage.act = ran.append
    started: list[Actor] = []

    def cancel(actor: Actor) -> None:
        started.append(actor)
        stage.lane.cancel(next(iter(stage.running)))

    stage.on_start = cancel
    await stage.until(stage.submit(), State.CANCELLED)
    assert (len(started), ran) == (1, [])
    stage.act, stage.on_start = Played.replies, lambda _: None
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


@pytest.mark.parametrize("given", [Given(patience=Patience(gone_s=0.01))])
async def test_the_slot_is_busy_until_the_process_is_gone(stage: Stage) -> None:
    stage.lingers = True
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    actor.ends(problem(Outcome.CANCELLED))
    await stage.until(task_id, State.CANCELLED)  # even where the process will not go
    assert (stage.free, len(stage.running)) == (0, 1)
    actor.dies()
    await until(lambda: stage.free == 1)


async def test_an_end_is_written_when_nothing_of_the_run_is_left(stage: Stage) -> None:
    stage.lingers = True
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    actor.ends(problem(Outcome.CANCELLED))
    await until(lambda: actor.state is InstanceState.STOPPING)
    assert stage.task(task_id).state is State.RUNNING
    actor.dies()
    await stage.until(task_id, State.CANCELLED)


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
    actor.ends(reply)
    await stage.until(task_id, state)


@pytest.mark.parametrize("given", [Given(patience=Patience(cancel_s=0.0))])
async def test_a_cancelled_function_that_does_not_look_is_interrupted(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    stage.lane.cancel(task_id)
    await until(lambda: actor.state is InstanceState.STOPPING)
    actor.dies()
    await stage.until(task_id, State.CANCELLED)


async def test_only_what_runs_here_can_be_cancelled_here(stage: Stage) -> None:
    assert not stage.lane.cancel("no such task")


async def test_a_task_beyond_its_time_is_interrupted(stage: Stage) -> None:
    task_id, actor = await begun(stage, timeout_s=0.01)
    await until(lambda: actor.state is InstanceState.STOPPING)
    actor.dies()
    task = await stage.until(task_id, State.TIMED_OUT)
    assert (task.error or {})["detail"] == "the deadline of 0.01 s passed while it ran"


async def test_a_value_that_comes_just_after_the_deadline_still_counts(stage: Stage) -> None:
    task_id, actor = await begun(stage, timeout_s=0.01)
    await until(lambda: actor.state is InstanceState.STOPPING)
    actor.replies()
    await stage.until(task_id, State.SUCCEEDED)


# --- ends ------------------------------------------------------------------------------------


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


async def test_a_function_that_ends_as_cancelled_by_itself_has_failed(stage: Stage) -> None:
    stage.act = lambda actor: actor.ends(problem(Outcome.CANCELLED))
    task = await stage.until(stage.submit(), State.FAILED)
    assert "nobody cancelled it" in (task.error or {})["detail"]


async def test_whoever_watches_is_told_of_the_claim_and_of_the_end(stage: Stage) -> None:
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
    await until(lambda: not stage.running)
    assert stage.changed == [task_id, task_id]


# --- capacity --------------------------------------------------------------------------------


async def test_no_more_tasks_run_than_there_are_slots(stage: Stage) -> None:
    first, actor = await begun(stage)
    second = stage.submit()
    await until(lambda: stage.claimer.waiting == 1)
    assert [*stage.running] == [first]
    stage.act = Played.replies
    actor.replies()
    await stage.until(second, State.SUCCEEDED)


async def test_a_task_that_dies_while_its_slot_is_lent_takes_the_slot_back(stage: Stage) -> None:
    _, actor = await begun(stage)
    actor.begin_wait()
    assert stage.free == 1
    actor.dies()
    assert stage.free == 0, "until its end is recorded it holds its slot"
    actor.end_wait()
    await until(lambda: not stage.running)
    assert stage.free == 1


async def test_what_waits_after_its_task_has_ended_has_no_slot_to_lend(stage: Stage) -> None:
    _, actor = await begun(stage)
    actor.begin_wait()  # by a thread that the function leaves behind
    actor.replies()
    await until(lambda: not stage.running)
    assert stage.free == 1
    assert actor.state is InstanceState.GONE, "it is not given another task"
    actor.end_wait()
    assert stage.free == 1


async def test_a_task_that_waits_for_others_lends_the_one_slot_it_has(stage: Stage) -> None:
    _, actor = await begun(stage)
    for _ in range(3):
        actor.begin_wait()
    assert stage.free == 1
    stage.act = Played.replies
    await stage.until(stage.submit(), State.SUCCEEDED)
    for _ in range(3):
        actor.end_wait()
    await until(lambda: len(stage.running) == 1)
    assert stage.free == 0


async def test_a_slot_that_was_lent_is_lent_no_more_once_its_process_is_dead(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    actor.begin_wait()
    actor.begin_wait()
    actor.dies()
    await stage.until(task_id, State.CRASHED)
    await until(lambda: not stage.running)
    assert stage.free == 1
    actor.end_wait()
    actor.end_wait()
    assert stage.free == 1


async def test_what_a_task_prints_is_its_log(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    cause = stage.lane.on_printed(actor, Printed("stdout", [MarkedLine("half way")]))
    assert cause is not None
    assert cause.task == task_id
    actor.replies()
    await stage.until(task_id, State.SUCCEEDED)
    batch = await stage.ledger.read_events(lambda conn: events.after(conn, task_id, 0, 9))
    (event,) = batch.events
    assert (event.type, event.data) == ("log", {"stream": "stdout", "text": "half way"})
    assert (event.attempt, event.number) == (1, 1)


# --- no more at once than may ------------------------------------------------------------------


@pytest.mark.parametrize("given", [Given(slots=2)])
async def test_a_task_that_had_to_wait_for_another_of_its_function_starts_at_its_end(
    stage: Stage,
) -> None:
    stage.functions.spec = SPEC.model_copy(update={"concurrency": 1})
    gate = {"concurrency": 1, "concurrency_key": ""}
    first, actor = await begun(stage, **gate)
    second = stage.submit(**gate)
    await until(lambda: stage.claimer.is_at_rest)
    looks = stage.ledger.looks
    assert stage.task(second).state is State.QUEUED
    stage.act = Played.replies
    actor.replies()
    await stage.until(second, State.SUCCEEDED)
    assert stage.task(first).state is State.SUCCEEDED
    assert stage.ledger.looks > looks


async def test_what_lies_in_the_spool_for_a_result_is_stored(stage: Stage) -> None:
    stage.act = lambda actor: actor.ends(spooled_reply(stage.spool))
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
    result = stage.ledger.read_now(lambda conn: tasks.result(conn, task_id))
    assert result is not None
    assert result.value is not None
    assert result.value.inline is not None
    (ref,) = unpack(result.value.inline).refs
    assert stage.blobs.get(ref) == b"large"
    assert left_in(stage.spool) == 0


async def test_nothing_is_left_in_the_spool_of_a_result_that_cannot_be_stored(
    stage: Stage,
) -> None:
    (stage.folder / "blobs").write_text("in the way")
    stage.act = lambda actor: actor.ends(spooled_reply(stage.spool))
    await stage.until(stage.submit(), State.FAILED)
    await until(lambda: left_in(stage.spool) == 0)


async def test_nothing_is_left_in_the_spool_of_a_reply_that_nobody_waits_for(stage: Stage) -> None:
    task_id, actor = await begun(stage)
    stage.running[task_id].reply.set_result(problem(Outcome.DIED, "it is over"))
    actor.ends(spooled_reply(stage.spool))
    assert left_in(stage.spool) == 0
    await stage.until(task_id, State.CRASHED)
