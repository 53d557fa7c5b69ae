"""Moves the calls of functions to other versions of their models, once those are ready.

What runs calls is an edition: a function's code with the versions of its models. When those are to
be others, instances of the new edition are started beside the ones that serve, and give way to
them; only when as many as are warm now have loaded do calls go there, all at once. The edition
before stays loaded, or as many as the settings keep, so that to go back is to turn a pointer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from skipper.failpoints import failpoint
from skipper.pool.background import Background
from skipper.pool.direct.canaries import Canaries
from skipper.pool.direct.fleet import Fleet
from skipper.pool.direct.queue import EditionQueue
from skipper.pool.direct.versions import LiveVersions
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.serving import Serving
from skipper.spec import BrokenFile

log = logging.getLogger(__name__)


class _Move(NamedTuple):
    """Instances of ``queue`` start, for calls to go there."""

    queue: EditionQueue
    task: asyncio.Task[None]


class Swaps:
    """Has calls go to the editions that are to serve. ``drop`` has none go to one any more."""

    def __init__(
        self,
        versions: LiveVersions,
        fleet: Fleet,
        serving: Serving,
        drop: Callable[[EditionQueue], None],
    ) -> None:
        self._versions, self._fleet, self._serving, self._drop = versions, fleet, serving, drop
        self._moves: dict[FunctionVersion, _Move] = {}
        self._retried: set[FunctionVersion] = set()
        """Those of which what did not load is being tried again."""
        self._background = Background()
        self._canaries = Canaries(versions, fleet, serving, drop, self._is_moving_to)

    # --- what serves has changed

    def follow(self) -> None:
        """Begin to have calls go to what is to serve now."""
        for current in self._versions.current:
            self.begin(current)
        for current in self._versions.current:
            self._retry(current)
            self._canaries.follow(current.version)

    async def settle(self, limit_s: float) -> None:
        """Have calls go there: when this returns, none is given to what served before.

        What is not ready within ``limit_s`` they wait for.
        """
        self.follow()
        ends = time.monotonic() + limit_s
        while (tasks := self._tasks()) and (left := ends - time.monotonic()) > 0:
            await asyncio.wait(tasks, timeout=left)
        for move in self._awaited():
            self._flip(move.queue)

    def _awaited(self) -> list[_Move]:
        """The moves whose calls still go to the edition before."""
        current_of = self._versions.current_of
        return [m for v, m in self._moves.items() if current_of(v) is not m.queue]

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {move.task for move in self._awaited()} | self._canaries.warming

    def _is_moving_to(self, queue: EditionQueue) -> bool:
        return any(move.queue is queue for move in self._moves.values())

    def begin(self, current: EditionQueue) -> None:
        """Have the calls of a version go where they should, at once if nothing is to be loaded."""
        version = current.version
        edition, move = self._serving.edition(version), self._moves.get(version)
        if move is not None:
            if move.queue.edition == edition:
                return
            self._cancel(version)
            current = self._versions.current_of(version) or current
        if edition == current.edition:
            current.follow(self._serving.deployments(version))
            return
        queue = self._versions.queue(edition)
        if queue.instances or not _is_called(current):
            self._flip(queue)
        else:
            warming = self._warm(queue, max(1, len(current.instances)))
            self._moves[version] = _Move(queue, asyncio.get_running_loop().create_task(warming))

    def retired(self, version: FunctionVersion) -> None:
        """A version of a function is served no more: nothing is loaded for it."""
        self._cancel(version)
        self._canaries.retired(version)

    def _cancel(self, version: FunctionVersion) -> None:
        if (move := self._moves.pop(version, None)) is not None:
            move.task.cancel()
            if self._versions.current_of(version) is not move.queue:
                self._drop(move.queue)

    # --- one move

    async def _warm(self, queue: EditionQueue, instances: int) -> None:
        """Start instances, the first alone because it may not load; then have calls go there."""
        try:
            failpoint("swap.warming")
            problem = await self._fleet.warm(queue, gives_way=True)
            if problem is None and instances > 1:
                await self._fleet.warm(queue, instances - 1, gives_way=True)
            failpoint("swap.warmed")
        except Exception:
            log.exception("%s could not be made ready; it is tried again", queue.edition)
            return
        finally:
            if (move := self._moves.get(queue.version)) is not None and move.queue is queue:
                del self._moves[queue.version]
        if problem is None:
            self._flip(queue)
        else:
            self._fail(queue, problem)

    def _fail(self, queue: EditionQueue, problem: BrokenFile) -> None:
        """What was to serve cannot: what serves goes on, or what is next to it."""
        self._blame(queue, problem)
        current = self._versions.current_of(queue.version)
        if current is queue:  # calls wait for it already
            self._fleet.failed(queue, problem)
            return
        self._drop(queue)
        if current is not None and self._serving.edition(queue.version) != queue.edition:
            self.begin(current)

    def _blame(self, queue: EditionQueue, problem: BrokenFile) -> None:
        """Where nobody has said what is at fault: the same code is served with other models."""
        version, before = queue.version, self._versions.beside(queue)
        if before is not None and self._serving.wanted(version) == queue.edition:
            changed = [ref for ref in queue.edition.models if ref not in before.edition.models]
            self._serving.condemn(version, changed, problem.error)

    def _flip(self, queue: EditionQueue) -> None:
        if self._versions.current_of(queue.version) is queue:
            return
        queue.follow(self._serving.deployments(queue.version))
        self._versions.move(queue)
        failpoint("swap.moved")
        log.info("%s serves", queue.edition, extra={"event": "swap", "function": queue.spec.name})
        keep = self._serving.keep(queue.version)
        for old in self._versions.superseded(queue.version, keep):
            if not self._canaries.holds(old):
                self._drop(old)

    # --- what does not load

    def gives_up(self, queue: EditionQueue, problem: BrokenFile) -> bool:
        """Have the calls of an edition that cannot serve go to another; whether there is one."""
        if self._canaries.gives_up(queue, problem):
            return True
        edition = self._serving.edition(queue.version)
        if edition == queue.edition or self._versions.current_of(queue.version) is not queue:
            return False
        instead = self._versions.queue(edition)
        self._flip(instead)
        self._drop(queue)
        if instead.calls and not instead.instances:
            self._fleet.grow(instead)
        return True

    def _retry(self, current: EditionQueue) -> None:
        """Try what did not load again, beside what serves."""
        version, wanted = current.version, self._serving.wanted(current.version)
        is_under_way = version in self._moves or version in self._retried
        if is_under_way or not current.instances or wanted == self._serving.edition(version):
            return
        if wanted != current.edition:
            self._retried.add(version)
            self._background.spawn(self._retry_now(self._versions.queue(wanted)))

    async def _retry_now(self, queue: EditionQueue) -> None:
        try:
            problem = await self._fleet.warm(queue, gives_way=True)
        finally:
            self._retried.discard(queue.version)
        if problem is not None:
            self._blame(queue, problem)
        current = self._versions.current_of(queue.version)
        if current is None or current is queue:
            return
        if self._serving.edition(queue.version) == queue.edition:
            self.begin(current)
        else:
            self._drop(queue)


def _is_called(queue: EditionQueue) -> bool:
    """Whether anybody has called lately: else nothing is loaded until somebody does."""
    return bool(queue.instances or queue.calls or queue.starting)
