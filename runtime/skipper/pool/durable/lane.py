"""The durable lane: takes ids, claims them in the ledger as slots are free, runs the tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger import tasks
from skipper.ledger.records import Claim, Claiming
from skipper.outcomes import Outcome
from skipper.pool.durable.attempt import LaneContext, RunningAttempt
from skipper.pool.durable.recorder import Recorder
from skipper.pool.durable.reserve import NotRunError, Reserve
from skipper.pool.durable.shortlist import ShortList
from skipper.pool.durable.slots import PATIENCE_S, Slots
from skipper.pool.processes.instance import Instance, InstanceState, uncancelled
from skipper.pool.processes.output import Printed
from skipper.pool.processes.version import FunctionVersion
from skipper.wire import calls
from skipper.wire.events import EmittedEvent, InstanceEvent, LeftOut, SavedModel, parse_event
from skipper.wire.frames import Frame, FrameKind

log = logging.getLogger(__name__)

SHORT_LIST = 8
"""Ids held per slot; further messages stay with the broker."""
FRESH_S = 0.1
"""How long the ledger's word on what waits is good enough, where more waits than may start."""
POLL_S = 1.0
CANCEL_GRACE_S = 2.0
"""How long a cancelled function may look at ``run.cancelled`` before it is interrupted."""
NOTED_S = 0.5
"""What has run this long is noted in the ledger: instance, code, models, deadline."""
_CANCELLED = "the task was cancelled"
GONE_S = 10.0
"""The end of an attempt is written this long after its process was killed at the latest."""


