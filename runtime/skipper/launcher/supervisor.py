"""All children of the tree: started stage by stage, kept alive, drained in reverse order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from skipper.errors import StartError
from skipper.failpoints import failpoint
from skipper.launcher.keeper import ChildState, Keeper
from skipper.launcher.plan import BROKER, GUARD, HOSTS, ChildPlan
from skipper.launcher.process import Child
from skipper.wire.control import ChildStatus

STEP_S = 0.6
"""How long a drain waits for one level before it asks the next one to end, too."""
FLUSH_S = 2.0
"""What the broker has to write its file and end, once nobody uses it."""
_DEATH_S = 3.0
"""How long killed children are waited for; longer means stuck in the kernel."""
_LOG_EVERY_S = 1.0


class Stop:
    """Whether, why and how urgently the tree is to end. Signal handlers only set this."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        self.at_once = asyncio.Event()
        self.code = 0
        self.error: StartError | None = None

    def request(self, code: int, *, again: bool = True) -> None:
        """The first time: drain, then exit with ``code``. The second time: kill, if ``again``."""
        if not self.requested.is_set():
            self.code = code
            self.requested.set()
        elif again:
            self.at_once.set()

    def fail(self, error: StartError) -> None:
        """The tree cannot go on. Only the first reason counts."""
        if not self.requested.is_set():
            self.error = error
            self.requested.set()


class Supervisor:
    """The keepers of all planned children. ``start`` and ``ended`` as in :class:`Keeper`."""

    def __init__(
        self,
        plans: Sequence[ChildPlan],
        *,
        start: Callable[[ChildPlan], Child],
        ended: Callable[[Child], None],
        log: Callable[..., None],
        stop: Stop,
    ) -> None:
        self.keepers = [Keeper(plan, start=start, ended=ended, log=log) for plan in plans]
        self._log, self._stop = log, stop
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether every child is ready now."""
        return all(keeper.state is ChildState.READY for keeper in self.keepers)

    def status(self) -> list[ChildStatus]:
        return [keeper.status() for keeper in self.keepers]

    async def start(self, pause: Callable[[int], Awaitable[None]]) -> None:
        """Start everything, stage by stage, and wait until each child has been ready once.

        ``pause`` is awaited after each stage was started: the next one follows when it returns.
        """
        for stage in sorted({keeper.plan.stage for keeper in self.keepers}):
            for keeper in self.keepers:
                if keeper.plan.stage == stage:
                    self._keep(keeper)
            await pause(stage)
        await self.were_ready()

    async def were_ready(self, stage: int | None = None) -> None:
        """Wait until every child (of ``stage``) has been ready once."""
        for keeper in self.keepers:
            if stage is None or keeper.plan.stage == stage:
                await keeper.was_ready.wait()

    async def drain(self, grace_s: float) -> None:
        """End all children: sources of work first, hosts next, then the broker, then the guard.

        Everything but the last two ends within ``grace_s`` or is killed then; at once when the
        tree's stop is urgent.
        """
        end = time.monotonic() + grace_s
        reporting = asyncio.create_task(self._log_waiting(end))
        failpoint("launcher.draining")
        for keeper in self.keepers:
            keeper.retire()
        working = [keeper for keeper in self.keepers if keeper.plan.level >= HOSTS]
        for level in sorted({keeper.plan.level for keeper in working}, reverse=True):
            same = [keeper for keeper in working if keeper.plan.level == level]
            for keeper in same:
                keeper.stop()
            await self._wait(same, min(STEP_S, end - time.monotonic()))
        await self._wait(working, end - time.monotonic())
        await self._kill(working)
        failpoint("launcher.drained")
        for level in (BROKER, GUARD):
            await self._flush([keeper for keeper in self.keepers if keeper.plan.level == level])
        reporting.cancel()

    def _keep(self, keeper: Keeper) -> None:
        if self._stop.requested.is_set():
            return
        task = asyncio.create_task(keeper.keep(), name=keeper.plan.name)
        self._tasks.add(task)
        task.add_done_callback(self._kept)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, StartError):
            self._stop.fail(error)
        elif error:
            self._stop.fail(StartError(f"The launcher lost {task.get_name()}: {error!r}"))

    async def _flush(self, keepers: Sequence[Keeper]) -> None:
        for keeper in keepers:
            keeper.stop()
        await self._wait(keepers, FLUSH_S)
        await self._kill(keepers)

    async def _kill(self, keepers: Sequence[Keeper]) -> None:
        left = [keeper for keeper in keepers if not keeper.gone.is_set()]
        if not left:
            return
        self._log("warning", f"killing {_names(left)}")
        for keeper in left:
            keeper.kill()
        await _all_gone(left, _DEATH_S)

    async def _wait(self, keepers: Iterable[Keeper], seconds: float) -> None:
        """Until all are gone, time is up, or the tree is to end at once."""
        gone = asyncio.create_task(_all_gone(keepers, max(seconds, 0)))
        at_once = asyncio.create_task(self._stop.at_once.wait())
        await asyncio.wait((gone, at_once), return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, at_once):
            task.cancel()

    async def _log_waiting(self, end: float) -> None:
        """Log what a drain waits for, where it takes long."""
        while True:
            await asyncio.sleep(_LOG_EVERY_S)
            left = [keeper for keeper in self.keepers if not keeper.gone.is_set()]
            busy = [keeper for keeper in left if keeper.plan.level >= HOSTS]
            seconds = max(0, round(end - time.monotonic()))
            self._log("info", f"waiting for {_names(busy or left)}, {seconds} s at most")


async def _all_gone(keepers: Iterable[Keeper], seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            for keeper in keepers:
                await keeper.gone.wait()
    except TimeoutError:
        return


def _names(keepers: Iterable[Keeper]) -> str:
    return ", ".join(keeper.plan.name for keeper in keepers)
