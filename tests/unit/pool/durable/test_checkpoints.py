"""What a host makes of the checkpoints that its instances hand over."""

from __future__ import annotations

from typing import Any

import pytest

from skipper.errors import FullError, UnavailableError
from skipper.instance.wishes import (
    FindCheckpoints,
    KeepCheckpoint,
    KeptCheckpoints,
    RoomForCheckpoint,
)
from skipper.ledger import checkpoints
from skipper.pool.durable.checkpoints import Checkpoints
from skipper.settings.model import CheckpointSettings
from tests.unit.pool.durable.stage import Actor, Stage, until


class Running:
    """A task that runs, and the checkpoints of its host."""

    def __init__(self, stage: Stage, **settings: Any) -> None:
        actors: list[Actor] = []
        stage.act = actors.append
        self.stage, self.actors, self.task_id = stage, actors, stage.submit()
        self.checkpoints = Checkpoints(stage.context, stage.running, CheckpointSettings(**settings))

    async def begun(self) -> Running:
        await until(lambda: self.actors)
        return self

    @property
    def instance(self) -> object:
        return self.stage.running[self.task_id].instance

    async def keep(self, size: int = 10, **values: Any) -> bytes:
        given = {"digest": "d1", "format": "f", "refs": ("d1",), **values}
        wish = KeepCheckpoint(task_id=self.task_id, size=size, **given)
        return await self.checkpoints.answer(self.instance, wish)


async def test_a_checkpoint_is_numbered_recorded_and_told(stage: Stage) -> None:
    running = await Running(stage).begun()
    assert await running.keep() == b"1"
    assert await running.keep(digest="d2", progress={"done": 1}) == b"2"
    newest = stage.ledger.read_now(lambda conn: checkpoints.newest(conn, running.task_id))
    assert newest is not None
    assert (newest.number, newest.digest, newest.progress) == (2, "d2", {"done": 1})
    transcript = stage.context.journal.transcript(running.task_id, 1, is_log=False)
    assert [entry.row.type for entry in transcript.rest()] == ["checkpoint", "checkpoint"]
    running.actors[0].replies()


async def test_the_attempt_that_made_it_does_not_go_on_from_it(stage: Stage) -> None:
    running = await Running(stage).begun()
    await running.keep()
    found = await running.checkpoints.answer(
        running.instance, FindCheckpoints(task_id=running.task_id)
    )
    assert KeptCheckpoints.model_validate_json(found).items == ()
    running.actors[0].replies()


async def test_only_the_instance_that_runs_a_task_speaks_for_it(stage: Stage) -> None:
    running = await Running(stage).begun()
    wish = FindCheckpoints(task_id=running.task_id)
    with pytest.raises(UnavailableError, match="not this attempt's"):
        await running.checkpoints.answer(object(), wish)
    with pytest.raises(UnavailableError, match="not this attempt's"):
        await running.checkpoints.answer(running.instance, FindCheckpoints(task_id="another"))
    running.actors[0].replies()


async def test_more_bytes_than_are_to_be_kept_are_refused_before_and_after(stage: Stage) -> None:
    running = await Running(stage, quota_gb=1e-6).begun()
    room = RoomForCheckpoint(task_id=running.task_id, size=1001)
    with pytest.raises(FullError, match=r"checkpoints\.quota_gb"):
        await running.checkpoints.answer(running.instance, room)
    with pytest.raises(FullError, match=r"checkpoints\.quota_gb"):
        await running.keep(size=1001)
    fits = RoomForCheckpoint(task_id=running.task_id, size=1000)
    assert await running.checkpoints.answer(running.instance, fits) == b""
    running.actors[0].replies()


async def test_while_the_ledger_is_away_the_function_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise UnavailableError("The database cannot be reached")

    running = await Running(stage).begun()
    with monkeypatch.context() as patched:
        patched.setattr(stage.ledger, "write", away)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            await running.keep()
    assert await running.keep() == b"1"
    running.actors[0].replies()
