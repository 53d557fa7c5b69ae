"""Checkpoints of a host's running attempts, written down for the next attempts of their tasks."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from skipper.errors import FullError, UnavailableError
from skipper.failpoints import failpoint
from skipper.instance.wishes import (
    FindCheckpoints,
    KeepCheckpoint,
    KeptCheckpoint,
    KeptCheckpoints,
    PublishModel,
    RoomForCheckpoint,
    TaskWish,
)
from skipper.ledger import checkpoints
from skipper.ledger.records import Checkpoint, CheckpointBounds, NewCheckpoint, NotKept
from skipper.pool.durable.attempt import LaneContext, RunningAttempt, RunningAttempts
from skipper.settings.model import CheckpointSettings
from skipper.wire.events import EmittedEvent


class Checkpoints:
    """Answers what the instances of a host ask about the tasks that they run."""

    def __init__(
        self, context: LaneContext, running: RunningAttempts, settings: CheckpointSettings
    ) -> None:
        self._context, self._running, self._quota_gb = context, running, settings.quota_gb
        self._bounds = CheckpointBounds(each=settings.keep, stored=int(settings.quota_gb * 1e9))

    async def answer(self, instance: object, wish: TaskWish) -> bytes:
        """The answer's JSON. Raises FullError, and UnavailableError where the task is another's.

        For a model that cannot be served FormatError.
        """
        attempt = self._running.get(wish.task_id)
        if attempt is None or attempt.instance is not instance:
            raise _taken(wish.task_id)
        match wish:
            case RoomForCheckpoint():
                return await self._check_room(wish)
            case KeepCheckpoint():
                return await self._keep(attempt, wish)
            case FindCheckpoints():
                return await self._find(attempt)
            case PublishModel():
                assert attempt.publications is not None, "it has been called"
                return await attempt.publications.publish(attempt, wish)

    async def _check_room(self, wish: RoomForCheckpoint) -> bytes:
        has_room = partial(
            checkpoints.has_room, task_id=wish.task_id, size=wish.size, bounds=self._bounds
        )
        if not await self._context.ledger.read(has_room):
            raise self._full()
        return b""

    async def _keep(self, attempt: RunningAttempt, wish: KeepCheckpoint) -> bytes:
        claim, now = attempt.claim, time.time()
        new = NewCheckpoint(
            task_id=claim.task.id,
            attempt=claim.attempt,
            host=self._context.host_id,
            digest=wish.digest,
            format=wish.format,
            size=wish.size,
            refs=wish.refs,
            at=now,
            progress=wish.progress,
        )
        keep = partial(checkpoints.keep, new=new, bounds=self._bounds)
        number = await self._context.ledger.write(keep)
        if number is NotKept.TAKEN:
            raise _taken(claim.task.id)
        if number is NotKept.FULL:
            raise self._full()
        failpoint("checkpoints.recorded")
        facts: dict[str, Any] = {"number": number, "size": wish.size}
        event = EmittedEvent("checkpoint", facts, now)
        self._context.journal.add(claim.task.id, claim.attempt, event)
        return b"%d" % number

    async def _find(self, attempt: RunningAttempt) -> bytes:
        claim = attempt.claim
        found = await self._context.ledger.read(
            lambda conn: checkpoints.kept(conn, claim.task.id, claim.attempt)
        )
        return KeptCheckpoints(items=tuple(map(_shown, found))).model_dump_json().encode()

    def _full(self) -> FullError:
        return FullError(
            f"Checkpoints take {self._quota_gb:g} GB already (checkpoints.quota_gb), or would; "
            "they go when their tasks succeed, or checkpoints.expire_days after those have failed."
        )


def _taken(task_id: str) -> UnavailableError:
    return UnavailableError(f"the task {task_id} is not this attempt's any more")


def _shown(kept: Checkpoint) -> KeptCheckpoint:
    return KeptCheckpoint(
        number=kept.number,
        attempt=kept.attempt,
        digest=kept.digest,
        format=kept.format,
        at=kept.at,
        progress=kept.progress,
    )
