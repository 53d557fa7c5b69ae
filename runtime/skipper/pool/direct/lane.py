"""The direct lane: bounded queues, slots, batches, deadlines, one answer per call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from skipper.instance.jobs import Report
from skipper.pool.direct.fleet import Fleet
from skipper.pool.direct.queue import FunctionQueue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes.instance import Instance, InstanceState, uncancelled
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import PoolSettings
from skipper.spec import BrokenFile
from skipper.task import Outcome
from skipper.wire import calls
from skipper.wire.calls import CallKey
from skipper.wire.frames import Frame, FrameKind

log = logging.getLogger(__name__)

SWEEP_S = 0.05
"""How often deadlines, waiting times and idle instances are looked at."""
BATCH_BYTES = 64 << 20
"""A batch that has come to this many bytes takes no more calls."""
CANCEL_GRACE_S = 5.0
"""How long after its deadline an ``async def`` call may take to stop; then its process is ended."""
_ALL_OF_IT_S = 0.001
"""A call that comes to its instance within this time has as much left as it came with, in ms."""
_TOLD = (Outcome.FAILED, Outcome.DIED, Outcome.TIMED_OUT)
"""What the log tells of."""


class Origin(Protocol):
    """Whoever sent a call and is told how it goes."""

    def send(self, kind: int, id_: int, payload: bytes) -> None:
        """A frame of the call with this id, before its reply."""

    def answer(self, id_: int, payload: bytes) -> None:
        """The reply to the call with this id."""


class Call:
    """A direct call from its arrival to its one answer."""

    __slots__ = (
        "deadline",
        "depth",
        "entry",
        "id",
        "instance",
        "is_answered",
        "is_counted",
        "origin",
        "payload",
        "received",
        "started",
    )

    def __init__(
        self, origin: Origin, id_: int, payload: bytes, entry: FunctionQueue, key: CallKey
    ) -> None:
        self.origin, self.id, self.payload, self.entry = origin, id_, payload, entry
        self.received = self.started = now = time.monotonic()
        self.deadline = now + key.budget_ms / 1000 if key.budget_ms else math.inf
        self.depth = key.depth
        self.instance: Instance | None = None
        self.is_counted = not key.flags & calls.CHECK
        self.is_answered = False

    def payload_at(self, now: float) -> bytes:
        """The payload with what is left of its time."""
        if now - self.received < _ALL_OF_IT_S or self.deadline == math.inf:
            return self.payload
        return calls.with_budget(self.payload, max(1, int((self.deadline - now) * 1000)))


class DirectLane:
    """Direct calls of one pool. ``start`` and ``missing`` are :class:`Fleet`'s."""

    def __init__(
        self,
        settings: PoolSettings,
        slots: int,
        entries: Mapping[bytes, FunctionQueue],
        *,
        start: Callable[[FunctionVersion], Awaitable[tuple[Instance, Report]]],
        missing: Callable[[FunctionVersion], str],
        metrics: PoolMetrics,
    ) -> None:
        self._settings, self._entries, self._metrics = settings, entries, metrics
        self.fleet = Fleet(
            slots,
            entries,
            most_idle=settings.idle_instances,
            start=start,
            missing=missing,
            on_ready=self._pump,
            on_failed=self._fail_waiting,
        )
        self.slots = self._free = slots
        self.queued = 0
        self._ring: deque[FunctionQueue] = deque()

    # --- calls ---

    def submit(self, origin: Origin, id_: int, payload: bytes) -> Call | None:
        """Run a call as soon as an instance is free; None where it was answered at once."""
        key = calls.call_key(payload)
        if (entry := self._entries.get(key.name)) is None:
            told = f"{key.name.decode()} is no longer served"
            self._metrics.ended("", Outcome.NOT_FOUND, 0.0)
            origin.answer(id_, calls.problem(Outcome.NOT_FOUND, told))
            return None
        call = Call(origin, id_, payload, entry, key)
        if not entry.queue and not entry.spec.batch_wait_s:
            instance = self._free_instance(call)
            if instance is not None:
                self._dispatch([call], instance)
                return call
        if (refusal := self._refusal(entry)) is not None:
            self._answer(call, refusal)
            return None
        self._wait(call)
        return call

    def cancel(self, call: Call) -> None:
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
            self._tell_instance(FrameKind.CANCEL, call)

    def credit(self, call: Call) -> None:
        """The caller has taken items of the call's stream; let more come."""
        if call.instance is not None and not call.is_answered:
            self._tell_instance(FrameKind.CREDIT, call)

    def on_frame(self, instance: Instance, frame: Frame) -> None:
        """A frame of a call that one of this lane's instances runs."""
        if frame.kind == FrameKind.REPLY:
            before = instance.idle_since
            call = instance.done(frame.id)
            if call is not None:
                self._answer(call, uncancelled(frame.payload))
                if not instance.calls and not instance.waiting:
                    self._free += 1
                if not instance.calls or call.entry.served.is_in_turn:
                    call.entry.ran(instance.idle_since - max(call.started, before))
                self.fleet.freed(call.entry, instance)
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
            told = f"the process that ran {call.entry.spec.name} died: {instance.death_reason}"
            self._answer(call, calls.problem(Outcome.DIED, told))
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

    # --- the rest of its life ---

    def drop(self, entry: FunctionQueue) -> None:
        """Answer what waits for a function that is gone."""
        self._empty(entry, calls.problem(Outcome.NOT_FOUND, _removed(entry)))

    def sweep(self, now: float) -> None:
        """Enforce deadlines and waiting times; let the fleet follow the load."""
        for entry in list(self._entries.values()):
            if not entry.is_active:
                continue
            if entry.queue:
                self._check_queue(entry, now)
            self.fleet.sweep(entry, now)
        for instance, served in list(self.fleet.all.items()):
            if instance.calls and instance.is_alive:
                self._check_calls(instance, served, now)
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

    def _dispatch(self, batch: list[Call], instance: Instance) -> None:
        now = time.monotonic()
        if not instance.calls and not instance.waiting:
            self._free -= 1
        for call in batch:
            call.instance, call.started = instance, now
        if len(batch) == 1:
            instance.call(batch[0].payload_at(now), batch[0])
        else:
            instance.call_batch([(call.payload_at(now), call) for call in batch])

    def _free_instance(self, call: Call) -> Instance | None:
        """Where the call may go. In the turn of its entry, which is not in the ring then."""
        has_slot = self._free > 0
        return self.fleet.free_instance(
            call.entry,
            has_slot=has_slot,
            is_nested=call.depth > 0,
            # An instance that is never idle keeps its slot for ever.
            may_lie_ready=has_slot or not self._ring,
        )

    def _wait(self, call: Call) -> None:
        entry = call.entry
        if call.depth:  # until it ends, its caller holds up others
            entry.queue.appendleft(call)
        else:
            entry.queue.append(call)
        self._note_queued(entry)
        if not entry.served.instances:
            self.fleet.grow(entry)
        elif entry.spec.batch_wait_s:
            self._pump()

    def _note_queued(self, entry: FunctionQueue) -> None:
        self.queued += 1
        if not entry.is_queued:
            entry.is_queued = True
            self._ring.append(entry)

    def _wait_again(self, call: Call) -> None:
        """Put a call that had not begun before those that wait."""
        if call.is_answered:
            return
        call.instance, entry = None, call.entry
        if self._entries.get(entry.spec.name.encode()) is entry:
            entry.queue.appendleft(call)
            self._note_queued(entry)
        else:
            self._answer(call, calls.problem(Outcome.NOT_FOUND, _removed(entry)))

    def _pump(self) -> None:
        """Give free slots to waiting calls, function by function in turn, until none can go on."""
        in_vain = 0
        while in_vain < len(self._ring):
            entry = self._ring.popleft()
            in_vain = 0 if self._feed(entry) else in_vain + 1
            if entry.queue:
                self._ring.append(entry)
            else:
                entry.is_queued, in_vain = False, 0

    def _feed(self, entry: FunctionQueue) -> bool:
        """Dispatch a waiting call, or a batch of them, if an instance is free; whether one was."""
        while entry.queue and entry.queue[0].is_answered:
            self._take(entry)
        if not entry.queue or not self._is_due(entry):
            return False
        instance = self._free_instance(entry.queue[0])
        if instance is None:
            return False
        batch: list[Call] = []
        size = 0
        while entry.queue and len(batch) < entry.spec.batch and size < BATCH_BYTES:
            call = self._take(entry)
            if not call.is_answered:
                batch.append(call)
                size += len(call.payload)
        self._dispatch(batch, instance)
        return True

    def _take(self, entry: FunctionQueue) -> Call:
        self.queued -= 1
        call: Call = entry.queue.popleft()
        return call

    def _is_due(self, entry: FunctionQueue) -> bool:
        """Whether a batch may go: it is full, or has waited as long as it may."""
        wait_s = entry.spec.batch_wait_s
        if not wait_s or len(entry.queue) >= entry.spec.batch:
            return True
        left = entry.queue[0].received + wait_s - time.monotonic()
        if left <= 0:
            return True
        if not entry.is_alarmed:
            entry.is_alarmed = True
            asyncio.get_running_loop().call_later(left, self._alarm, entry)
        return False

    def _alarm(self, entry: FunctionQueue) -> None:
        entry.is_alarmed = False
        self._pump()

    def _refusal(self, entry: FunctionQueue) -> bytes | None:
        """Why a call cannot even wait, as a reply; None where it can."""
        name = entry.spec.name
        if len(entry.queue) >= self._settings.queue:
            return calls.problem(Outcome.BUSY, f"{len(entry.queue)} calls of {name} wait already")
        if self.queued >= self._settings.queue_total:
            return calls.problem(Outcome.BUSY, f"{self.queued} calls wait in its pool already")
        if entry.served.instances or entry.served.starting:
            return None
        if reason := self.fleet.missing(entry.served):
            return calls.problem(Outcome.UNAVAILABLE, reason)
        if entry.load_error is not None and time.monotonic() < entry.retry_at:
            return _broken(entry, entry.load_error)
        return None

    def _fail_waiting(self, entry: FunctionQueue, problem: BrokenFile) -> None:
        self._empty(entry, _broken(entry, problem))

    def _empty(self, entry: FunctionQueue, reply: bytes) -> None:
        while entry.queue:
            self._answer(self._take(entry), reply)

    def _check_queue(self, entry: FunctionQueue, now: float) -> None:
        longest = self._settings.queue_wait_s
        for call in list(entry.queue):
            if call.deadline <= now:
                self._leave_queue(call)
                self._expire(call, has_begun=False)
            elif now - call.received > longest:
                self._leave_queue(call)
                told = f"no instance of {entry.spec.name} came free within {longest:g} s"
                self._answer(call, calls.problem(Outcome.BUSY, told))

    def _leave_queue(self, call: Call) -> None:
        call.entry.queue.remove(call)
        self.queued -= 1

    def _check_calls(self, instance: Instance, served: FunctionVersion, now: float) -> None:
        """Answer calls whose time is over, and end a process that has no other."""
        begun = self.fleet.begun(instance)
        for call in instance.calls.values():
            if call.deadline <= now and not call.is_answered:
                self._expire(call, has_begun=call in begun)
                self._tell_instance(FrameKind.CANCEL, call)
        # A call cannot be taken back from a function that does not look; its process can be.
        grace_s = CANCEL_GRACE_S if served.spec.is_async else 0.0
        if all(call.deadline + grace_s <= now for call in begun):
            self.fleet.forget(instance)
            instance.terminate()

    def _tell_instance(self, kind: int, call: Call) -> None:
        assert call.instance is not None
        for id_, running in call.instance.calls.items():
            if running is call:
                call.instance.send(kind, id_)

    def _expire(self, call: Call, *, has_begun: bool) -> None:
        seconds = call.deadline - call.received
        where = "while it ran" if has_begun else "while it waited for a free instance"
        told = f"the deadline passed {where}, {round(seconds, 2):g} s after the call had come"
        self._answer(call, calls.problem(Outcome.TIMED_OUT, told))

    def _answer(self, call: Call, payload: bytes) -> None:
        if call.is_answered:
            return
        call.is_answered = True
        outcome = payload[0]
        self._count(call, outcome)
        if outcome in _TOLD:
            _tell(call, payload)
        call.origin.answer(call.id, payload)
        call.payload = b""  # its instance may run the call for longer

    def _count(self, call: Call, outcome: int) -> None:
        if call.is_counted:
            self._metrics.ended(call.entry.spec.name, outcome, time.monotonic() - call.received)


def _removed(entry: FunctionQueue) -> str:
    return f"{entry.spec.name} was removed"


def _broken(entry: FunctionQueue, problem: BrokenFile) -> bytes:
    """The reply of a function whose instances do not start, with when that is tried again."""
    retry_after_s = max(1, math.ceil(entry.retry_at - time.monotonic()))
    told = f"{entry.spec.name} cannot be loaded: {problem.error}"
    return calls.problem(Outcome.BROKEN, told, retry_after_s=retry_after_s)


def _tell(call: Call, payload: bytes) -> None:
    """Log a call that ended badly through the function's own doing."""
    problem = json.loads(calls.parse_reply(payload)[2])
    head, _ = calls.parse_call(call.payload)
    extra = {"function": head.name, "request": head.context}
    log.warning("%s: %s", head.name, problem["detail"], extra=extra)
