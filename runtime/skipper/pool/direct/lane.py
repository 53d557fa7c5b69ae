"""The direct lane: bounded queues, slots, batches, deadlines, one answer per call."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass

from skipper.outcomes import LOGGED, Outcome
from skipper.pool.direct import recalls, replies
from skipper.pool.direct.fleet import Fleet
from skipper.pool.direct.queue import AHEAD_BYTES, DirectCall, EditionQueue, Origin
from skipper.pool.direct.retries import Retries
from skipper.pool.direct.swaps import Swaps
from skipper.pool.direct.versions import LiveVersions
from skipper.pool.direct.waiting import WaitingCalls
from skipper.pool.metrics import EditionFigures, PoolMetrics
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
from skipper.wire.lines import Cause
from skipper.wire.tallies import parse_tallies

log = logging.getLogger(__name__)

SWEEP_S = 0.05
"""How often deadlines, waiting times and idle instances are looked at."""
BATCH_BYTES = 64 << 20
"""A batch that has come to this many bytes takes no more calls."""
CANCEL_GRACE_S = 5.0
"""How long after its deadline an ``async def`` call may take to stop; then its process is ended."""

OWED_S = 1.0
"""An instance that owes an answer for so long after its deadline is replaced."""
_DIRECT = Lane.DIRECT.value


@dataclass(frozen=True, kw_only=True)
class DirectLimits:
    """What no setting changes."""

    batch_bytes: int = BATCH_BYTES


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
        self.versions = LiveVersions()
        metrics.editions = self._figures
        self.fleet = Fleet(
            self,
            serving,
            most=slots.capacity,
            most_idle=settings.idle_instances,
        )
        self.swaps = Swaps(self.versions, self.fleet, serving, self._drop)
        serving.tell(self.swaps)
        self.slots = slots
        self._waiting = WaitingCalls(settings)
        self._retries = Retries(settings, self._try_again)

    # --- calls ---

    def submit(self, origin: Origin, id_: int, payload: bytes) -> DirectCall | None:
        """Run a call as soon as an instance is free; None where it was answered at once."""
        key = calls.call_key(payload)
        if (queue := self.versions.assigned.get(key.name)) is None:
            self._metrics.ended("", Outcome.NOT_FOUND, 0.0)
            origin.answer(id_, replies.not_served(key.name))
            return None
        if queue.canary is not None and queue.canary.takes(payload):
            queue = queue.canary.queue
        call = DirectCall(origin, id_, payload, queue, key)
        if not queue.calls and not queue.spec.batch_wait_s:
            instance = self._free_instance(call)
            if instance is not None:
                self._dispatch([call], instance)
                return call
        if (refusal := self._refusal(call)) is not None:
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
                self._waiting.remove(call)
        else:
            self._send_instance(FrameKind.CANCEL, call)

    def credit(self, call: DirectCall, credit: bytes) -> None:
        """The caller has taken items of the call's stream; let more come."""
        if call.instance is not None and not call.is_answered:
            self._send_instance(FrameKind.CREDIT, call, credit)

    def on_frame(self, instance: Instance[DirectCall], frame: Frame) -> None:
        """A frame of a call that one of this lane's instances runs."""
        if frame.kind == FrameKind.REPLY:
            before = instance.idle_since
            call = instance.done(frame.id)
            if call is not None:
                self._end(call, uncancelled(frame.payload))
                if not instance.calls and not instance.waiting:
                    self.slots.leave()
                if not instance.calls or call.queue.version.is_in_turn:
                    call.queue.ran(instance.idle_since - max(call.started, before))
                self.fleet.freed(call.queue, instance)
                if self._waiting.ring:
                    self._pump()
        elif frame.kind in (FrameKind.ITEM, FrameKind.SERVED):
            self._streamed(instance.calls.get(frame.id), frame)
        elif frame.kind == FrameKind.RECALL:
            self._recalled(instance, frame)
        elif frame.kind == FrameKind.SIZE:
            self._metrics.batch_sizes[instance.job.function].observe(frame.id)
        elif frame.kind == FrameKind.TALLIES:
            self._metrics.tallied(instance.job.function, parse_tallies(frame.payload))

    def _streamed(self, call: DirectCall | None, frame: Frame) -> None:
        if call is not None and not call.is_answered:
            call.has_streamed = True
            call.origin.send(frame.kind, call.id, frame.payload)

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
            self._end(call, replies.died(call.queue, instance.death_reason))
        self.fleet.gone(instance)
        for call in reversed(held[len(begun) :]):
            self._wait_again(call)
        self._pump()

    def on_printed(self, instance: Instance[DirectCall], printed: Printed) -> Cause | None:
        """What it prints is due to the call that it runs, where that can only be one."""
        running = list(itertools.islice(instance.calls.values(), 2))
        if len(running) == 1 or (running and running[0].queue.spec.is_in_turn):
            return calls.cause_of(running[0].payload)
        return None

    def on_worn(self, instance: Instance[DirectCall]) -> None:
        self.fleet.replace(instance)

    def lend_slot(self) -> None:
        self.slots.lend()
        self._pump()

    def take_back_slot(self) -> None:
        self.slots.take_back()

    def threads_for(self, version: FunctionVersion) -> int | None:
        """The usual share: how many calls run at once changes within milliseconds."""

    # --- versions of functions ---

    async def warm(self, version: FunctionVersion) -> BrokenFile | None:
        """Have as many instances of a version ready as serve its function now.

        What is wrong where one cannot serve.
        """
        await self._serving.learn(version)
        assigned = self.versions.assigned_beside(version)
        if assigned is None or not assigned.instances:
            return None
        while True:
            queue = self.versions.queue(self._serving.edition(version))
            problem = await self.fleet.warm(queue, len(assigned.instances))
            if problem is None:
                self.versions.move(queue)
                return None
            self._drop(queue)
            if self._serving.edition(version) == queue.edition:  # it is not a model's fault
                return problem

    def assign(self, version: FunctionVersion) -> None:
        """Send this version the calls of its function that come from now on.

        The version before stays beside it and runs what it was sent, until it is retired.
        """
        if self.versions.current_of(version) is None:
            self.versions.move(self.versions.queue(self._serving.edition(version)))
        self.versions.assign(version)
        spec, most = version.spec, self._settings.queue
        if spec.batch > most:
            log.warning(
                "%s: batch=%d is more than pools.%s.queue = %d: no more calls than those wait, so "
                "no batch is larger, and callers beyond them are refused",
                *(spec.name, spec.batch, spec.pool, most),
                extra={"function": spec.name},
            )
        self.swaps.follow()  # its models may be others than when it was warmed

    def retire(self, version: FunctionVersion) -> None:
        """Send a version no more calls, and stop its instances, busy ones when done.

        What waits for it goes to the version that is assigned. If it is itself that one, its
        function is served no more, and that is the answer.
        """
        self.swaps.retired(version)
        for queue in self.versions.retire(version):
            self._leave(queue)

    def _drop(self, queue: EditionQueue) -> None:
        """Send an edition no more calls, and stop its instances, busy ones when done."""
        self.versions.drop(queue)
        self._leave(queue)

    def _leave(self, queue: EditionQueue) -> None:
        if not queue.is_retired:
            queue.figures = self._metrics.taken_in(queue.spec.name, queue.figures)
        self.fleet.retire(queue)
        if (assigned := self.versions.assigned_beside(queue.version)) is None:
            self._empty(queue, replies.removed(queue))
        elif queue.calls:
            self._waiting.move(queue, assigned)
            self._pump()

    # --- the rest of its life ---

    @property
    def queued(self) -> int:
        """Calls that wait."""
        return self._waiting.count

    @property
    def _is_at_work(self) -> bool:
        return bool(self.slots.busy > 0 or self.queued or self._retries.count)

    def sweep(self, now: float) -> None:
        """Enforce deadlines and waiting times; let the fleet follow the load."""
        for queue in self.versions:
            if not queue.is_active:
                continue
            if queue.calls:
                self._check_queue(queue, now)
            is_assigned, kept = self.versions.is_assigned(queue), self.versions.kept(queue)
            self.fleet.sweep(queue, now, is_assigned=is_assigned, kept=kept)
        for instance, queue in list(self.fleet.all.items()):
            if not instance.is_alive:
                continue
            if instance.calls:
                self._check_calls(instance, queue.version, now)
                if instance.is_alive:
                    recalls.ask(instance, queue.version, now)
            elif now - instance.held_at > CANCEL_GRACE_S:  # held by what is no call
                self._end_process(instance)
        self.fleet.trim()
        self._pump()

    async def close(self, grace_s: float) -> None:
        """Let what runs end, for at most ``grace_s``."""
        ends = time.monotonic() + grace_s
        while self._is_at_work and time.monotonic() < ends:  # noqa: ASYNC110 - a bound
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
            # A large call waits where what waits is counted in bytes.
            may_lie_ready=call.size <= AHEAD_BYTES and (has_slot or not self._waiting.ring),
        )

    def _wait(self, call: DirectCall) -> None:
        queue = call.queue
        self._waiting.add(call, is_first=call.depth > 0)  # until that ends, it holds up its caller
        if not queue.instances:
            self.fleet.grow(queue)
        elif queue.spec.batch_wait_s:
            self._pump()

    def _wait_again(self, call: DirectCall) -> None:
        """Put a call that had not begun before those that wait."""
        if call.is_answered:
            return
        call.instance, queue = None, call.queue
        if queue.is_retired:
            if (assigned := self.versions.assigned_beside(queue.version)) is None:
                self._answer(call, replies.removed(queue))
                return
            call.queue = assigned
        self._waiting.add(call, is_first=True)

    def _pump(self) -> None:
        """Give free slots to waiting calls, version by version in turn, until none can go on."""
        self._waiting.go_round(self._feed)

    def _feed(self, queue: EditionQueue) -> bool:
        """Dispatch a waiting call, or a batch of them, if an instance is free; whether one was."""
        self._waiting.drop_answered(queue)
        if not queue.calls or not self._is_due(queue):
            return False
        instance = self._free_instance(queue.calls[0])
        if instance is None:
            return False
        self._dispatch(self._waiting.take_batch(queue, self._batch_bytes), instance)
        return True

    def _is_due(self, queue: EditionQueue) -> bool:
        """Whether a batch may go; if not, a timer sees to it that it does in time."""
        left = queue.due_in(time.monotonic())
        if left > 0 and not queue.is_alarmed:
            queue.is_alarmed = True
            asyncio.get_running_loop().call_later(left, self._alarm, queue)
        return left <= 0

    def _alarm(self, queue: EditionQueue) -> None:
        queue.is_alarmed = False
        self._pump()

    def _refusal(self, call: DirectCall) -> bytes | None:
        """Why a call cannot even wait, as a reply; None where it can."""
        if (full := self._waiting.refusal(call)) is not None:
            return full
        queue = call.queue
        if queue.instances or queue.starting:
            return None
        if reason := self._serving.untrained(queue.version):
            return calls.problem(Outcome.UNAVAILABLE, reason)
        if queue.load_error is not None and time.monotonic() < queue.retry_at:
            queue.is_wanted = True
            return replies.broken(queue, queue.load_error)
        return None

    def on_ready(self) -> None:
        self._pump()

    def on_failed(self, queue: EditionQueue, problem: BrokenFile) -> None:
        if not self.swaps.gives_up(queue, problem):
            self._empty(queue, replies.broken(queue, problem))

    def _empty(self, queue: EditionQueue, reply: bytes) -> None:
        for call in self._waiting.take_all(queue):
            self._answer(call, reply)

    def _check_queue(self, queue: EditionQueue, now: float) -> None:
        longest = self._settings.queue_wait_s
        for call in list(queue.calls):
            if call.deadline <= now:
                self._waiting.remove(call)
                self._answer(call, replies.expired(call, has_begun=False))
            elif now - call.received > longest:
                self._waiting.remove(call)
                self._answer(call, replies.waited_in_vain(queue, longest))

    def _check_calls(
        self, instance: Instance[DirectCall], version: FunctionVersion, now: float
    ) -> None:
        """Answer calls whose time is over, and end a process that has no other."""
        begun = self.fleet.begun(instance)
        for call in instance.calls.values():
            if call.deadline <= now and not call.is_answered:
                self._answer(call, replies.expired(call, has_begun=call in begun))
                self._send_instance(FrameKind.CANCEL, call)
        # A call cannot be taken back from a function that does not look; its process can be.
        grace_s = CANCEL_GRACE_S if version.spec.is_async else 0.0
        if all(call.deadline + grace_s <= now for call in begun):
            self._end_process(instance)
            return
        owed_s = max(now - call.deadline for call in begun)
        if owed_s >= 0:
            instance.hold(now)
        if owed_s >= OWED_S:  # those beside it may end; others are for another instance
            self.fleet.forget(instance)

    def _end_process(self, instance: Instance[DirectCall]) -> None:
        self.fleet.forget(instance)
        instance.terminate()

    def _recalled(self, instance: Instance[DirectCall], frame: Frame) -> None:
        """A call comes back that had not begun, or what had held its instance is over."""
        if not frame.id:
            instance.go_on()
        elif (
            call := recalls.take(instance, frame.id, frame.payload.decode(errors="replace"))
        ) is not None:
            if not instance.calls and not instance.waiting:
                self.slots.leave()
            self._wait_again(call)
            self.fleet.freed(call.queue, instance)
        self._pump()

    def _send_instance(self, kind: int, call: DirectCall, payload: bytes = b"") -> None:
        assert call.instance is not None
        for id_, running in call.instance.calls.items():
            if running is call:
                call.instance.send(kind, id_, payload)

    def _end(self, call: DirectCall, payload: bytes) -> None:
        """A run of a call has ended: it is answered, or tried again."""
        if self._retries.takes(call, payload):
            self._metrics.attempted(call.queue.spec.name, _DIRECT, payload[0])
        else:
            self._answer(call, payload)

    def _try_again(self, call: DirectCall) -> None:
        self._wait_again(call)
        if not call.is_answered and not call.queue.instances:
            self.fleet.grow(call.queue)
        self._pump()

    def _answer(self, call: DirectCall, payload: bytes) -> None:
        if call.is_answered:
            call.origin.discard(payload)
            return
        call.is_answered = True
        outcome = payload[0]
        self._count(call, outcome)
        if outcome in LOGGED:
            replies.log_failure(call, payload)
        call.origin.answer(call.id, payload)
        call.payload = b""  # its instance may run the call for longer

    def _figures(self) -> Iterator[EditionFigures]:
        for each in self.versions:
            yield EditionFigures(each.spec.name, each.edition.models, each.figures)

    def _count(self, call: DirectCall, outcome: int) -> None:
        name = call.queue.spec.name
        call.queue.figures.ended(outcome, time.monotonic() - call.received)
        if call.instance is not None:
            self._metrics.attempted(name, _DIRECT, outcome)
