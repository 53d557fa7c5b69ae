"""Keeps the editions with candidates ready beside those that serve, for a part of their calls."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from skipper.pool.direct.fleet import Fleet
from skipper.pool.direct.queue import Canary, EditionQueue
from skipper.pool.direct.versions import LiveVersions
from skipper.pool.models import Candidate
from skipper.pool.processes.version import Edition, FunctionVersion
from skipper.pool.serving import Serving
from skipper.spec import BrokenFile

log = logging.getLogger(__name__)


class Canaries:
    """Has a part of the calls of a version go to the edition with a candidate, once it is ready.

    ``drop`` has no call go to an edition any more. One that a move ``is_for`` stays.
    """

    def __init__(
        self,
        versions: LiveVersions,
        fleet: Fleet,
        serving: Serving,
        drop: Callable[[EditionQueue], None],
        is_for: Callable[[EditionQueue], bool],
    ) -> None:
        self._versions, self._fleet, self._serving = versions, fleet, serving
        self._drop, self._is_for = drop, is_for
        self._warming: dict[EditionQueue, asyncio.Task[None]] = {}

    @property
    def warming(self) -> set[asyncio.Task[None]]:
        """Each ends when a candidate's edition is ready, or is found not to be."""
        return {*self._warming.values()}

    def follow(self, version: FunctionVersion) -> None:
        """Begin to have the part go there that the models' records say."""
        if (current := self._versions.current_of(version)) is None:
            return
        candidate = self._serving.candidate(version)
        edition = None if candidate is None else Edition(version, candidate.refs)
        if candidate is None or edition is None or edition == current.edition:
            self._end(current)
            return
        queue = self._versions.queue(edition)
        if current.canary is not None and current.canary.queue is not queue:
            self._end(current)
        queue.follow(self._serving.deployments(version))
        current.canary = Canary(queue, candidate.model, candidate.percent)
        self._have_ready(current, queue, candidate)

    def _have_ready(self, current: EditionQueue, queue: EditionQueue, candidate: Candidate) -> None:
        """Start instances, unless there are any, or nobody calls the function."""
        if not current.instances or queue.instances or queue in self._warming:
            return
        share = math.ceil(len(current.instances) * candidate.percent / 100)
        warming = self._warm(queue, share)
        self._warming[queue] = asyncio.get_running_loop().create_task(warming)

    async def _warm(self, queue: EditionQueue, instances: int) -> None:
        try:
            problem = await self._fleet.warm(queue, instances, gives_way=True)
        except Exception:
            log.exception("%s could not be made ready; it is tried again", queue.edition)
            return
        finally:
            if self._warming.get(queue) is asyncio.current_task():
                del self._warming[queue]
        if problem is None:
            log.info("%s takes its part of the calls", queue.edition, extra={"event": "canary"})
        else:
            self.gives_up(queue, problem)

    def gives_up(self, queue: EditionQueue, problem: BrokenFile) -> bool:
        """Have the calls of a candidate's edition go to production, since it does not start.

        Whether it was one.
        """
        version, current = queue.version, self._versions.current_of(queue.version)
        if current is None or not _is_canary(current, queue):
            return False
        candidate = self._serving.candidate(version)
        if candidate is not None and candidate.refs == queue.edition.models:
            # Nobody has said what is at fault: the same code is served with other models.
            changed = [ref for ref in candidate.refs if ref not in current.edition.models]
            self._serving.condemn(version, changed, problem.error)
        self._end(current)
        return True

    def holds(self, queue: EditionQueue) -> bool:
        """Whether a part of the calls goes to this edition."""
        current = self._versions.current_of(queue.version)
        return current is not None and _is_canary(current, queue)

    def retired(self, version: FunctionVersion) -> None:
        """A version of a function is served no more: nothing is loaded for it."""
        for queue in [each for each in self._warming if each.version is version]:
            self._warming.pop(queue).cancel()

    def _end(self, current: EditionQueue) -> None:
        held, current.canary = current.canary, None
        if held is None:
            return
        queue = held.queue
        warming = self._warming.pop(queue, None)
        if warming is not None and warming is not asyncio.current_task():
            warming.cancel()
        if not self._versions.has_served(queue) and not self._is_for(queue):
            self._drop(queue)


def _is_canary(current: EditionQueue, queue: EditionQueue) -> bool:
    return current.canary is not None and current.canary.queue is queue
