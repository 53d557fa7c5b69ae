"""Which tasks a host claims, in which order, and what it gives back."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

from skipper.outcomes import Outcome
from skipper.pool.durable.claimer import SHORT_LIST
from skipper.task import State
from skipper.wire import calls
from tests.unit.pool.durable.stage import (
    LIMIT_S,
    Actor,
    Given,
    Stage,
    begun,
    until,
)
from tests.unit.pool.played import Played

AHEAD = Given(ahead_s=LIMIT_S, patience_s=LIMIT_S)  # however slow this machine is


async def test_a_task_that_the_host_lost_track_of_is_given_back(stage: Stage) -> None:
    def garble(actor: Actor) -> None:
        stage.act = Played.replies
        actor.ends(calls.reply(Outcome.FAILED, b"c0de", b"no problem document"))

    stage.act = garble  # recording such an end fails in the host itself
    task_id = stage.submit()
    await until(lambda: stage.act is not garble and not stage.running)
    await stage.claimer.give_back_strays()
    assert stage.task(task_id).state is State.RUNNING  # a claim may be on its way still
    await stage.claimer.give_back_strays()
    assert stage.task(task_id).state is State.QUEUED
    stage.claimer.take([task_id], lambda: None)
    assert (await stage.until(task_id, State.SUCCEEDED)).attempt == 2


async def test_what_runs_here_is_not_given_back(stage: Stage) -> None:
    stage.act = lambda _: None
    task_id = stage.submit()
    await stage.until(task_id, State.RUNNING)
    for _ in range(3):
        await stage.claimer.give_back_strays()
    assert stage.task(task_id).state is State.RUNNING


async def begun_ahead(stage: Stage) -> tuple[str, Actor, list[str]]:
    """A task that runs in the one slot, and others that have been claimed ahead of it."""
    await stage.until(stage.submit(), State.SUCCEEDED)
    actors: list[Actor] = []
    stage.act = actors.append
    ids = [stage.submit() for _ in range(4)]
    await until(lambda: len(stage.running) == len(ids) and actors)
    running, *claimed = ids
    assert [id_ for id_ in ids if stage.running[id_].instance is not None] == [running]
    return running, actors[0], claimed


async def test_a_task_that_is_cancelled_while_it_is_claimed_never_runs(stage: Stage) -> None:
    ran: list[Actor] = []
    stage.act = ran.append
    task_id = stage.accept()

    def cancel() -> None:
        assert stage.lane.cancel(task_id)

    stage.ledger.on_claimed = cancel
    stage.claimer.take([task_id], lambda: None)
    await stage.until(task_id, State.CANCELLED)
    assert ran == []


def order_of(stage: Stage, *ids: str) -> list[str]:
    """The order in which these tasks were claimed."""
    return sorted(ids, key=lambda id_: stage.task(id_).started_at or 0)


@pytest.mark.parametrize("given", [Given(fresh_s=0.0)])
async def test_the_most_urgent_of_many_starts_next_though_the_broker_has_not_told_of_it(
    stage: Stage,
) -> None:
    _, actor = await begun(stage)
    others = [stage.submit(function="a.many") for _ in range(50)]
    urgent = stage.accept(function="b.one", priority=5)
    stage.act = Played.replies
    actor.replies()
    await until(lambda: all(stage.task(id_).state.is_terminal for id_ in (*others, urgent)))
    assert order_of(stage, *others, urgent)[0] == urgent


@pytest.mark.parametrize("given", [Given(fresh_s=0.0)])
async def test_two_functions_take_turns_however_many_tasks_one_has(stage: Stage) -> None:
    _, actor = await begun(stage)
    many = [stage.submit(function="a.many") for _ in range(30)]
    few = [stage.accept(function="b.few") for _ in range(5)]
    ran: list[str] = []

    def act(actor: Actor) -> None:
        ran.append(next(iter(actor.calls.values())).claim.task.function)
        actor.replies()

    stage.act = act
    actor.replies()
    await until(lambda: all(stage.task(id_).state.is_terminal for id_ in (*many, *few)))
    assert ran[:10] == ["a.many", "b.few"] * 5


async def test_where_everything_may_start_the_ledger_is_not_asked_what_waits(stage: Stage) -> None:
    for _ in range(5):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.running)
    await stage.until_at_rest()
    before, at_claim = stage.ledger.looks, list[int]()
    stage.ledger.on_claimed = lambda: at_claim.append(stage.ledger.looks)
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert at_claim == [before]


async def test_a_host_at_rest_starts_what_it_is_nudged_with_and_looks_at_nothing(
    stage: Stage,
) -> None:
    await stage.until(stage.submit(), State.SUCCEEDED)
    await stage.until_at_rest()
    looks, nudged = stage.ledger.looks, stage.accept()
    at_claim = list[int]()
    stage.ledger.on_claimed = lambda: at_claim.append(stage.ledger.looks)
    stage.claimer.nudge(nudged)
    await stage.until(nudged, State.SUCCEEDED)
    assert at_claim == [looks]


async def test_what_has_ended_here_is_not_claimed_when_the_broker_names_it(stage: Stage) -> None:
    task_id = stage.submit()
    await stage.until(task_id, State.SUCCEEDED)
    await stage.until_at_rest()
    taken, claims = list[int](), list[int]()
    stage.ledger.on_claimed = lambda: claims.append(1)
    stage.claimer.take([task_id], partial(taken.append, 1))
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert (taken, claims) == ([1], [1])


async def test_what_has_expired_is_not_started(stage: Stage) -> None:
    task_id = stage.submit(expires_at=time.time() - 1.0)
    await stage.until(stage.submit(), State.SUCCEEDED)
    stage.claimer.nudge(task_id)
    await until(lambda: not stage.claimer.waiting and not stage.running)
    assert (stage.task(task_id).state, stage.task(task_id).attempt) == (State.QUEUED, 0)


async def test_messages_beyond_the_short_list_stay_with_the_broker(stage: Stage) -> None:
    """Only what is on the list has been taken, and so acknowledged."""
    _, actor = await begun(stage)
    taken: list[int] = []
    for n in range(SHORT_LIST + 3):
        stage.claimer.take([f"unknown-{n}"], partial(taken.append, n))
    assert taken == [*range(SHORT_LIST)]
    actor.replies()
    await until(lambda: len(taken) == SHORT_LIST + 3)


async def test_an_id_that_is_doubled_or_unknown_harms_nobody(stage: Stage) -> None:
    runs: list[Actor] = []

    def act(actor: Actor) -> None:
        runs.append(actor)
        actor.replies()

    stage.act = act
    stage.claimer.take(["no such task", ""], lambda: None)
    task_id = stage.submit()
    stage.claimer.take([task_id, task_id], lambda: None)
    await stage.until(task_id, State.SUCCEEDED)
    stage.claimer.take([task_id], lambda: None)
    await until(lambda: not stage.claimer.waiting and not stage.running)
    assert len(runs) == 1


async def test_a_draining_lane_takes_and_claims_nothing_more(stage: Stage) -> None:
    await stage.lane.close(0.0)
    taken: list[int] = []
    task_id = stage.submit()
    stage.claimer.take([task_id], partial(taken.append, 1))
    stage.claimer.nudge(task_id)
    await asyncio.sleep(0)
    assert (taken, stage.running) == ([], {})
    assert stage.task(task_id).state is State.QUEUED


@pytest.mark.parametrize("given", [AHEAD])
async def test_what_was_claimed_ahead_runs_when_the_slot_comes_free(stage: Stage) -> None:
    running, actor, claimed = await begun_ahead(stage)
    stage.act = Played.replies
    actor.replies()
    for id_ in (running, *claimed):
        await stage.until(id_, State.SUCCEEDED)


@pytest.mark.parametrize("given", [Given(ahead_s=LIMIT_S)])
async def test_what_was_claimed_ahead_in_vain_is_given_back(stage: Stage) -> None:
    running, _, claimed = await begun_ahead(stage)
    for id_ in claimed:
        await stage.until(id_, State.QUEUED)
    assert [*stage.running] == [running]


@pytest.mark.parametrize("given", [AHEAD])
async def test_a_task_that_was_claimed_ahead_is_cancelled_at_once(stage: Stage) -> None:
    running, _, claimed = await begun_ahead(stage)
    assert stage.lane.cancel(claimed[0])
    await stage.until(claimed[0], State.CANCELLED)
    assert stage.running[running].verdict is None


@pytest.mark.parametrize("given", [AHEAD])
async def test_a_host_that_shuts_down_gives_back_what_it_has_claimed_ahead(stage: Stage) -> None:
    running, actor, claimed = await begun_ahead(stage)
    closing = asyncio.ensure_future(stage.lane.close(10.0))
    for id_ in claimed:
        await stage.until(id_, State.QUEUED)
    actor.replies()
    await closing
    await stage.until(running, State.SUCCEEDED)