class TaskLane:
    """Tasks of one pool, at most ``slots`` at once."""

    def __init__(self, pool: str, host_id: str, slots: int, context: LaneContext) -> None:
        self.pool, self.host_id, self.slots = pool, host_id, slots
        self._context = context
        self._recorder = Recorder(host_id, context)
        self._reserve = Reserve(pool, context)
        self.running: dict[str, RunningAttempt] = {}
        """What the ledger has running here: in a slot, or just before or after it."""
        self._slots = Slots(slots)
        self._list = ShortList(SHORT_LIST * slots)
        self._looked_at = -math.inf
        self._claiming: set[str] = set()
        self._unwanted: set[str] = set()
        self._untaken: deque[tuple[list[str], Callable[[], None]]] = deque()
        self._work = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()
        self._is_draining = self._is_closed = False
        self._found_work = False
        self._strays: set[tuple[str, int]] = set()

    # --- intake ---

    def take(self, ids: list[str], taken: Callable[[], None]) -> None:
        """Put ids from the broker on the short list; ``taken`` runs when they are on it."""
        self._untaken.append((ids, taken))
        self._admit()
        self._work.set()

    def nudge(self, task_id: str) -> None:
        """A task has been accepted on this machine: a host that is at rest need not wait for more.

        The broker names it too, and whoever asks the ledger finds it.
        """
        if self.free and not self._list:
            self._list.add([task_id])
        else:
            self._found_work = True
        self._work.set()

    def _admit(self) -> None:
        while self._untaken and self._list.has_room and not self._is_draining:
            ids, taken = self._untaken.popleft()
            self._list.add(ids)
            failpoint("tasks.listed")
            taken()

    @property
    def free(self) -> int:
        """Slots that a task could have at once."""
        return max(0, self._slots.free)

    @property
    def waiting(self) -> int:
        """Ids on the short list."""
        return len(self._list)

    def priority_of(self, task_id: str) -> int | None:
        """The priority of a task that runs here; None where none does."""
        attempt = self.running.get(task_id)
        return attempt.claim.task.priority if attempt else None

    async def run(self) -> None:
        """Claim and start work for ever."""
        while True:
            try:
                await asyncio.wait_for(self._work.wait(), POLL_S)
            except TimeoutError:
                self._found_work = True
            self._work.clear()
            try:
                await self._fill()
            except SkipperError as error:
                log.warning("the ledger cannot be asked for work: %s", error)
                await asyncio.sleep(POLL_S)

    async def _fill(self) -> None:
        while (wanted := self._slots.wanted(time.monotonic())) > 0 and not self._is_draining:
            if self._has_to_look(wanted):
                await self._look()
            if not self._list:
                return
            await self._claim(wanted)

    def _has_to_look(self, wanted: int) -> bool:
        """Whether to ask the ledger before the next claim.

        Not while everything that waits may start: then there is nothing to choose.
        """
        if not self._list:
            return self._found_work
        is_stale = time.monotonic() - self._looked_at > FRESH_S
        return self._list.is_spent or (is_stale and not self._list.settles(wanted))

    async def _look(self) -> None:
        """Ask the ledger what waits, and put the list in order."""
        now, each, known = time.time(), self._list.room, self._list.ids
        found = await self._context.ledger.read(
            lambda conn: tasks.waiting(conn, self.pool, now, each)
        )
        self._looked_at = time.monotonic()
        # An attempt may be over and its process not yet gone.
        self._list.arrange([item for item in found if item.id not in self.running], known)
        self._found_work = bool(found)
        self._admit()

    async def _claim(self, wanted: int) -> None:
        ids = [id_ for id_ in self._list.take(wanted) if id_ not in self.running]
        self._admit()
        if not ids:
            return
        failpoint("tasks.claiming")
        now = time.time()
        claiming = Claiming(ids=tuple(ids), host=self.host_id, now=now)
        self._claiming, self._unwanted = set(ids), set()
        try:
            claims = await self._context.ledger.merge(tasks.claim_all, claiming, durable=False)
        finally:
            self._claiming = set()
        failpoint("tasks.claimed")
        for claim in claims:
            self._begin(claim, now)
        if self._slots.waiting:
            loop = asyncio.get_running_loop()
            loop.call_later(PATIENCE_S, self._give_back_overdue)
        if claims:
            self._found_work = True
            self._context.changed(claim.task.id for claim in claims)

    def _begin(self, claim: Claim, now: float) -> None:
        task = claim.task
        self._list.started(task.function)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        attempt = self.running[task.id] = RunningAttempt(claim=claim, reply=reply)
        waited_s = max(0.0, now - task.available_at)  # it may have been accepted by another clock
        self._context.metrics.task_waits[task.function].observe(waited_s)
        if task.id in self._unwanted:
            self.cancel(task.id)
        self._slots.wait(attempt, time.monotonic())
        self._start_waiting()

    def _start_waiting(self) -> None:
        """Give free slots to the attempts that wait for one."""
        while not self._is_draining and (attempt := self._slots.next()) is not None:
            self._spawn(self._run(attempt))
        self._work.set()

    # --- one attempt ---

    async def _run(self, attempt: RunningAttempt) -> None:
        """Run an attempt in its slot, which others may have before its end is on the disk."""
        began = time.monotonic()
        try:
            reply = await self._reply(attempt)
        except Exception:
            log.exception("an attempt failed in its host", extra={"task": attempt.claim.task.id})
            reply = calls.problem(Outcome.DIED, "its host failed; the log tells more")
            if attempt.instance is not None:
                await self._end_process(attempt.instance)
        self._leave_slot(attempt, began)
        await self._end(attempt, reply)

    def _leave_slot(self, attempt: RunningAttempt, began: float) -> None:
        instance = attempt.instance
        if (
            instance is not None and instance.state is InstanceState.STOPPING
        ):  # it is in it for as long
            instance.gone.add_done_callback(lambda _: self._left_slot(began))
        else:
            self._left_slot(began)

    def _left_slot(self, began: float) -> None:
        now = time.monotonic()
        self._slots.leave(now - began, now)
        self._start_waiting()

    async def _end(self, attempt: RunningAttempt, reply: bytes) -> None:
        """Record how an attempt ended."""
        task = attempt.claim.task
        try:
            if not self._is_closed and await self._recorder.finish(attempt, reply):
                self._list.ended(task.id)
        except Exception:
            # The ledger has it as running here until `give_back_strays` finds that it is not.
            log.exception("the end of a task could not be recorded", extra={"task": task.id})
        finally:
            if attempt.instance is not None and attempt.instance.state is InstanceState.STOPPING:
                await attempt.instance.until_gone()  # the next attempt must not run beside it
            self.running.pop(task.id, None)
            self._work.set()

    async def _reply(self, attempt: RunningAttempt) -> bytes:
        """Run the function; its reply, or the host's where it has none."""
        if attempt.verdict is not None:  # cancelled while it was claimed
            return attempt.verdict
        attempt.preparing = asyncio.ensure_future(self._reserve.prepare(attempt))
        try:
            instance, body = await attempt.preparing
        except NotRunError as error:
            return error.reply
        except asyncio.CancelledError:
            if attempt.verdict is None:
                raise
            return attempt.verdict
        return await self._call(attempt, instance, body)

    async def _call(self, attempt: RunningAttempt, instance: Instance, body: bytes) -> bytes:
        task = attempt.claim.task
        if self._is_closed:
            return calls.problem(Outcome.UNAVAILABLE, "the host shuts down")
        if attempt.verdict is not None:  # cancelled as it was ready
            self._reserve.keep(instance)
            return attempt.verdict
        if not instance.is_alive:
            told = f"the process that was to run it died: {instance.death_reason}"
            return calls.problem(Outcome.DIED, told)
        attempt.instance = instance
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

    async def _end_process(self, instance: Instance) -> None:
        """Nothing of an attempt may happen after its end has been written."""
        instance.stop()
        await instance.until_gone(GONE_S)

    @contextlib.contextmanager
    def _alarms(self, attempt: RunningAttempt) -> Iterator[None]:
        """Enforce the attempt's deadline while it runs, and note in the ledger that it does."""
        loop, timeout_s = asyncio.get_running_loop(), attempt.claim.task.timeout_s
        alarms = [loop.call_later(NOTED_S, self._note_start, attempt, time.time())]
        if timeout_s is not None:
            alarms.append(loop.call_later(timeout_s, self._time_out, attempt))
        try:
            yield
        finally:
            for alarm in alarms:
                alarm.cancel()

    def _note_start(self, attempt: RunningAttempt, started_at: float) -> None:
        self._spawn(self._recorder.note_start(attempt, started_at))

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
        attempt = self.running.get(task_id)
        if attempt is None:
            self._unwanted |= self._claiming & {task_id}
            return task_id in self._unwanted
        if attempt.verdict is None:
            attempt.decide(Outcome.CANCELLED, _CANCELLED)
            failpoint("tasks.cancelling")
            if self._slots.withdraw(attempt):  # nothing of it has begun
                self._spawn(self._end(attempt, calls.problem(Outcome.CANCELLED, _CANCELLED)))
            elif attempt.instance is not None:
                attempt.instance.cancel(attempt.call_id)
                asyncio.get_running_loop().call_later(
                    CANCEL_GRACE_S, self._interrupt_if_running, attempt
                )
            elif attempt.preparing is not None:  # its process, if there is one, ends at once
                attempt.preparing.cancel()
        return True

    def _interrupt_if_running(self, attempt: RunningAttempt) -> None:
        if self.running.get(attempt.claim.task.id) is attempt and not attempt.reply.done():
            self._interrupt(attempt)

    # --- what instances say ---

    def on_frame(self, instance: Instance, frame: Frame) -> None:
        if frame.kind == FrameKind.REPLY:
            instance.drain()  # first: afterwards its output is no longer this task's
            attempt = instance.done(frame.id)
            if attempt is not None and instance.waiting:  # a thread that it has left behind
                self._slots.take_back()
            if attempt is not None and not attempt.reply.done():
                outcome = frame.payload[0]
                # A function that was told to stop has no say in how that is called.
                told = (
                    attempt.verdict
                    if attempt.verdict is not None and outcome != Outcome.OK
                    else uncancelled(frame.payload)
                )
                attempt.reply.set_result(told)
        elif (
            frame.kind == FrameKind.EVENT and (attempt := instance.calls.get(frame.id)) is not None
        ):
            self._on_event(attempt, parse_event(frame.payload))

    def _on_event(self, attempt: RunningAttempt, event: InstanceEvent | None) -> None:
        claim = attempt.claim
        match event:
            case EmittedEvent():
                self._context.journal.add(claim.task.id, claim.attempt, event)
            case SavedModel():
                attempt.models.append(event)
            case LeftOut():
                self._context.journal.skip(claim.task.id, claim.attempt, event)

    def on_printed(self, instance: Instance, printed: Printed) -> str | None:
        """Lines of output; the id of the task they belong to."""
        attempt = next(iter(instance.calls.values()), None)
        if attempt is None:
            return None
        claim = attempt.claim
        self._context.journal.print(claim.task.id, claim.attempt, printed)
        return str(claim.task.id)

    def on_gone(self, instance: Instance) -> None:
        if instance.waiting and instance.calls:
            self._slots.take_back()
        instance.waiting = 0
        for id_ in list(instance.calls):
            attempt = instance.done(id_)
            if not attempt.reply.done():
                died = calls.problem(
                    Outcome.DIED, f"the process that ran it died: {instance.death_reason}"
                )
                attempt.reply.set_result(attempt.verdict or died)
        self._reserve.forget(instance)

    # As in the direct lane: a slot is lent while an instance runs a task and waits for a call.

    def lend_slot(self, instance: Instance) -> None:
        if instance.state is InstanceState.GONE:
            return
        instance.waiting += 1
        if instance.waiting == 1 and instance.calls:
            self._slots.lend()
            self._start_waiting()

    def return_slot(self, instance: Instance) -> None:
        if instance.state is InstanceState.GONE:  # its slot was settled when it went
            return
        instance.waiting -= 1
        if not instance.waiting and instance.calls:
            self._slots.take_back()

    def sweep(self, now: float) -> None:
        """Stop instances that nobody has needed for a while."""
        self._reserve.sweep(now)

    def _give_back_overdue(self) -> None:
        if overdue := self._slots.overdue(time.monotonic()):
            self._spawn(self._give_back(overdue))

    async def _give_back(self, attempts: Sequence[RunningAttempt]) -> None:
        """Have others run attempts that have not begun; their tasks wait again."""
        ids = [attempt.claim.task.id for attempt in attempts]
        release = partial(tasks.release, host=self.host_id, ids=ids, now=time.time(), lost=False)
        try:
            await self._context.ledger.write(release)
        except SkipperError as error:
            log.warning("%d tasks could not be given back: %s", len(ids), error)
        finally:  # what the ledger still has running here is a stray from now on
            for task_id in ids:
                self.running.pop(task_id, None)
        self._context.changed(ids)

    def retire(self, version: FunctionVersion) -> None:
        """Stop the instances of a version that is no longer current, busy ones when done."""
        self._reserve.retire(version)

    async def give_back_strays(self) -> None:
        """Give back what the ledger has running here and this host knows nothing of.

        Seen so twice in a row, since a claim is in the ledger a moment before it is heard of.
        """
        ledger = self._context.ledger
        held = await ledger.read(partial(tasks.running, host=self.host_id))
        strays = {(task_id, attempt) for task_id, attempt in held if task_id not in self.running}
        ids = [task_id for task_id, _ in strays & self._strays]
        self._strays = strays
        if ids:
            log.warning("%d tasks that this host had lost track of go back to the queue", len(ids))
            now = time.time()
            await ledger.write(
                partial(tasks.release, host=self.host_id, ids=ids, now=now, lost=True)
            )

    # --- shutdown ---

    async def close(self, grace_s: float) -> None:
        """Take nothing more, let what runs end for ``grace_s``, give the rest back to the queue."""
        self._is_draining = True
        if waiting := self._slots.overdue(math.inf):
            await self._give_back(waiting)
        ends = time.monotonic() + grace_s
        failpoint("tasks.draining")
        while self.running and time.monotonic() < ends:  # noqa: ASYNC110 - once, at a host's end
            await asyncio.sleep(0.02)
        self._is_closed = True
        left = list(self.running.values())
        # Dead before they are anybody else's. What their processes say now is not heard any more.
        for instance in [attempt.instance for attempt in left if attempt.instance is not None]:
            instance.kill()
            await instance.gone
        failpoint("tasks.killed")
        if ids := [attempt.claim.task.id for attempt in left]:
            release = partial(tasks.release, host=self.host_id, ids=ids, now=time.time())
            await self._context.ledger.write(partial(release, lost=False))
            log.info("%d running tasks went back to the queue", len(ids))
        failpoint("tasks.released")

    def _spawn(self, work: Awaitable[None]) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
