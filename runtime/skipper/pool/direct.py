"""The direct lane: bounded queues per function, slots, deadlines, one answer per call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from skipper import wire
from skipper.errors import SkipperError
from skipper.instance.aio import CALLS_AT_ONCE
from skipper.instance.jobs import Report
from skipper.pool.catalogue import Entry, Served
from skipper.pool.instance import Instance, State
from skipper.pool.metrics import PoolMetrics
from skipper.settings import PoolSettings
from skipper.spec import BrokenFile
from skipper.task import Outcome
from skipper.wire import Frame, FrameProtocol, Kind

log = logging.getLogger(__name__)

SWEEP_S = 0.05
"""How often deadlines, waiting times and idle instances are looked at."""
PATIENCE_S = 0.025
"""A call that has waited longer than this is worth one more instance."""
IDLE_S = 300.0
RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between starts of instances that do not become ready."""

_TOLD = (Outcome.FAILED, Outcome.DIED, Outcome.TIMED_OUT)
"""What the log tells of."""


class Call:
    """A direct call from its arrival to its one answer."""

    __slots__ = (
        "deadline",
        "entry",
        "id",
        "instance",
        "is_answered",
        "origin",
        "payload",
        "received",
        "started",
    )

    def __init__(
        self, origin: FrameProtocol, id_: int, payload: bytes, entry: Entry, now: float
    ) -> None:
        self.origin, self.id, self.payload, self.entry = origin, id_, payload, entry
        budget = wire.call_budget_ms(payload)
        self.received = now
        self.deadline = now + budget / 1000 if budget else float("inf")
        self.instance: Instance | None = None
        self.started = 0.0
        self.is_answered = False


