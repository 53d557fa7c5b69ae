"""What a host answers to what it is asked over its links."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import assert_never

from skipper.pool.parts import Parts
from skipper.wire.messages import (
    Answer,
    AnyQuestion,
    CancelAnswer,
    CancelTask,
    DeviceInfo,
    GetMetrics,
    GetPoolState,
    MetricsSnapshot,
    ModelsRenewed,
    PoolState,
    RenewModels,
    TriedAgain,
    TryAgain,
)


class Answers:
    """Looks at the parts of a host, and has them do what is asked for.

    ``again`` reads the file of a function again.
    """

    def __init__(self, parts: Parts, again: Callable[[str], Awaitable[None]]) -> None:
        self._parts, self._again = parts, again

    async def to(self, question: AnyQuestion) -> Answer:
        """The answer to a question. Raises SkipperError where there is none."""
        match question:
            case GetPoolState():
                return self._pool_state()
            case GetMetrics():
                return self._metrics()
            case RenewModels(limit_s=limit_s):
                await self._parts.serving.renew(limit_s)
                return ModelsRenewed()
            case CancelTask(task_id=task_id):
                return CancelAnswer(known=self._parts.tasks.cancel(task_id))
            case TryAgain(function=function):
                await self._again(function)
                return TriedAgain()
            case _:
                assert_never(question)

    def _metrics(self) -> MetricsSnapshot:
        instances = self._parts.instances.describe()
        return self._parts.metrics.snapshot(
            queued=self._parts.direct.queued,
            instances=((each.function, each.state) for each in instances),
            unfit=self._parts.serving.unfit_versions(),
        )

    def _pool_state(self) -> PoolState:
        parts = self._parts
        ahead, slots = parts.claimer.ahead, parts.direct.slots
        return PoolState(
            pool=parts.pool,
            host_id=parts.host_id,
            pid=os.getpid(),
            devices=tuple(
                DeviceInfo(name=each.name, memory_mb=each.memory_mb)
                for each in parts.instances.devices
            ),
            slots=slots.capacity,
            task_slots=ahead.slots.capacity,
            task_slots_free=max(0, ahead.free),
            tasks_listed=parts.claimer.waiting,
            busy=slots.busy,
            queued=parts.direct.queued,
            tasks_running=len(parts.claimer.running),
            instances=parts.instances.describe(),
            templates=parts.starter.describe(),
            unfit=tuple(parts.serving.unfit_versions()),
            consumer=parts.peers.has_consumer,
            consumer_problem=parts.peers.consumer_problem,
        )
