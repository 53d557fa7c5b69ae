"""Calls that functions make to other functions: found, run and answered by the instance's own host.

A function that waits for another gives its slot back meanwhile, so that nested calls cannot stop
each other for want of slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from functools import partial
from typing import Any

from skipper import wire
from skipper.blobs import BlobStore
from skipper.directory import Directory
from skipper.errors import SkipperError, UnavailableError
from skipper.intake import Intake, Submission, reply_of
from skipper.ledger import Ledger, tasks
from skipper.pool.direct import DirectLane
from skipper.pool.instance import Instance, Lane
from skipper.pool.tasks import TaskLane
from skipper.spec import DIRECT_TIMEOUT_S, FunctionSpec, Mode
from skipper.spec import Kind as FunctionKind
from skipper.task import Outcome
from skipper.watchers import Watchers
from skipper.wire import CallHead, Frame, Kind

MAX_DEPTH = 8
"""Calls within calls within calls…"""
PATIENCE_S = 30.0
LOOK_S = 1.0
"""A task that is waited for is looked at this often even if nobody says that it has changed."""


class Nested:
    """Answers the calls of this pool's instances."""

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        directory: Directory,
        intake: Intake,
        *,
        direct: DirectLane,
        tasks_: TaskLane,
    ) -> None:
        self._ledger, self._blobs, self._directory, self._intake = ledger, blobs, directory, intake
        self._tasks = tasks_
        self._lanes: dict[Lane, DirectLane | TaskLane] = {Lane.DIRECT: direct, Lane.TASKS: tasks_}
        self._jobs: set[asyncio.Task[None]] = set()
        self._watchers = Watchers()

    def on_call(self, instance: Instance, frame: Frame) -> None:
        """A frame with a call that ``instance`` makes."""
        job = asyncio.ensure_future(self._answer(instance, frame))
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    def tasks_changed(self, ids: list[str]) -> None:
        """Wake the functions that wait for these tasks."""
        self._watchers.changed(ids)

    async def _answer(self, instance: Instance, frame: Frame) -> None:
        lane = self._lanes.get(instance.lane)
        if lane is not None:
            lane.lend_slot(instance)
        try:
            payload = await self._reply(frame.payload)
        except UnavailableError as error:
            payload = wire.problem(Outcome.UNAVAILABLE, str(error))
        except SkipperError as error:
            payload = wire.problem(Outcome.FAILED, str(error))
        finally:
            if lane is not None:
                lane.return_slot(instance)
        instance.send(Kind.REPLY, frame.id, payload)

    async def _reply(self, payload: bytes) -> bytes:
        head, at = wire.parse_call(payload)
        if head.depth > MAX_DEPTH:
            return wire.problem(
                Outcome.TOO_DEEP, f"functions call each other more than {MAX_DEPTH} deep"
            )
        if head.flags & wire.WAIT:
            return await self._wait(head.name, head.budget_ms)
        find = partial(self._directory.find, head.name, PATIENCE_S)
        if (found := self._directory.remembered(head.name) or await find()) is None:
            return self._unknown(head.name)
        if head.flags & wire.SPAWN or found[0].mode is Mode.TASK:
            return await self._as_task(found[0], head, payload[at:])
        if (found := await find()) is None:
            return self._unknown(head.name)
        spec, link = found
        return await self._directly(spec, link, head, payload[at:])

    def _unknown(self, name: str) -> bytes:
        if (broken := self._directory.broken_for(name)) is not None:
            return wire.problem(Outcome.BROKEN, f"{name} cannot be loaded: {broken.error}")
        return wire.problem(Outcome.NOT_FOUND, f"there is no function {name!r}")

    async def _directly(self, spec: FunctionSpec, link: Any, head: CallHead, body: bytes) -> bytes:
        seconds = spec.timeout_s or DIRECT_TIMEOUT_S
        request_id = head.context.partition("/")[0]
        inner = CallHead(int(seconds * 1000), 0, head.depth, spec.name, request_id)
        waiting = link.call(
            wire.call_head(inner) + body, asyncio.get_running_loop().time() + seconds
        )
        return bytes(await waiting.reply)

    async def _as_task(self, spec: FunctionSpec, head: CallHead, body: bytes) -> bytes:
        request_id, _, parent = head.context.partition("/")
        urgency = self._tasks.priority_of(parent)
        submission = Submission(
            spec=spec,
            body=body,
            request_id=request_id or None,
            parent_id=parent or None,
            depth=head.depth,
            # Who waits for a task must not see others that are less urgent go before it.
            priority=None if urgency is None else max(urgency, spec.priority),
        )
        accepted, _ = await self._intake.accept(submission)
        if head.flags & wire.SPAWN:
            return wire.reply(Outcome.OK, b"", json.dumps({"id": accepted.id}).encode())
        return await self._wait(accepted.id, 0)

    async def _wait(self, task_id: str, budget_ms: int) -> bytes:
        ends = time.monotonic() + budget_ms / 1000 if budget_ms else float("inf")
        with self._watchers.watching(task_id) as changed:
            while True:
                changed.clear()
                row = await self._ledger.read(lambda conn: tasks.result(conn, task_id))
                if row is None:
                    return wire.problem(Outcome.NOT_FOUND, f"there is no task {task_id!r}")
                if row.task.state.is_terminal:
                    if row.task.kind == FunctionKind.TRAINING:  # it may have run elsewhere
                        await self._directory.renew_models()
                    return await reply_of(row, self._blobs)
                left = ends - time.monotonic()
                if left <= 0:
                    return wire.problem(Outcome.TIMED_OUT, f"task {task_id} has not ended in time")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(LOOK_S, left))
