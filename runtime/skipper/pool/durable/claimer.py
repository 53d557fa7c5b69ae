"""Claims tasks in the ledger as slots are free, and gives back what is not run here after all."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from functools import partial

from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger import tasks
from skipper.ledger.records import Claim, Claiming
from skipper.pool.background import Background
from skipper.pool.durable.ahead import ClaimedAhead
from skipper.pool.durable.attempt import LaneContext, RunningAttempt, RunningAttempts
from skipper.pool.durable.shortlist import ShortList

log = logging.getLogger(__name__)

SHORT_LIST = 8
"""Ids held per slot; further messages stay with the broker."""
FRESH_S = 0.1
"""How long the ledger's word on what waits is good enough, where more waits than may start."""
POLL_S = 1.0


class Claimer:
    """Owns the short list of tasks that this host may claim, and the claims that wait for a slot.

    What it has claimed stands in ``running``, and waits in ``ahead``.
    """

    def __init__(
        self,
        context: LaneContext,
        running: RunningAttempts,
        ahead: ClaimedAhead,
        fresh_s: float = FRESH_S,
    ) -> None:
        self._context, self.running, self.ahead = context, running, ahead
        self._list = ShortList(SHORT_LIST * ahead.slots.capacity)
        self._fresh_s = fresh_s
        self._looked_at = -math.inf
        self._found_work = False
        self._claiming: set[str] = set()
        self._unwanted: set[str] = set()
        self._untaken: deque[tuple[list[str], Callable[[], None]]] = deque()
        self._work = asyncio.Event()
        self._strays: set[tuple[str, int]] = set()
        self._background = Background()
        self.is_draining = False

    # --- what may be claimed ---

    def take(self, ids: list[str], taken: Callable[[], None]) -> None:
        """Put ids from the broker on the short list; ``taken`` runs when they are on it."""
        self._untaken.append((ids, taken))
        self._admit()
        self._work.set()

    def nudge(self, task_id: str) -> None:
        """A task has been accepted on this machine: a host that is at rest need not wait for more.

        The broker names it too, and whoever asks the ledger finds it.
        """
        if self.ahead.free > 0 and not self._list:
            self._list.add([task_id])
        else:
            self._found_work = True
        self._work.set()

    def ended(self, task_id: str) -> None:
        """A task is over: it is not claimed again, should the broker name it once more."""
        self._list.ended(task_id)

    def look(self) -> None:
        """A task may start now that might not before: ask the ledger."""
        self._found_work = True
        self._work.set()

    def wake(self) -> None:
        """There may be room for more."""
        self._work.set()

    def _admit(self) -> None:
        while self._untaken and self._list.has_room and not self.is_draining:
            ids, taken = self._untaken.popleft()
            self._list.add(ids)
            failpoint("tasks.listed")
            taken()

    @property
    def waiting(self) -> int:
        """Ids on the short list."""
        return len(self._list)

    @property
    def is_at_rest(self) -> bool:
        """Whether it need not look for work before it is woken, or :data:`POLL_S` has passed."""
        return not (self._found_work or self._list)

    # --- claiming ---

    async def claims(self) -> AsyncIterator[RunningAttempt]:
        """Attempts as they are claimed, for ever. Each waits for its slot by then."""
        while True:
            try:
                await asyncio.wait_for(self._work.wait(), POLL_S)
            except TimeoutError:
                self._found_work = True
            self._work.clear()
            try:
                while (claimed := await self._claim_some()) is not None:
                    for attempt in claimed:
                        yield attempt
            except SkipperError as error:
                log.warning("the ledger cannot be asked for work: %s", error)
                await asyncio.sleep(POLL_S)

    async def _claim_some(self) -> list[RunningAttempt] | None:
        """What has been claimed, if only in vain; None where there is no room, or nothing waits."""
        wanted = self.ahead.wanted(time.monotonic())
        if wanted <= 0 or self.is_draining:
            return None
        if self._has_to_look(wanted):
            await self._look()
        return await self._claim(wanted) if self._list else None

    def _has_to_look(self, wanted: int) -> bool:
        """Whether to ask the ledger before the next claim.

        Not while everything that waits may start: then there is nothing to choose.
        """
        if not self._list:
            return self._found_work
        is_stale = time.monotonic() - self._looked_at > self._fresh_s
        return self._list.is_spent or (is_stale and not self._list.settles(wanted))

    async def _look(self) -> None:
        """Ask the ledger what waits, and put the list in order."""
        now, each, known = time.time(), self._list.room, self._list.ids
        found = await self._context.ledger.read(
            lambda conn: tasks.waiting(conn, self._context.pool, now, each)
        )
        self._looked_at = time.monotonic()
        # An attempt may be over and its process not yet gone.
        self._list.arrange([item for item in found if item.id not in self.running], known)
        self._found_work = bool(found)
        self._admit()

    async def _claim(self, wanted: int) -> list[RunningAttempt]:
        ids = [id_ for id_ in self._list.take(wanted) if id_ not in self.running]
        self._admit()
        if not ids:
            return []
        failpoint("tasks.claiming")
        now = time.time()
        claiming = Claiming(ids=tuple(ids), host=self._context.host_id, now=now)
        self._claiming, self._unwanted = set(ids), set()
        try:
            claims = await self._context.ledger.merge(tasks.claim_all, claiming, durable=False)
        finally:
            self._claiming = set()
        failpoint("tasks.claimed")
        claimed = [self._begin(claim, now) for claim in claims]
        if self.ahead.free < 0:  # not all of them have a slot
            loop = asyncio.get_running_loop()
            loop.call_later(self.ahead.patience_s, self._give_back_overdue)
        if claimed:
            self._found_work = True
            self._context.publish(claim.task.id for claim in claims)
        return claimed

    def _begin(self, claim: Claim, now: float) -> RunningAttempt:
        task = claim.task
        self._list.started(task.function)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        attempt = self.running[task.id] = RunningAttempt(claim=claim, reply=reply)
        waited_s = max(0.0, now - task.available_at)  # it may have been accepted by another clock
        self._context.metrics.task_waits[task.function].observe(waited_s)
        if task.id in self._unwanted:
            attempt.cancel()
        self.ahead.wait(attempt, time.monotonic())
        return attempt

    def cancel(self, task_id: str) -> bool:
        """Cancel a task that is just being claimed; False where it is not."""
        self._unwanted |= self._claiming & {task_id}
        return task_id in self._unwanted

    # --- giving back ---

    def _give_back_overdue(self) -> None:
        if overdue := self.ahead.overdue(time.monotonic()):
            self._background.spawn(self._give_back(overdue))

    async def _give_back(self, attempts: Sequence[RunningAttempt]) -> None:
        """Have others run attempts that have not begun; their tasks wait again."""
        ids = [attempt.claim.task.id for attempt in attempts]
        try:
            await self.release(ids)
        except SkipperError as error:
            log.warning("%d tasks could not be given back: %s", len(ids), error)
        finally:  # what the ledger still has running here is a stray from now on
            for task_id in ids:
                self.running.pop(task_id, None)
        self._context.publish(ids)

    async def give_back_strays(self) -> None:
        """Give back what the ledger has running here and this host knows nothing of.

        Seen so twice in a row, since a claim is in the ledger a moment before it is known here.
        """
        held = await self._context.ledger.read(partial(tasks.running, host=self._context.host_id))
        strays = {(task_id, attempt) for task_id, attempt in held if task_id not in self.running}
        ids = [task_id for task_id, _ in strays & self._strays]
        self._strays = strays
        if ids:
            log.warning("%d tasks that this host had lost track of go back to the queue", len(ids))
            await self.release(ids, lost=True)

    async def release(self, ids: Iterable[str], *, lost: bool = False) -> None:
        """Have these tasks, which the ledger has running here, wait again."""
        release = partial(
            tasks.release,
            host=self._context.host_id,
            ids=list(ids),
            now=time.time(),
            lost=lost,
        )
        await self._context.ledger.write(release)

    async def drain(self) -> None:
        """Take and claim nothing more; give back what waits for a slot."""
        self.is_draining = True
        if waiting := self.ahead.overdue(math.inf):
            await self._give_back(waiting)
