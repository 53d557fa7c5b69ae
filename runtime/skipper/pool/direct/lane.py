"""The direct lane: bounded queues, slots, batches, deadlines, one answer per call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from skipper.instance.jobs import ModelRef
from skipper.outcomes import LOGGED, Outcome
from skipper.pool.direct.fleet import RENEW_S, Fleet
from skipper.pool.direct.queue import DirectCall, Origin, VersionQueue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.instance import Instance, uncancelled
from skipper.pool.processes.output import Printed
from skipper.pool.processes.process import Lane
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.serving import Serving
from skipper.pool.slots import Slots
from skipper.settings.pools import PoolSettings
from skipper.spec import BrokenFile
from skipper.wire import calls
from skipper.wire.frames import Frame, FrameKind

log = logging.getLogger(__name__)

SWEEP_S = 0.05
"""How often deadlines, waiting times and idle instances are looked at."""
BATCH_BYTES = 64 << 20
"""A batch that has come to this many bytes takes no more calls."""
CANCEL_GRACE_S = 5.0
"""How long after its deadline an ``async def`` call may take to stop; then its process is ended."""


@dataclass(frozen=True, kw_only=True)
class DirectLimits:
    """What no setting changes."""

    batch_bytes: int = BATCH_BYTES
    renew_s: float = RENEW_S


class DirectLane:
    """Direct calls of one pool, of as many instances at once as it has ``slots``."""

    lane = Lane.DIRECT

    def __init__(
        self,
        settings: PoolSettings,
        slots: Slots,
        serving: Serving,
        metrics: PoolMetrics,
        limits: DirectLimits = DirectLimits(),
    ) -> None:
        self._settings, self._serving, self._metrics = settings, serving, metrics
        self._batch_bytes = limits.batch_bytes
        self.queues: dict[bytes, VersionQueue] = {}
        """Where the calls of a function go, by its name as calls carry it: the assigned version."""
        self._live: dict[FunctionVersion, VersionQueue] = {}
        """Every version that is not retired, assigned or not."""
        self.fleet = Fleet(
            self,
            serving,
            most=slots.capacity,
            most_idle=settings.idle_instances,
            renew_s=limits.renew_s,
        )
        self.slots = slots
        self.queued = 0
        self._ring: deque[VersionQueue] = deque()

    # --- calls ---

    def submit(self, origin: Origin, id_: int, payload: bytes) -> DirectCall | None:
        """Run a call as soon as an instance is free; None where it was answered at once."""
        key = calls.call_key(payload)
        if (queue := self.queues.get(key.name)) is None:
            detail = f"{key.name.decode()} is no longer served"
            self._metrics.ended("", Outcome.NOT_FOUND, 0.0)
            origin.answer(id_, calls.problem(Outcome.NOT_FOUND, detail))
            return None
        call = DirectCall(origin, id_, payload, queue, key)
        if not queue.calls and not queue.spec.batch_wait_s:
            instance = self._free_instance(call)
            if instance is not None:
                self._dispatch([call], instance)
                return call
        if (refusal := self._refusal(queue)) is not None:
            self._answer(call, refusal)
            return None
        self._wait(call)
        return call

    def cancel(self, call: DirectCall) -> None:
        """The caller is gone: free its place, and ask the function to stop."""
        if call.is_answered:
            return
        call.is_answered = True
        self._count(call, Outcome.CANCELLED)
        call.payload = b""
        if call.instance is None:
            with contextlib.suppress(ValueError):
                self._leave_queue(call)
        else:
            self._send_instance(FrameKind.CANCEL, call)

    def credit(self, call: DirectCall) -> None:
        """The caller has taken items of the call's stream; let more come."""
        if call.instance is not None and not call.is_answered:
            self._send_instance(FrameKind.CREDIT, call)

    def on_frame(self, instance: Instance[DirectCall], frame: Frame) -> None:
        """A frame of a call that one of this lane's instances runs."""
        if frame.kind == FrameKind.REPLY:
            before = instance.idle_since
            call = instance.done(frame.id)
            if call is not None:
                self._answer(call, uncancelled(frame.payload))
                if not instance.calls and not instance.waiting:
                    self.slots.leave()
                if not instance.calls or call.queue.version.is_in_turn:
                    call.queue.ran(instance.idle_since - max(call.started, before))
                self.fleet.freed(call.queue, instance)
                if self._ring:
                    self._pump()
        elif frame.kind in (FrameKind.ITEM, FrameKind.SERVED):
            call = instance.calls.get(frame.id)
            if call is not None and not call.is_answered:
                call.origin.send(frame.kind, call.id, frame.payload)
        elif frame.kind == FrameKind.SIZE:
            self._metrics.batch_sizes[instance.job.function].observe(frame.id)

    def on_gone(self, instance: Instance[DirectCall]) -> None:
        """An instance's process has ended; so have the calls it ran.

        Those that lay ready there have not begun: an instance sends a reply before it takes the
        next call. They wait again.
        """
        if instance.calls and not instance.waiting:
            self.slots.leave()
        instance.waiting = 0
        begun = self.fleet.begun(instance)
        held = instance.end_calls()
        for call in begun:
            detail = f"the process that ran {call.queue.spec.name} died: {instance.death_reason}"
            self._answer(call, calls.problem(Outcome.DIED, detail))
        self.fleet.gone(instance)
        for call in reversed(held[len(begun) :]):
            self._wait_again(call)
        self._pump()

    def on_printed(self, instance: Instance[DirectCall], printed: Printed) -> None:
        """What is printed here belongs to no task."""

    def on_worn(self, instance: Instance[DirectCall]) -> None:
        self.fleet.replace(instance)

    def lend_slot(self) -> None:
        self.slots.lend()
        self._pump()

    def take_back_slot(self) -> None:
        self.slots.take_back()

    async def take_models(self, refs: Collection[ModelRef]) -> None:
        await self.fleet.renew(refs)

    # --- versions of functions ---

    async def warm(self, version: FunctionVersion) -> BrokenFile | None:
        """Have as many instances of a version ready as serve its function now.

        What is wrong where one cannot serve.
        """
        queue, assigned = self._live_queue(version), self.queues.get(version.name.encode())
        if assigned is None or not assigned.instances:
            return None
        return await self.fleet.warm(queue, len(assigned.instances))

    def assign(self, version: FunctionVersion) -> None:
        """Send this version the calls of its function that come from now on.

        The version before stays beside it and runs what it was sent, until it is retired.
        """
        name, queue = version.name.encode(), self._live_queue(version)
        if (before := self.queues.get(name)) is not None:
            queue.run_s = queue.run_s or before.run_s
        self.queues[name] = queue

    def retire(self, version: FunctionVersion) -> None:
        """Send a version no more calls, and stop its instances, busy ones when done.

        What waits for it goes to the version that is assigned. If it is itself that one, its
        function is served no more, and that is the answer.
        """
        name, queue = version.name.encode(), self._live.pop(version, None)
        if queue is None:
            return
        self.fleet.retire(queue)
        if self.queues.get(name) is queue:
            del self.queues[name]
        if (assigned := self.queues.get(name)) is None:
            self._empty(queue, calls.problem(Outcome.NOT_FOUND, _removed(queue)))
        else:
            self._move_waiting(queue, assigned)

    def _live_queue(self, version: FunctionVersion) -> VersionQueue:
        """That of a version, made where it has none yet."""
        if (queue := self._live.get(version)) is None:
            queue = self._live[version] = VersionQueue(version)
        return queue

    # --- the rest of its life ---

    def sweep(self, now: float) -> None:
        """Enforce deadlines and waiting times; let the fleet follow the load."""
        for version, queue in list(self._live.items()):
            if not queue.is_active:
                continue
            if queue.calls:
                self._check_queue(queue, now)
            is_assigned = self.queues.get(version.name.encode()) is queue
            self.fleet.sweep(queue, now, is_assigned=is_assigned)
        for instance, queue in list(self.fleet.all.items()):
            if instance.calls and instance.is_alive:
                self._check_calls(instance, queue.version, now)
        self.fleet.trim()
        self._pump()

    async def close(self, grace_s: float) -> None:
        """Let what runs end, for at most ``grace_s``."""
        ends = time.monotonic() + grace_s
        while (self.slots.busy > 0 or self.queued) and time.monotonic() < ends:  # noqa: ASYNC110 - a bound
            await asyncio.sleep(SWEEP_S)

    # --- inside ---

    def _dispatch(self, batch: list[DirectCall], instance: Instance[DirectCall]) -> None:
        now = time.monotonic()
        if not instance.calls and not instance.waiting:
            self.slots.take()
        for call in batch:
            call.instance, call.started = instance, now
        if len(batch) == 1:
            instance.call(batch[0].payload_at(now), batch[0])
        else:
            instance.call_batch([(call.payload_at(now), call) for call in batch])

    def _free_instance(self, call: DirectCall) -> Instance[DirectCall] | None:
        """Where the call may go. In the turn of its queue, which is not in the ring then."""
        has_slot = self.slots.free > 0
        return self.fleet.free_instance(
            call.queue,
            has_slot=has_slot,
            is_nested=call.depth > 0,
            # An instance that is never idle keeps its slot for ever.
            may_lie_ready=has_slot or not self._ring,
        )

    def _wait(self, call: DirectCall) -> None:
        queue = call.queue
        if call.depth:  # until it ends, its caller holds up others
            queue.calls.appendleft(call)
        else:
            queue.calls.append(call)
        self._count_waiting(queue)
        if not queue.instances:
            self.fleet.grow(queue)
        elif queue.spec.batch_wait_s:
            self._pump()

    def _count_waiting(self, queue: VersionQueue) -> None:
        self.queued += 1
        self._enter_ring(queue)

    def _enter_ring(self, queue: VersionQueue) -> None:
        if not queue.is_in_ring:
            queue.is_in_ring = True
            self._ring.append(queue)

    def _move_waiting(self, queue: VersionQueue, to: VersionQueue) -> None:
        """Have another version run what waits for one, before what came to it meanwhile."""
        if not queue.calls:
            return
        for call in queue.calls:
            call.queue = to
        to.calls.extendleft(reversed(queue.calls))
        queue.calls.clear()
        self._enter_ring(to)
        self._pump()

    def _wait_again(self, call: DirectCall) -> None:
        """Put a call that had not begun before those that wait."""
        if call.is_answered:
            return
        call.instance, queue = None, call.queue
        if queue.is_retired:
            assigned = self.queues.get(queue.version.name.encode())
            if assigned is None:
                self._answer(call, calls.problem(Outcome.NOT_FOUND, _removed(queue)))
                return
            call.queue = queue = assigned
        queue.calls.appendleft(call)
        self._count_waiting(queue)

    def _pump(self) -> None:
        """Give free slots to waiting calls, version by version in turn, until none can go on."""
        in_vain = 0
        while in_vain < len(self._ring):
            queue = self._ring.popleft()
            in_vain = 0 if self._feed(queue) else in_vain + 1
            if queue.calls:
                self._ring.append(queue)
            else:
                queue.is_in_ring, in_vain = False, 0

    def _feed(self, queue: VersionQueue) -> bool:
        """Dispatch a waiting call, or a batch of them, if an instance is free; whether one was."""
        while queue.calls and queue.calls[0].is_answered:
            self._take(queue)
        if not queue.calls or not self._is_due(queue):
            return False
        instance = self._free_instance(queue.calls[0])
        if instance is None:
            return False
        batch: list[DirectCall] = []
        size = 0
        while queue.calls and len(batch) < queue.spec.batch and size < self._batch_bytes:
            call = self._take(queue)
            if not call.is_answered:
                batch.append(call)
                size += len(call.payload)
        self._dispatch(batch, instance)
        return True

    def _take(self, queue: VersionQueue) -> DirectCall:
        self.queued -= 1
        return queue.calls.popleft()

    def _is_due(self, queue: VersionQueue) -> bool:
        """Whether a batch may go: it is full, or has waited as long as it may."""
        wait_s = queue.spec.batch_wait_s
        if not wait_s or len(queue.calls) >= queue.spec.batch:
            return True
        left = queue.calls[0].received + wait_s - time.monotonic()
        if left <= 0:
            return True
        if not queue.is_alarmed:
            queue.is_alarmed = True
            asyncio.get_running_loop().call_later(left, self._alarm, queue)
        return False

    def _alarm(self, queue: VersionQueue) -> None:
        queue.is_alarmed = False
        self._pump()

    def _refusal(self, queue: VersionQueue) -> bytes | None:
        """Why a call cannot even wait, as a reply; None where it can."""
        name = queue.spec.name
        if len(queue.calls) >= self._settings.queue:
            return calls.problem(Outcome.BUSY, f"{len(queue.calls)} calls of {name} wait already")
        if self.queued >= self._settings.queue_total:
            return calls.problem(Outcome.BUSY, f"{self.queued} calls wait in its pool already")
        if queue.instances or queue.starting:
            return None
        if reason := self._serving.untrained(queue.version):
            return calls.problem(Outcome.UNAVAILABLE, reason)
        if queue.load_error is not None and time.monotonic() < queue.retry_at:
            return _broken(queue, queue.load_error)
        return None

    def on_ready(self) -> None:
        self._pump()

    def on_failed(self, queue: VersionQueue, problem: BrokenFile) -> None:
        self._empty(queue, _broken(queue, problem))

    def _empty(self, queue: VersionQueue, reply: bytes) -> None:
        while queue.calls:
            self._answer(self._take(queue), reply)

    def _check_queue(self, queue: VersionQueue, now: float) -> None:
        longest = self._settings.queue_wait_s
        for call in list(queue.calls):
            if call.deadline <= now:
                self._leave_queue(call)
                self._expire(call, has_begun=False)
            elif now - call.received > longest:
                self._leave_queue(call)
                detail = f"no instance of {queue.spec.name} came free within {longest:g} s"
                self._answer(call, calls.problem(Outcome.BUSY, detail))

    def _leave_queue(self, call: DirectCall) -> None:
        call.queue.calls.remove(call)
        self.queued -= 1

    def _check_calls(
        self, instance: Instance[DirectCall], version: FunctionVersion, now: float
    ) -> None:
        """Answer calls whose time is over, and end a process that has no other."""
        begun = self.fleet.begun(instance)
        for call in instance.calls.values():
            if call.deadline <= now and not call.is_answered:
                self._expire(call, has_begun=call in begun)
                self._send_instance(FrameKind.CANCEL, call)
        # A call cannot be taken back from a function that does not look; its process can be.
        grace_s = CANCEL_GRACE_S if version.spec.is_async else 0.0
        if all(call.deadline + grace_s <= now for call in begun):
            self.fleet.forget(instance)
            instance.terminate()

    def _send_instance(self, kind: int, call: DirectCall) -> None:
        assert call.instance is not None
        for id_, running in call.instance.calls.items():
            if running is call:
                call.instance.send(kind, id_)

    def _expire(self, call: DirectCall, *, has_begun: bool) -> None:
        seconds = call.deadline - call.received
        where = "while it ran" if has_begun else "while it waited for a free instance"
        detail = f"the deadline passed {where}, {round(seconds, 2):g} s after the call had come"
        self._answer(call, calls.problem(Outcome.TIMED_OUT, detail))

    def _answer(self, call: DirectCall, payload: bytes) -> None:
        if call.is_answered:
            return
        call.is_answered = True
        outcome = payload[0]
        self._count(call, outcome)
        if outcome in LOGGED:
            _log_failure(call, payload)
        call.origin.answer(call.id, payload)
        call.payload = b""  # its instance may run the call for longer

    def _count(self, call: DirectCall, outcome: int) -> None:
        if call.is_counted:
            self._metrics.ended(call.queue.spec.name, outcome, time.monotonic() - call.received)


def _removed(queue: VersionQueue) -> str:
    return f"{queue.version.name} was removed"


def _broken(queue: VersionQueue, problem: BrokenFile) -> bytes:
    """The reply of a function whose instances do not start, with when that is tried again."""
    retry_after_s = max(1, math.ceil(queue.retry_at - time.monotonic()))
    detail = f"{queue.spec.name} cannot be loaded: {problem.error}"
    return calls.problem(Outcome.BROKEN, detail, retry_after_s=retry_after_s)


def _log_failure(call: DirectCall, payload: bytes) -> None:
    """Log a call that ended badly through the function's own doing."""
    problem = json.loads(calls.parse_reply(payload)[2])
    head, _ = calls.parse_call(call.payload)
    extra = {"function": head.name, "request": head.context}
    log.warning("%s: %s", head.name, problem["detail"], extra=extra)
