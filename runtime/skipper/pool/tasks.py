"""The durable lane: takes ids, claims them in the ledger as slots are free, runs the tasks."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

from skipper import wire
from skipper.errors import SkipperError
from skipper.ledger import tasks
from skipper.ledger.records import Claim, Claiming
from skipper.pool.attempt import Attempt, Services
from skipper.pool.catalogue import Entry, Served
from skipper.pool.instance import Instance, State
from skipper.pool.journal import TYPES
from skipper.pool.recorder import Recorder
from skipper.task import Outcome
from skipper.wire import Frame, Kind

log = logging.getLogger(__name__)

SHORT_LIST = 8
"""Ids held per slot; further messages stay with the broker."""
POLL_S = 1.0
CANCEL_GRACE_S = 2.0
"""How long a cancelled function may look at ``run.cancelled`` before it is interrupted."""
IDLE_S = 60.0


class TaskLane:
    """Tasks of one pool, at most ``slots`` at once."""

    def __init__(self, pool: str, host_id: str, slots: int, services: Services) -> None:
        self.pool, self.host_id, self.slots = pool, host_id, slots
        self._services = services
        self._recorder = Recorder(host_id, services)
        self.running: dict[str, Attempt] = {}
        self._lent = 0
        self._list: deque[str] = deque()
        self._listed: set[str] = set()
        self._untaken: deque[tuple[list[str], Callable[[], None]]] = deque()
        self._idle: list[tuple[Served, Instance]] = []
        self._versions: dict[Instance, Served] = {}
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
        while self._untaken and len(self._list) < SHORT_LIST * self.slots and not self._is_draining:
            ids, taken = self._untaken.popleft()
            self._add(ids)
            taken()

    def _add(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            if id_ not in self._listed and id_ not in self.running:
                self._listed.add(id_)
                self._list.append(id_)

    @property
    def free(self) -> int:
        return self.slots - len(self.running) + self._lent

    @property
    def waiting(self) -> int:
        return len(self._list)

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
            if not self._list and not await self._look():
                return
            await self._claim()
            self._admit()

    async def _look(self) -> bool:
        """Ask the ledger for work, unless it had none a moment ago."""
        if not self._found_work:
            return False
        now, limit = time.time(), SHORT_LIST * self.slots
        found = await self._services.ledger.read(
            lambda conn: tasks.waiting(conn, self.pool, now, limit)
        )
        self._add(item.id for item in found)
        self._found_work = bool(found)
        return bool(self._list)

    async def _claim(self) -> None:
        ids = [self._list.popleft() for _ in range(min(self.free, len(self._list)))]
        self._listed.difference_update(ids)
        now = time.time()
        claiming = Claiming(ids=tuple(ids), host=self.host_id, now=now)
        claims = await self._services.ledger.merge(tasks.claim_all, claiming, durable=False)
        for claim in claims:
            self._found_work = True
            reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            attempt = self.running[claim.task.id] = Attempt(claim=claim, reply=reply)
            self._services.metrics.task_waits[claim.task.function].observe(
                max(0.0, now - claim.task.available_at)
            )
            self._spawn(self._run(attempt))
        if claims:
            self._services.changed(claim.task.id for claim in claims)

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
            self.running.pop(task.id, None)
            self._work.set()

    async def _reply(self, attempt: Attempt) -> bytes:
        """Run the function; its reply, or the host's where it has none."""
        task = attempt.claim.task
        entry = await self._services.find(task.function)
        if entry is None:
            return wire.problem(
                Outcome.NOT_FOUND, f"{task.function} is no longer served by pool {self.pool}"
            )
        if reason := self._services.missing(entry.served):
            return wire.problem(Outcome.UNAVAILABLE, reason)
        try:
            body = await self._body(attempt.claim)
            instance = await self._instance(entry)
        except FileNotFoundError:
            return wire.problem(Outcome.UNAVAILABLE, "its input is no longer stored")
        except ConnectionError as error:
            return wire.problem(Outcome.DIED, f"{task.function} cannot be loaded: {error}")
        except (OSError, TimeoutError, SkipperError) as error:
            return wire.problem(Outcome.FAILED, f"{task.function} cannot be loaded: {error}")
        return await self._call(attempt, instance, body)

    async def _call(self, attempt: Attempt, instance: Instance, body: bytes) -> bytes:
        task, loop = attempt.claim.task, asyncio.get_running_loop()
        if self._is_closed:
            return wire.problem(Outcome.UNAVAILABLE, "the host shuts down")
        if attempt.verdict is not None:  # cancelled while it was starting
            self._idle.append((self._versions[instance], instance))
            return attempt.verdict
        attempt.instance = instance
        budget = int(task.timeout_s * 1000) if task.timeout_s else 0
        context = wire.task_context(task.id, attempt.claim.attempt, task.request_id)
        head = wire.CallHead(budget, wire.TASK, attempt.claim.depth, task.function, context)
        attempt.call_id = instance.call(wire.call_head(head) + body, attempt)
        alarm = loop.call_later(task.timeout_s, self._time_out, attempt) if task.timeout_s else None
        try:
            reply = await attempt.reply
        finally:
            if alarm is not None:
                alarm.cancel()
        if instance.state is State.IDLE and attempt.verdict is None and not instance.is_worn:
            self._idle.append((self._versions[instance], instance))
        else:
            instance.stop()
        return reply

    async def _body(self, claim: Claim) -> bytes:
        if claim.body_ref is None:
            return claim.body or b""
        return await asyncio.to_thread(self._services.blobs.get, claim.body_ref)

    async def _instance(self, entry: Entry) -> Instance:
        served = entry.served
        for position, (version, instance) in enumerate(self._idle):
            if version is served and instance.is_alive and not instance.is_worn:
                del self._idle[position]
                return instance
        instance, report = await self._services.start(served)
        self._versions[instance] = served
        if report.broken:
            instance.stop()
            broken = report.broken[0]
            raise SkipperError(f"{broken.file}:{broken.line or 1}: {broken.error}")
        if not instance.is_alive:  # it died right after its report
            self._versions.pop(instance, None)
            raise ConnectionError(instance.death_reason or "its process ended")
        return instance

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
            return False
        if attempt.verdict is None:
            attempt.decide(Outcome.CANCELLED, "the task was cancelled")
            if attempt.instance is not None:
                attempt.instance.cancel(attempt.call_id)
            asyncio.get_running_loop().call_later(
                CANCEL_GRACE_S, self._interrupt_if_running, attempt
            )
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
        self._idle = [pair for pair in self._idle if pair[1] is not instance]
        self._versions.pop(instance, None)

    def lend_slot(self, instance: Instance) -> None:
        instance.waiting += 1
        if instance.waiting == 1:  # however many calls it waits for, it has one slot to lend
            self._lent += 1
            self._work.set()

    def return_slot(self, instance: Instance) -> None:
        instance.waiting -= 1
        if not instance.waiting:
            self._lent -= 1

    def sweep(self, now: float) -> None:
        """Stop instances that nobody has needed for a while."""
        for pair in list(self._idle):
            served, instance = pair
            if now - instance.idle_since > (served.spec.idle_s or IDLE_S):
                self._idle.remove(pair)
                instance.stop()

    def retire(self, served: Served) -> None:
        """Stop the idle instances of a version that is no longer current."""
        for pair in [pair for pair in self._idle if pair[0] is served]:
            self._idle.remove(pair)
            pair[1].stop()

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
