"""The durable lane: takes ids, claims them in the ledger as slots are free, runs the tasks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from skipper import wire
from skipper.errors import SkipperError
from skipper.ledger import tasks
from skipper.ledger.records import Claim, Claiming
from skipper.pool.attempt import Attempt, Services
from skipper.pool.catalogue import Served
from skipper.pool.instance import Instance, State
from skipper.pool.journal import TYPES
from skipper.pool.recorder import Recorder
from skipper.pool.reserve import NotRunError, Reserve
from skipper.pool.shortlist import ShortList
from skipper.task import Outcome
from skipper.wire import Frame, Kind

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
GONE_S = 10.0
"""The end of an attempt is written this long after its process was killed at the latest."""


class TaskLane:
    """Tasks of one pool, at most ``slots`` at once."""

    def __init__(self, pool: str, host_id: str, slots: int, services: Services) -> None:
        self.pool, self.host_id, self.slots = pool, host_id, slots
        self._services = services
        self._recorder = Recorder(host_id, services)
        self._reserve = Reserve(pool, services)
        self.running: dict[str, Attempt] = {}
        self._lent = 0
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

    def nudge(self) -> None:
        """The ledger has new work: look at once."""
        self._found_work = True
        self._work.set()

    def _admit(self) -> None:
        while self._untaken and self._list.has_room and not self._is_draining:
            ids, taken = self._untaken.popleft()
            self._list.add(ids)
            taken()

    @property
    def free(self) -> int:
        return self.slots - len(self.running) + self._lent

    @property
    def waiting(self) -> int:
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
        while self.free > 0 and not self._is_draining:
            if self._has_to_look():
                await self._look()
            if not self._list:
                return
            await self._claim()

    def _has_to_look(self) -> bool:
        """Whether to ask the ledger before the next claim.

        Not while everything that is listed may start: then there is nothing to choose.
        """
        if not self._list:
            return self._found_work
        is_stale = time.monotonic() - self._looked_at > FRESH_S
        return len(self._list) > self.free and is_stale

    async def _look(self) -> None:
        """Ask the ledger what waits, and put the list in order."""
        now, each, known = time.time(), self._list.room, self._list.ids
        found = await self._services.ledger.read(
            lambda conn: tasks.waiting(conn, self.pool, now, each)
        )
        self._looked_at = time.monotonic()
        # An attempt may be over and its process not yet gone.
        self._list.arrange([item for item in found if item.id not in self.running], known)
        self._found_work = bool(found)
        self._admit()

    async def _claim(self) -> None:
        ids = [id_ for id_ in self._list.take(self.free) if id_ not in self.running]
        self._admit()
        if not ids:
            return
        now = time.time()
        claiming = Claiming(ids=tuple(ids), host=self.host_id, now=now)
        self._claiming, self._unwanted = set(ids), set()
        try:
            claims = await self._services.ledger.merge(tasks.claim_all, claiming, durable=False)
        finally:
            self._claiming = set()
        for claim in claims:
            self._begin(claim, now)
        if claims:
            self._found_work = True
            self._services.changed(claim.task.id for claim in claims)

    def _begin(self, claim: Claim, now: float) -> None:
        task = claim.task
        self._list.started(task.function)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        attempt = self.running[task.id] = Attempt(claim=claim, reply=reply)
        self._services.metrics.task_waits[task.function].observe(now - task.available_at)
        if task.id in self._unwanted:
            self.cancel(task.id)
        self._spawn(self._run(attempt))

    # --- one attempt ---

    async def _run(self, attempt: Attempt) -> None:
        task = attempt.claim.task
        try:
            reply = await self._reply(attempt)
            if not self._is_closed:
                await self._recorder.finish(attempt, reply)
        except Exception:
            # The ledger has it as running here until `give_back_strays` finds that it is not.
            log.exception("the end of a task could not be recorded", extra={"task": task.id})
        finally:
            if attempt.instance is not None and attempt.instance.state is State.STOPPING:
                await attempt.instance.until_gone()  # it has the slot for as long
            self.running.pop(task.id, None)
            self._work.set()

    async def _reply(self, attempt: Attempt) -> bytes:
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

    async def _call(self, attempt: Attempt, instance: Instance, body: bytes) -> bytes:
        task = attempt.claim.task
        if self._is_closed:
            return wire.problem(Outcome.UNAVAILABLE, "the host shuts down")
        if attempt.verdict is not None:  # cancelled as it was ready
            self._reserve.keep(instance)
            return attempt.verdict
        if not instance.is_alive:
            told = f"the process that was to run it died: {instance.death_reason}"
            return wire.problem(Outcome.DIED, told)
        attempt.instance = instance
        budget = int(task.timeout_s * 1000) if task.timeout_s else 0
        context = wire.task_context(task.id, attempt.claim.attempt, task.request_id)
        head = wire.CallHead(budget, wire.TASK, attempt.claim.depth, task.function, context)
        attempt.call_id = instance.call(wire.call_head(head) + body, attempt)
        with self._alarms(attempt):
            reply = await attempt.reply
        if instance.state is State.IDLE and attempt.verdict is None:
            self._reserve.keep(instance)
        else:  # nothing of it may happen after its end has been written
            instance.stop()
            await instance.until_gone(GONE_S)
        return reply

    @contextlib.contextmanager
    def _alarms(self, attempt: Attempt) -> Iterator[None]:
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

    def _note_start(self, attempt: Attempt, started_at: float) -> None:
        self._spawn(self._recorder.note_start(attempt, started_at))

    def _time_out(self, attempt: Attempt) -> None:
        attempt.decide(
            Outcome.TIMED_OUT,
            f"the deadline of {attempt.claim.task.timeout_s:g} s passed while it ran",
        )
        self._interrupt(attempt)

    def _interrupt(self, attempt: Attempt) -> None:
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
            attempt.decide(Outcome.CANCELLED, "the task was cancelled")
            if attempt.instance is not None:
                attempt.instance.cancel(attempt.call_id)
                asyncio.get_running_loop().call_later(
                    CANCEL_GRACE_S, self._interrupt_if_running, attempt
                )
            elif attempt.preparing is not None:  # its process, if there is one, ends at once
                attempt.preparing.cancel()
        return True

    def _interrupt_if_running(self, attempt: Attempt) -> None:
        if self.running.get(attempt.claim.task.id) is attempt and not attempt.reply.done():
            self._interrupt(attempt)

    # --- what instances say ---

    def on_frame(self, instance: Instance, frame: Frame) -> None:
        if frame.kind == Kind.REPLY:
            instance.drain()  # first: afterwards its output is no longer this task's
            attempt = instance.done(frame.id)
            if attempt is not None and not attempt.reply.done():
                outcome = frame.payload[0]
                # A function that was told to stop has no say in how that is called.
                told = (
                    attempt.verdict
                    if attempt.verdict is not None and outcome != Outcome.OK
                    else frame.payload
                )
                attempt.reply.set_result(told)
        elif frame.kind == Kind.EVENT and (attempt := instance.calls.get(frame.id)) is not None:
            self._note(attempt, json.loads(frame.payload))

    def _note(self, attempt: Attempt, event: dict[str, Any]) -> None:
        if event["type"] == "model":
            attempt.models.append(event["data"] | {"metrics": event["metrics"]})
        elif event["type"] in TYPES:
            self._services.journal.add(
                attempt.claim.task.id, event["type"], event["data"], event.get("at")
            )

    def on_line(self, instance: Instance, stream: str, text: str) -> str | None:
        """A line of output; the id of the task it belongs to."""
        attempt = next(iter(instance.calls.values()), None)
        if attempt is None:
            return None
        self._services.journal.add(attempt.claim.task.id, "log", {"stream": stream, "text": text})
        return str(attempt.claim.task.id)

    def on_gone(self, instance: Instance) -> None:
        for id_ in list(instance.calls):
            attempt = instance.done(id_)
            if not attempt.reply.done():
                died = wire.problem(
                    Outcome.DIED, f"the process that ran it died: {instance.death_reason}"
                )
                attempt.reply.set_result(attempt.verdict or died)
        self._reserve.forget(instance)
        if instance.waiting:
            instance.waiting = 0
            self._lent -= 1

    def lend_slot(self, instance: Instance) -> None:
        instance.waiting += 1
        if instance.waiting == 1:  # however many calls it waits for, it has one slot to lend
            self._lent += 1
            self._work.set()

    def return_slot(self, instance: Instance) -> None:
        if not instance.waiting:  # its process has ended meanwhile
            return
        instance.waiting -= 1
        if not instance.waiting:
            self._lent -= 1

    def sweep(self, now: float) -> None:
        """Stop instances that nobody has needed for a while."""
        self._reserve.sweep(now)

    def retire(self, served: Served) -> None:
        """Stop the instances of a version that is no longer current, busy ones when done."""
        self._reserve.retire(served)

    async def give_back_strays(self) -> None:
        """Give back what the ledger has running here and this host knows nothing of.

        Seen so twice in a row, since a claim is in the ledger a moment before it is heard of.
        """
        ledger = self._services.ledger
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
        ends = time.monotonic() + grace_s
        while self.running and time.monotonic() < ends:  # noqa: ASYNC110 - once, at a host's end
            await asyncio.sleep(0.02)
        self._is_closed = True
        left = list(self.running.values())
        # Dead before they are anybody else's. What their processes say now is not heard any more.
        for instance in [attempt.instance for attempt in left if attempt.instance is not None]:
            instance.kill()
            await instance.gone
        if ids := [attempt.claim.task.id for attempt in left]:
            release = partial(tasks.release, host=self.host_id, ids=ids, now=time.time())
            await self._services.ledger.write(partial(release, lost=False))
            log.info("%d running tasks went back to the queue", len(ids))

    def _spawn(self, work: Awaitable[None]) -> None:
        job = asyncio.ensure_future(work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
