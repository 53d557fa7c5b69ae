"""What instances ask of their own host: calls of other functions, and checkpoints of their tasks.

A function that waits for another gives its slot back meanwhile, so that nested calls cannot stop
each other for want of slots.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from functools import partial

from skipper.errors import FullError, NotFoundError, SkipperError, UnavailableError
from skipper.ledger import tasks
from skipper.outcomes import Outcome
from skipper.pool.durable.attempt import LaneContext, RunningAttempts
from skipper.pool.processes.instance import C, Instance
from skipper.pool.processes.process import InstanceProcess, InstanceState
from skipper.pool.wishes import Wishes
from skipper.spec import FunctionSpec, Kind, Mode
from skipper.tasks.intake import Intake, Submission
from skipper.tasks.results import reply_of
from skipper.wire import calls
from skipper.wire.calls import CallHead
from skipper.wire.directory import Directory
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.link import Link

log = logging.getLogger(__name__)

MAX_DEPTH = 8
"""Calls within calls within calls…"""
PATIENCE_S = 30.0
OUTLIVES_S = 0.2
"""How far a call's deadline is put past its caller's, if that is the earlier.

It ends with its caller. If its own deadline were seen first, the caller would fail, not time out.
"""
LOOK_S = 1.0
"""A task that is waited for is looked at this often even if nobody says that it has changed."""


class Nested:
    """Answers the calls of this pool's instances."""

    def __init__(
        self,
        context: LaneContext,
        directory: Directory,
        intake: Intake,
        running: RunningAttempts,
        *,
        wishes: Wishes,
    ) -> None:
        self._ledger, self._values, self._files = context.ledger, context.values, context.files
        self._watchers, self._directory = context.watchers, directory
        self._intake, self._running, self._wishes = intake, running, wishes
        self._jobs: dict[tuple[InstanceProcess, int], asyncio.Future[None]] = {}

    def on_frame(self, instance: Instance[C], frame: Frame) -> None:
        """A call that ``instance`` makes, or wants no more. It ends with the instance."""
        if frame.kind == FrameKind.CANCEL:
            if (job := self._jobs.get((instance, frame.id))) is not None:
                job.cancel()
            return
        job = self._jobs[instance, frame.id] = asyncio.ensure_future(self._answer(instance, frame))

        def give_up(_: object) -> None:
            job.cancel()

        def ended(_: object) -> None:
            del self._jobs[instance, frame.id]
            instance.gone.remove_done_callback(give_up)

        instance.gone.add_done_callback(give_up)
        job.add_done_callback(ended)

    async def _answer(self, instance: Instance[C], frame: Frame) -> None:
        try:
            payload = await self._payload(instance, frame)
        except asyncio.CancelledError:
            payload = calls.problem(Outcome.CANCELLED, "nobody waits for it any more")
        except NotFoundError as error:
            payload = calls.problem(Outcome.NOT_FOUND, str(error))
        except FullError as error:
            payload = calls.problem(Outcome.BUSY, str(error))
        except UnavailableError as error:
            payload = calls.problem(Outcome.UNAVAILABLE, str(error))
        except SkipperError as error:
            payload = calls.problem(Outcome.FAILED, str(error))
        except Exception as error:
            log.exception("a call that %s made could not be answered", instance.name)
            detail = f"its host could not have it run: {type(error).__name__}: {error}"
            payload = calls.problem(Outcome.UNAVAILABLE, detail)
        if instance.state is InstanceState.GONE:
            self._discard(payload)
        instance.send(FrameKind.REPLY, frame.id, payload)

    async def _payload(self, instance: Instance[C], frame: Frame) -> bytes:
        if frame.kind == FrameKind.WISH:
            answer = await self._wishes.answer(instance, frame.payload)
            return calls.reply(Outcome.OK, b"", answer)
        instance.begin_wait()
        try:
            return await self._reply(frame.payload)
        finally:
            instance.end_wait()

    def _discard(self, payload: bytes) -> None:
        """Forget what a reply that nobody waits for has in the spool."""
        self._values.spool.remove(calls.spooled_in_reply(payload))

    async def _reply(self, payload: bytes) -> bytes:
        head, at = calls.parse_call(payload)
        if head.depth > MAX_DEPTH:
            return calls.problem(
                Outcome.TOO_DEEP, f"functions call each other more than {MAX_DEPTH} deep"
            )
        ends = time.monotonic() + head.budget_ms / 1000 if head.budget_ms else math.inf
        if head.flags & calls.WAIT:
            return await self._wait(head.name, ends)
        patience_s = min(PATIENCE_S, ends - time.monotonic())
        find = partial(self._directory.find, head.name, patience_s)
        if (found := self._directory.remembered(head.name) or await find()) is None:
            return self._unknown(head.name)
        body = await self._files.resolve(payload[at:])
        if head.flags & calls.SPAWN or found[0].mode is Mode.TASK:
            return await self._as_task(found[0], head, body, ends)
        if (found := await find()) is None:
            return self._unknown(head.name)
        spec, link = found
        return await self._directly(spec, link, head, body, ends)

    def _unknown(self, name: str) -> bytes:
        if (broken := self._directory.broken_for(name)) is not None:
            return calls.problem(Outcome.BROKEN, f"{name} cannot be loaded: {broken.tried}")
        return calls.problem(Outcome.NOT_FOUND, f"there is no function {name!r}")

    async def _directly(
        self, spec: FunctionSpec, link: Link, head: CallHead, body: bytes, ends: float
    ) -> bytes:
        """Run it by its own deadline, or a moment past its caller's if that is the earlier."""
        left = max(0.001, ends - time.monotonic()) + OUTLIVES_S
        seconds = min(spec.direct_s, left)
        request_id, _, parent = head.context.partition("/")
        context = calls.child_context(parent, request_id) if parent else request_id
        flags = calls.CHILD if parent else 0
        inner = CallHead(int(seconds * 1000), flags, head.depth, spec.name, context, head.key)
        waiting = link.call(
            calls.call_head(inner) + body, asyncio.get_running_loop().time() + seconds
        )
        try:
            return await waiting.reply
        except asyncio.CancelledError:
            self._discard(waiting.payload or b"")  # it may have come just now
            raise
        finally:
            link.cancel(waiting)  # where it has been answered this does nothing

    async def _as_task(self, spec: FunctionSpec, head: CallHead, body: bytes, ends: float) -> bytes:
        request_id, _, parent = head.context.partition("/")
        urgency = self._running.priority_of(parent)
        submission = Submission(
            spec=spec,
            body=body,
            request_id=request_id or None,
            parent_id=parent or None,
            is_detached=bool(head.flags & calls.DETACH),
            depth=head.depth,
            # Who waits for a task must not see others that are less urgent go before it.
            priority=None if urgency is None else max(urgency, spec.priority),
        )
        task = (await self._intake.accept(submission)).task
        if head.flags & calls.SPAWN:
            return calls.reply(Outcome.OK, b"", json.dumps({"id": task.id}).encode())
        return await self._wait(task.id, ends)

    async def _wait(self, task_id: str, ends: float) -> bytes:
        with self._watchers.watching(task_id) as changed:
            while True:
                changed.clear()
                row = await self._ledger.read(lambda conn: tasks.result(conn, task_id))
                if row is None:
                    return calls.problem(Outcome.NOT_FOUND, f"there is no task {task_id!r}")
                if row.task.state.is_terminal:
                    if row.task.kind == Kind.TRAINING:  # it may have run elsewhere
                        await self._directory.renew_models()
                    reply = await reply_of(row, self._values)
                    return calls.reply(reply.outcome, reply.served, reply.body)
                left = ends - time.monotonic()
                if left <= 0:
                    return calls.problem(Outcome.TIMED_OUT, f"task {task_id} has not ended in time")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(LOOK_S, left))
