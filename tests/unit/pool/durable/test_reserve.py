"""The processes that tasks run in: used again, and stopped."""

from __future__ import annotations

import time
from itertools import repeat

from skipper.pool.durable.reserve import IDLE_S
from skipper.pool.processes.version import FunctionVersion
from skipper.task import State
from tests.unit.pool.durable.stage import (
    SPEC,
    Actor,
    Stage,
    begun,
    until,
)
from tests.unit.pool.played import source_of


async def test_a_process_that_has_used_most_of_its_memory_runs_no_other_task(stage: Stage) -> None:
    actors: list[Actor] = []
    version = FunctionVersion(SPEC, source_of())

    stage.functions.found, stage.on_start = repeat(version), actors.append
    for is_worn in (False, True, False):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.running)
        actors[-1].is_worn = is_worn
    assert len(actors) == 2


async def test_an_instance_is_used_again_until_its_version_is_retired(stage: Stage) -> None:
    actors: list[Actor] = []
    version = FunctionVersion(SPEC, source_of())

    stage.functions.found = repeat(version)

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.replies()

    stage.act = act
    for _ in range(2):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.running)
    stage.lane.retire(version)
    assert actors[0] is actors[1]
    assert not actors[0].is_alive
    await stage.until(stage.submit(), State.SUCCEEDED)
    assert actors[2] is not actors[0]


async def test_each_version_of_a_function_keeps_an_instance_of_its_own(stage: Stage) -> None:
    actors: list[Actor] = []
    old, new = FunctionVersion(SPEC, source_of()), FunctionVersion(SPEC, source_of())
    stage.functions.found = iter((old, new, old, new))

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.replies()

    stage.act = act
    for _ in range(4):
        await stage.until(stage.submit(), State.SUCCEEDED)
        await until(lambda: not stage.running)
    first, second, third, fourth = actors
    assert (first, second) == (third, fourth)
    assert first is not second
    stage.lane.retire(old)
    assert not first.is_alive
    assert second.is_alive


async def test_a_busy_instance_of_a_retired_version_is_stopped_when_it_is_done(
    stage: Stage,
) -> None:
    version = FunctionVersion(SPEC, source_of())

    stage.functions.found = repeat(version)
    task_id, actor = await begun(stage)
    stage.lane.retire(version)
    assert actor.is_alive
    actor.replies()
    await stage.until(task_id, State.SUCCEEDED)
    await until(lambda: not actor.is_alive)


async def test_an_instance_that_nobody_needs_is_stopped(stage: Stage) -> None:
    actors: list[Actor] = []

    def act(actor: Actor) -> None:
        actors.append(actor)
        actor.replies()

    stage.act = act
    await stage.until(stage.submit(), State.SUCCEEDED)
    await until(lambda: not stage.running)
    stage.lane.sweep(time.monotonic() + IDLE_S - 1)
    assert actors[0].is_alive
    stage.lane.sweep(time.monotonic() + IDLE_S + 1)
    assert not actors[0].is_alive
