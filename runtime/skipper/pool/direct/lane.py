"""The direct lane: bounded queues, slots, batches, deadlines, one answer per call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable

from skipper.instance.jobs import Report
from skipper.outcomes import LOGGED, Outcome
from skipper.pool.direct.fleet import Fleet
from skipper.pool.direct.queue import DirectCall, FunctionQueue, Origin
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.instance import Instance, InstanceState, uncancelled
from skipper.pool.processes.version import FunctionVersion
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


class DirectLane:
    """Direct calls of one pool. ``start`` and ``untrained`` are :class:`Fleet`'s."""

    def __init__(
        self,
        settings: PoolSettings,
        slots: int,
        *,
        start: Callable[[FunctionVersion], Awaitable[tuple[Instance, Report]]],
        untrained: Callable[[FunctionVersion], str],
        metrics: PoolMetrics,
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self.queues: dict[bytes, FunctionQueue] = {}
        """By the function's name, as calls carry it."""
        self.fleet = Fleet(
            slots,
            self.queues,
            most_idle=settings.idle_instances,
            start=start,
            untrained=untrained,
            on_ready=self._pump,
            on_failed=self._fail_waiting,
        )
        self.slots = self._free = slots
        self.queued = 0
        self._ring: deque[FunctionQueue] = deque()

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
        """The caller is gone: free its place, and tell the function."""
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

    def on_frame(self, instance: Instance, frame: Frame) -> None:
        """A frame of a call that one of this lane's instances runs."""
        if frame.kind == FrameKind.REPLY:
            before = instance.idle_since
            call = instance.done(frame.id)
            if call is not None:
                self._answer(call, uncancelled(frame.payload))
                if not instance.calls and not instance.waiting:
                    self._free += 1
                if not instance.calls or call.queue.serving.version.is_in_turn:
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

    def on_gone(self, instance: Instance) -> None:
        """An instance's process has ended; so have the calls it ran.

        Those that lay ready there have not begun: an instance sends a reply before it takes the
        next call. They wait again.
        """
        if instance.calls and not instance.waiting:
            self._free += 1
        instance.waiting = 0
        begun = self.fleet.begun(instance)
        held = [instance.done(id_) for id_ in list(instance.calls)]
        for call in begun:
            detail = f"the process that ran {call.queue.spec.name} died: {instance.death_reason}"
            self._answer(call, calls.problem(Outcome.DIED, detail))
        self.fleet.gone(instance)
        for call in reversed(held[len(begun) :]):
            self._wait_again(call)
        self._pump()

    # An instance takes up one slot while it runs calls, however many, and waits for none itself.

    def lend_slot(self, instance: Instance) -> None:
        """A call of ``instance`` waits for a call of its own: others may use its slot meanwhile."""
        if instance.state is InstanceState.GONE:
            return
        instance.waiting += 1
        if instance.waiting == 1 and instance.calls:
            self._free += 1
            self._pump()

    def return_slot(self, instance: Instance) -> None:
        """Its own call has been answered: it goes on, even if that is one more than the slots."""
        if instance.state is InstanceState.GONE:  # its slot was settled when it went
            return
        instance.waiting -= 1
        if not instance.waiting and instance.calls:
            self._free -= 1

    # --- versions of functions ---

    async def warm(self, version: FunctionVersion) -> BrokenFile | None:
        """Have as many instances of a version ready as serve its function now.

        What is wrong where one cannot serve.
        """
        queue = self.queues.get(version.name.encode())
        if queue is None or not queue.serving.instances:
            return None
        return await self.fleet.warm(version, len(queue.serving.instances))

    def serve(self, version: FunctionVersion) -> None:
        """Send the calls of its function to this version from now on, those too that wait."""
        name, serving = version.name.encode(), self.fleet.of(version)
        if (queue := self.queues.get(name)) is None:
            self.queues[name] = FunctionQueue(serving)
            return
        old = queue.serving.version
        queue.serve(serving)
        self.fleet.retire(old)

    def retire(self, version: FunctionVersion) -> None:
        """Stop the instances of a version that is not to serve."""
        self.fleet.retire(version)

    def drop(self, name: str) -> None:
        """Serve a function no more; what waits for it is answered so."""
        queue = self.queues.pop(name.encode())
        self.fleet.retire(queue.serving.version)
        self._empty(queue, calls.problem(Outcome.NOT_FOUND, _removed(queue)))

    # --- the rest of its life ---

    def sweep(self, now: float) -> None:
        """Enforce deadlines and waiting times; let the fleet follow the load."""
        for queue in list(self.queues.values()):
            if not queue.is_active:
                continue
            if queue.calls:
                self._check_queue(queue, now)
            self.fleet.sweep(queue, now)
        for instance, serving in list(self.fleet.all.items()):
            if instance.calls and instance.is_alive:
                self._check_calls(instance, serving.version, now)
        self.fleet.trim()
        self._pump()

    @property
    def busy(self) -> int:
        return self.slots - self._free

    async def close(self, grace_s: float) -> None:
        """Let what runs end, for at most ``grace_s``."""
        ends = time.monotonic() + grace_s
        while (self.busy > 0 or self.queued) and time.monotonic() < ends:  # noqa: ASYNC110 - a bound
            await asyncio.sleep(SWEEP_S)

    # --- inside ---

    def _dispatch(self, batch: list[DirectCall], instance: Instance) -> None:
        now = time.monotonic()
        if not instance.calls and not instance.waiting:
            self._free -= 1
        for call in batch:
            call.instance, call.started = instance, now
        if len(batch) == 1:
            instance.call(batch[0].payload_at(now), batch[0])
        else:
            instance.call_batch([(call.payload_at(now), call) for call in batch])

    def _free_instance(self, call: DirectCall) -> Instance | None:
        """Where the call may go. In the turn of its queue, which is not in the ring then."""
        has_slot = self._free > 0
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
        if not queue.serving.instances:
            self.fleet.grow(queue)
        elif queue.spec.batch_wait_s:
            self._pump()

    def _count_waiting(self, queue: FunctionQueue) -> None:
        self.queued += 1
        if not queue.is_in_ring:
            queue.is_in_ring = True
            self._ring.append(queue)

    def _wait_again(self, call: DirectCall) -> None:
        """Put a call that had not begun before those that wait."""
        if call.is_answered:
            return
        call.instance, queue = None, call.queue
        if self.queues.get(queue.spec.name.encode()) is queue:
            queue.calls.appendleft(call)
            self._count_waiting(queue)
        else:
            self._answer(call, calls.problem(Outcome.NOT_FOUND, _removed(queue)))

    def _pump(self) -> None:
        """Give free slots to waiting calls, function by function in turn, until none can go on."""
        in_vain = 0
        while in_vain < len(self._ring):
            queue = self._ring.popleft()
            in_vain = 0 if self._feed(queue) else in_vain + 1
            if queue.calls:
                self._ring.append(queue)
            else:
                queue.is_in_ring, in_vain = False, 0

    def _feed(self, queue: FunctionQueue) -> bool:
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
        while queue.calls and len(batch) < queue.spec.batch and size < BATCH_BYTES:
            call = self._take(queue)
            if not call.is_answered:
                batch.append(call)
                size += len(call.payload)
        self._dispatch(batch, instance)
        return True

    def _take(self, queue: FunctionQueue) -> DirectCall:
        self.queued -= 1
        return queue.calls.popleft()

    def _is_due(self, queue: FunctionQueue) -> bool:
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

    def _alarm(self, queue: FunctionQueue) -> None:
        queue.is_alarmed = False
        self._pump()

    def _refusal(self, queue: FunctionQueue) -> bytes | None:
        """Why a call cannot even wait, as a reply; None where it can."""
        name = queue.spec.name
        if len(queue.calls) >= self._settings.queue:
            return calls.problem(Outcome.BUSY, f"{len(queue.calls)} calls of {name} wait already")
        if self.queued >= self._settings.queue_total:
            return calls.problem(Outcome.BUSY, f"{self.queued} calls wait in its pool already")
        if queue.serving.instances or queue.serving.starting:
            return None
        if reason := self.fleet.untrained(queue.serving.version):
            return calls.problem(Outcome.UNAVAILABLE, reason)
        if queue.load_error is not None and time.monotonic() < queue.retry_at:
            return _broken(queue, queue.load_error)
        return None

    def _fail_waiting(self, queue: FunctionQueue, problem: BrokenFile) -> None:
        self._empty(queue, _broken(queue, problem))

    def _empty(self, queue: FunctionQueue, reply: bytes) -> None:
        while queue.calls:
            self._answer(self._take(queue), reply)

    def _check_queue(self, queue: FunctionQueue, now: float) -> None:
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

    def _check_calls(self, instance: Instance, version: FunctionVersion, now: float) -> None:
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


def _removed(queue: FunctionQueue) -> str:
    return f"{queue.spec.name} was removed"


def _broken(queue: FunctionQueue, problem: BrokenFile) -> bytes:
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
