"""The durable lane: runs the tasks that its claimer has claimed, each as one attempt."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from skipper.failpoints import failpoint
from skipper.outcomes import Outcome
from skipper.pool.background import Background
from skipper.pool.durable.attempt import LaneContext, RunningAttempt
from skipper.pool.durable.claimer import Claimer
from skipper.pool.durable.recorder import Recorder
from skipper.pool.durable.reserve import NotRunError, Reserve
from skipper.pool.processes.instance import Instance
from skipper.pool.processes.output import Printed
from skipper.pool.processes.process import InstanceState, Lane
from skipper.pool.processes.version import FunctionVersion
from skipper.wire import calls
from skipper.wire.events import (
    EmittedEvent,
    InstanceEvent,
    LeftOut,
    RescuedModel,
    SavedModel,
    parse_event,
)
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.lines import Cause
from skipper.wire.tallies import parse_tallies

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long an attempt may take about what, in seconds."""

    noted_s: float = 0.5
    """What has run this long is recorded in the ledger: instance, code, models, deadline."""
    cancel_s: float = 2.0
    """How long a cancelled function may look at ``run.cancelled`` before it is interrupted."""
    gone_s: float = 10.0
    """The end of an attempt is written this long after its process was killed at the latest."""


class TaskLane:
    """Tasks of one pool, one in each slot that those which are claimed ``ahead`` wait for."""

    lane = Lane.TASKS

    def __init__(
        self,
        context: LaneContext,
        claimer: Claimer,
        reserve: Reserve,
        recorder: Recorder,
        patience: Patience = Patience(),
    ) -> None:
        self._journal, self._claimer, self._running = context.journal, claimer, claimer.running
        self._ahead, self._reserve, self._recorder = claimer.ahead, reserve, recorder
        self._shares, self._patience = reserve.shares, patience
        self._spool, self._metrics = context.values.spool, context.metrics
        self._background = Background()
        self._is_closed = False

    async def run(self) -> None:
        """Start what is claimed, for ever."""
        async for _ in self._claimer.claims():
            self._start_waiting()

    def _start_waiting(self) -> None:
        """Give free slots to the attempts that wait for one."""
        while not self._claimer.is_draining and (attempt := self._ahead.next()) is not None:
            self._background.spawn(self._run(attempt))
        self._claimer.wake()

    # --- one attempt ---

    async def _run(self, attempt: RunningAttempt) -> None:
        """Run an attempt in its slot, which others may have before its end is on the disk."""
        began = time.monotonic()
        try:
            reply = await self._recorder.publications.tried(attempt, await self._reply(attempt))
        except Exception:
            log.exception("an attempt failed in its host", extra={"task": attempt.claim.task.id})
            reply = calls.problem(Outcome.DIED, "its host failed; the log tells more")
            if attempt.instance is not None:
                await self._end_process(attempt.instance)
        self._leave_slot(attempt, began)
        await self._end(attempt, reply)

    def _leave_slot(self, attempt: RunningAttempt, began: float) -> None:
        instance = attempt.instance
        if instance is None or instance.state is not InstanceState.STOPPING:
            self._left_slot(began)
        else:  # it is in it for as long
            instance.gone.add_done_callback(lambda _: self._left_slot(began))

    def _left_slot(self, began: float) -> None:
        now = time.monotonic()
        self._ahead.leave(now - began, now)
        self._start_waiting()

    async def _end(self, attempt: RunningAttempt, reply: bytes) -> None:
        """Record how an attempt ended."""
        task = attempt.claim.task
        try:
            if not self._is_closed and await self._recorder.finish(attempt, reply):
                self._claimer.ended(task.id)
        except Exception:
            # The ledger has it as running here until `give_back_strays` finds that it is not.
            log.exception("the end of a task could not be recorded", extra={"task": task.id})
        finally:
            if attempt.instance is not None and attempt.instance.state is InstanceState.STOPPING:
                await attempt.instance.until_gone()  # the next attempt must not run beside it
            self._discard(reply)  # what has been stored of it is there no more
            self._running.pop(task.id, None)
            if attempt.version is not None and attempt.version.spec.concurrency is not None:
                self._claimer.look()
            self._claimer.wake()

    def _discard(self, reply: bytes) -> None:
        """Forget what a reply has in the spool."""
        self._spool.remove(calls.spooled_in_reply(reply))

    async def _reply(self, attempt: RunningAttempt) -> bytes:
        """Run the function; its reply, or the host's where it has none."""
        if attempt.verdict is not None:  # cancelled while it was claimed
            return attempt.verdict
        attempt.preparing = asyncio.ensure_future(self._reserve.prepare(attempt, owner=self))
        try:
            instance, body = await attempt.preparing
        except NotRunError as error:
            return error.reply
        except asyncio.CancelledError:
            if attempt.verdict is None:
                raise
            return attempt.verdict
        return await self._call(attempt, instance, body)

    async def _call(
        self, attempt: RunningAttempt, instance: Instance[RunningAttempt], body: bytes
    ) -> bytes:
        task = attempt.claim.task
        if self._is_closed:
            return calls.problem(Outcome.UNAVAILABLE, "the host shuts down")
        if attempt.verdict is not None:  # cancelled as it was ready
            self._reserve.keep(instance)
            return attempt.verdict
        if not instance.is_alive:
            detail = f"the process that was to run it died: {instance.death_reason}"
            return calls.problem(Outcome.DIED, detail)
        attempt.publications = self._recorder.publications
        attempt.instance, attempt.called_at = instance, time.monotonic()
        if attempt.version is not None:  # others may have come or gone while it started
            instance.tell_threads(self._shares.of(attempt.version), attempt.called_at)
        budget = int(task.timeout_s * 1000) if task.timeout_s else 0
        context = calls.task_context(task.id, attempt.claim.attempt, task.request_id)
        head = calls.CallHead(budget, calls.TASK, attempt.claim.depth, task.function, context)
        failpoint("tasks.dispatching")
        attempt.call_id = instance.call(calls.call_head(head) + body, attempt)
        failpoint("tasks.dispatched")
        with self._alarms(attempt):
            reply = await attempt.reply
            failpoint("tasks.replied")
        is_fit = attempt.verdict is None and not instance.waiting and not instance.is_worn
        if instance.state is InstanceState.IDLE and is_fit:
            self._reserve.keep(instance)
        else:
            await self._end_process(instance)
        return reply

    async def _end_process(self, instance: Instance[RunningAttempt]) -> None:
        """Nothing of an attempt may happen after its end has been written."""
        instance.stop()
        await instance.until_gone(self._patience.gone_s)

    @contextlib.contextmanager
    def _alarms(self, attempt: RunningAttempt) -> Iterator[None]:
        """Enforce the attempt's deadline while it runs, and have the ledger know that it does."""
        loop, timeout_s = asyncio.get_running_loop(), attempt.claim.task.timeout_s
        alarms = [loop.call_later(self._patience.noted_s, self._record_start, attempt, time.time())]
        if timeout_s is not None:
            alarms.append(loop.call_later(timeout_s, self._time_out, attempt))
        try:
            yield
        finally:
            for alarm in alarms:
                alarm.cancel()

    def _record_start(self, attempt: RunningAttempt, started_at: float) -> None:
        self._background.spawn(self._recorder.record_start(attempt, started_at))

    def _time_out(self, attempt: RunningAttempt) -> None:
        attempt.decide(
            Outcome.TIMED_OUT,
            f"the deadline of {attempt.claim.task.timeout_s:g} s passed while it ran",
        )
        self._interrupt(attempt)

    def _interrupt(self, attempt: RunningAttempt) -> None:
        """Stop the attempt's process; what it answers until then still counts."""
        if attempt.instance is not None:
            attempt.instance.cancel(attempt.call_id)
            attempt.instance.terminate()

    def cancel(self, task_id: str) -> bool:
        """Stop a task that runs here; False where none does. Cooperative first, then by force."""
        attempt = self._running.get(task_id)
        if attempt is None:
            return self._claimer.cancel(task_id)
        if attempt.verdict is not None:
            return True
        attempt.cancel()
        assert attempt.verdict is not None
        if self._ahead.withdraw(attempt):  # nothing of it has begun
            self._background.spawn(self._end(attempt, attempt.verdict))
        elif attempt.trying is not None:
            attempt.trying.cancel()
        elif attempt.instance is not None:
            attempt.instance.cancel(attempt.call_id)
            asyncio.get_running_loop().call_later(
                self._patience.cancel_s, self._interrupt_if_running, attempt
            )
        elif attempt.preparing is not None:  # its process, if there is one, ends at once
            attempt.preparing.cancel()
        return True

    def _interrupt_if_running(self, attempt: RunningAttempt) -> None:
        if self._running.get(attempt.claim.task.id) is attempt and not attempt.reply.done():
            self._interrupt(attempt)

    # --- what comes of instances ---

    def on_frame(self, instance: Instance[RunningAttempt], frame: Frame) -> None:
        """A frame of an attempt that one of this lane's instances runs."""
        if frame.kind == FrameKind.REPLY:
            instance.drain()  # first: afterwards its output is no longer this task's
            attempt = instance.done(frame.id)
            if attempt is not None and instance.waiting:  # a thread that it has left behind
                self._ahead.slots.take_back()
            if attempt is not None and not attempt.reply.done():
                attempt.reply.set_result(attempt.judged(frame.payload))
            else:
                self._discard(frame.payload)
        elif frame.kind == FrameKind.EVENT and (attempt := instance.calls.get(frame.id)):
            self._on_event(attempt, parse_event(frame.payload))
        elif frame.kind == FrameKind.TALLIES:
            tallies = parse_tallies(frame.payload)
            self._metrics.tallied(instance.job.function, tallies)

    def _on_event(self, attempt: RunningAttempt, event: InstanceEvent | None) -> None:
        claim = attempt.claim
        match event:
            case EmittedEvent():
                self._journal.add(claim.task.id, claim.attempt, event)
            case SavedModel():
                attempt.models.append(event)
            case RescuedModel():
                attempt.rescued.append(event)
            case LeftOut():
                self._journal.skip(claim.task.id, claim.attempt, event)

    def on_printed(self, instance: Instance[RunningAttempt], printed: Printed) -> Cause | None:
        """Lines of output; the task they belong to, and its request."""
        attempt = next(iter(instance.calls.values()), None)
        if attempt is None:
            return None
        claim = attempt.claim
        self._journal.print(claim.task.id, claim.attempt, printed)
        return Cause(claim.task.id, claim.task.request_id or "")

    def on_gone(self, instance: Instance[RunningAttempt]) -> None:
        if instance.waiting and instance.calls:
            self._ahead.slots.take_back()
        instance.waiting = 0
        for attempt in instance.end_calls():
            if not attempt.reply.done():
                died = f"the process that ran it died: {instance.death_reason}"
                attempt.reply.set_result(attempt.verdict or calls.problem(Outcome.DIED, died))
        self._reserve.forget(instance)

    def on_worn(self, instance: Instance[RunningAttempt]) -> None:
        instance.is_worn = True  # what it runs may still end well; nothing follows it

    def lend_slot(self) -> None:
        self._ahead.slots.lend()
        self._start_waiting()

    def take_back_slot(self) -> None:
        self._ahead.slots.take_back()

    def threads_for(self, version: FunctionVersion) -> int | None:
        return self._shares.of(version)

    # --- the rest of its life ---

    def sweep(self, now: float) -> None:
        """Stop instances that nobody has needed for a while; let shares of the cores follow."""
        self._reserve.sweep(now)
        for attempt, threads in list(self._shares.settled(now)):
            if attempt.instance is not None:
                attempt.instance.tell_threads(threads, now)

    def retire(self, version: FunctionVersion) -> None:
        """Stop the instances of a version that is no longer current, busy ones when done."""
        self._reserve.retire(version)

    async def close(self, grace_s: float) -> None:
        """Take nothing more, let what runs end for ``grace_s``, give the rest back to the queue."""
        await self._claimer.drain()
        ends = time.monotonic() + grace_s
        failpoint("tasks.draining")
        while self._running and time.monotonic() < ends:  # noqa: ASYNC110 - once, at a host's end
            await asyncio.sleep(0.02)
        self._is_closed = True
        left = list(self._running.values())
        # Dead before they are anybody else's. What their processes send now counts no more.
        for instance in [attempt.instance for attempt in left if attempt.instance is not None]:
            instance.kill()
            await instance.gone
        failpoint("tasks.killed")
        if ids := [attempt.claim.task.id for attempt in left]:
            await self._claimer.release(ids)
            log.info("%d running tasks went back to the queue", len(ids))
        failpoint("tasks.released")