class DirectLane:
    """Direct calls of one pool.

    ``start`` starts an instance of a function; ``missing`` names the models that a function needs and
    nobody has trained yet.
    """

    def __init__(
        self,
        settings: PoolSettings,
        slots: int,
        entries: Mapping[bytes, Entry],
        *,
        start: Callable[[Served], Awaitable[tuple[Instance, Report]]],
        missing: Callable[[Served], str],
        metrics: PoolMetrics,
    ) -> None:
        self._settings, self._entries = settings, entries
        self._start, self._missing, self._metrics = start, missing, metrics
        self.slots = self._free = slots
        self._ring: deque[Entry] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- calls ---

    def submit(self, origin: FrameProtocol, id_: int, payload: bytes) -> Call | None:
        """Run a call as soon as an instance is free; None where it was answered at once."""
        entry = self._entries.get(wire.call_name(payload))
        if entry is None:
            self._refuse(
                origin, id_, payload, Outcome.NOT_FOUND, "the function is no longer served"
            )
            return None
        call = Call(origin, id_, payload, entry, time.monotonic())
        if (
            self._free > 0
            and not entry.queue
            and (instance := self._free_instance(entry)) is not None
        ):
            self._dispatch(call, instance)
        elif len(entry.queue) >= self._settings.queue:
            self._answer(
                call,
                wire.problem(
                    Outcome.BUSY,
                    f"{len(entry.queue)} calls of {entry.spec.name} are waiting already",
                ),
            )
            return None
        elif (reason := self._unable(entry)) is not None:
            self._answer(call, reason)
            return None
        else:
            self._wait(call)
        return call

    def cancel(self, call: Call) -> None:
        """The caller is gone: free its place, and tell the function."""
        if call.is_answered:
            return
        call.is_answered = True
        self._metrics.ended(
            call.entry.spec.name, Outcome.CANCELLED, time.monotonic() - call.received
        )
        if call.instance is None:
            with contextlib.suppress(ValueError):
                call.entry.queue.remove(call)
        else:
            self._each_call(call, call.instance.cancel)

    def on_frame(self, instance: Instance, frame: Frame) -> None:
        """A frame of a call that one of this lane's instances runs."""
        if frame.kind == Kind.REPLY:
            call = instance.done(frame.id)
            if call is not None:
                self._answer(call, frame.payload)
                self._freed(instance)
        elif (
            frame.kind == Kind.ITEM
            and (call := instance.calls.get(frame.id)) is not None
            and not call.is_answered
        ):
            call.origin.send(Kind.ITEM, call.id, frame.payload)

    def on_gone(self, instance: Instance) -> None:
        """An instance's process has ended; so have the calls it ran."""
        for id_ in list(instance.calls):
            call = instance.done(id_)
            self._answer(
                call,
                wire.problem(
                    Outcome.DIED,
                    f"the process that ran {call.entry.spec.name} died: {instance.death_reason}",
                ),
            )
            self._free += _slot(instance)
        for entry in self._entries.values():
            with contextlib.suppress(ValueError):
                entry.served.instances.remove(instance)
        self._pump()

    def lend_slot(self, instance: Instance) -> None:
        """A call of ``instance`` waits for a call of its own: others may use its slot meanwhile."""
        instance.waiting += 1
        self._free += 1
        self._pump()

    def return_slot(self, instance: Instance) -> None:
        instance.waiting -= 1
        self._free -= 1

    # --- functions ---

    async def warm(self, served: Served) -> BrokenFile | None:
        """Start one instance of a version that will take over; what is wrong where that fails."""
        if self._missing(served):
            return None
        return await self._add_instance(served)

    def retire(self, served: Served) -> None:
        """Stop the instances of a version that nobody is sent to any more, busy ones once they are done."""
        for instance in list(served.instances):
            if not instance.calls:
                served.instances.remove(instance)
                instance.stop()
        self._pump()

    def drop(self, entry: Entry) -> None:
        """Answer what waits for a function that is gone."""
        while entry.queue:
            self._answer(
                entry.queue.popleft(),
                wire.problem(Outcome.NOT_FOUND, f"{entry.spec.name} was removed"),
            )

    def sweep(self, now: float) -> None:
        """Enforce deadlines, add instances where calls wait, stop those that nobody needs."""
        for entry in list(self._entries.values()):
            while entry.queue and (entry.queue[0].is_answered or entry.queue[0].deadline <= now):
                self._expire(entry.queue.popleft())
            for instance in list(entry.served.instances):
                self._check_instance(entry, instance, now)
            if entry.queue and now - entry.queue[0].received > PATIENCE_S:
                self._grow(entry)

    @property
    def queued(self) -> int:
        return sum(len(entry.queue) for entry in self._ring)

    @property
    def busy(self) -> int:
        return self.slots - self._free

    async def close(self, grace_s: float) -> None:
        """Let what runs end, for at most ``grace_s``."""
        ends = time.monotonic() + grace_s
        while (self.busy > 0 or self.queued) and time.monotonic() < ends:
            await asyncio.sleep(SWEEP_S)

    # --- inside ---

    def _free_instance(self, entry: Entry) -> Instance | None:
        at_once = CALLS_AT_ONCE if entry.spec.is_async else 1
        for instance in reversed(entry.served.instances):
            if (
                len(instance.calls) < at_once
                and instance.is_alive
                and instance.state is not State.STARTING
            ):
                return instance
        return None

    def _dispatch(self, call: Call, instance: Instance) -> None:
        call.instance, call.started = instance, time.monotonic()
        self._free -= _slot(instance)
        payload = call.payload
        if call.deadline != float("inf"):
            payload = wire.with_budget(payload, max(1, int((call.deadline - call.started) * 1000)))
        instance.call(payload, call)

    def _freed(self, instance: Instance) -> None:
        self._free += _slot(instance)
        entry = self._entries.get(instance.job.function.encode())
        is_current = entry is not None and instance in entry.served.instances
        if not is_current and not instance.calls:
            instance.stop()
        if self._ring:
            self._pump()

    def _wait(self, call: Call) -> None:
        entry = call.entry
        entry.queue.append(call)
        if not entry.is_queued:
            entry.is_queued = True
            self._ring.append(entry)
        if not entry.served.instances and not entry.served.starting:
            self._grow(entry)

    def _pump(self) -> None:
        """Give free slots to waiting calls, function by function in turn."""
        for _ in range(len(self._ring)):
            if self._free <= 0:
                return
            entry = self._ring.popleft()
            if self._feed(entry):
                self._ring.append(entry)
            else:
                entry.is_queued = False

    def _feed(self, entry: Entry) -> bool:
        """Dispatch one waiting call if an instance is free; whether more are waiting."""
        while entry.queue and entry.queue[0].is_answered:
            entry.queue.popleft()
        if entry.queue and (instance := self._free_instance(entry)) is not None:
            self._dispatch(entry.queue.popleft(), instance)
        return bool(entry.queue)

    def _unable(self, entry: Entry) -> bytes | None:
        """Why no instance of this function can be had now, as a reply; None where one can."""
        if entry.served.instances or entry.served.starting:
            return None
        if reason := self._missing(entry.served):
            return wire.problem(Outcome.UNAVAILABLE, reason)
        if entry.load_error is not None and time.monotonic() < entry.retry_at:
            return wire.problem(
                Outcome.BROKEN, f"{entry.spec.name} cannot be loaded: {entry.load_error.error}"
            )
        return None

    def _grow(self, entry: Entry) -> None:
        served = entry.served
        most = min(entry.spec.max_instances or self.slots, self.slots)
        if served.starting or len(served.instances) >= most or time.monotonic() < entry.retry_at:
            return
        served.starting += 1
        self._spawn_task(self._grow_now(entry, served))

    async def _grow_now(self, entry: Entry, served: Served) -> None:
        try:
            problem = await self._add_instance(served)
        finally:
            served.starting -= 1
        if problem is None:
            entry.load_error, entry.failures = None, 0
        else:
            entry.load_error = problem
            entry.retry_at = time.monotonic() + RETRY_S[min(entry.failures, len(RETRY_S) - 1)]
            entry.failures += 1
            log.error(
                "%s cannot be loaded: %s",
                entry.spec.name,
                problem.error,
                extra={"function": entry.spec.name},
            )
            if not served.instances:
                while entry.queue:
                    self._answer(
                        entry.queue.popleft(),
                        wire.problem(
                            Outcome.BROKEN, f"{entry.spec.name} cannot be loaded: {problem.error}"
                        ),
                    )
        if entry.served is not served:
            self.retire(served)
        self._pump()

    async def _add_instance(self, served: Served) -> BrokenFile | None:
        try:
            instance, report = await self._start(served)
        except (OSError, TimeoutError, SkipperError) as error:
            return BrokenFile(
                file=str(served.source.file), error=str(error) or type(error).__name__
            )
        if report.broken:
            instance.stop()
            return report.broken[0]
        if instance.is_alive:
            served.instances.append(instance)
        return None

    def _check_instance(self, entry: Entry, instance: Instance, now: float) -> None:
        for call in list(instance.calls.values()):
            if call.deadline <= now and not call.is_answered:
                self._expire(call)
                if entry.spec.is_async:
                    self._each_call(call, instance.cancel)
                else:  # the call cannot be taken back from a function that does not look; its process can
                    entry.served.instances.remove(instance)
                    instance.terminate()
                    return
        idle_s = entry.spec.idle_s or IDLE_S
        if not instance.calls and now - instance.idle_since > idle_s:
            entry.served.instances.remove(instance)
            instance.stop()

    def _each_call(self, call: Call, act: Callable[[int], None]) -> None:
        assert call.instance is not None
        for id_, running in call.instance.calls.items():
            if running is call:
                act(id_)

    def _expire(self, call: Call) -> None:
        seconds = call.deadline - call.received
        where = "while it ran" if call.instance else "while it waited for a free instance"
        self._answer(
            call, wire.problem(Outcome.TIMED_OUT, f"the deadline of {seconds:.3g} s passed {where}")
        )

    def _refuse(
        self, origin: FrameProtocol, id_: int, payload: bytes, outcome: Outcome, detail: str
    ) -> None:
        self._metrics.ended("", outcome, 0.0)
        origin.send(
            Kind.REPLY, id_, wire.problem(outcome, f"{wire.call_name(payload).decode()}: {detail}")
        )

    def _answer(self, call: Call, payload: bytes) -> None:
        if call.is_answered:
            return
        call.is_answered = True
        outcome = payload[0]
        if not wire.call_flags(call.payload) & wire.CHECK:
            self._metrics.ended(call.entry.spec.name, outcome, time.monotonic() - call.received)
        if outcome in _TOLD:
            _tell(call, payload)
        call.origin.send(Kind.REPLY, call.id, payload)

    def _spawn_task(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _tell(call: Call, payload: bytes) -> None:
    """Log a call that ended badly through the function's own doing."""
    problem = json.loads(wire.parse_reply(payload)[2])
    head, _ = wire.parse_call(call.payload)
    extra = {"function": head.name, "request": head.context}
    log.warning("%s: %s", head.name, problem["detail"], extra=extra)


def _slot(instance: Instance) -> int:
    """What the first call of an instance takes and its last one gives back: one slot, however many run."""
    return 0 if instance.calls else 1
