"""The editions of functions that direct calls may be run by, and which of them calls go to."""

from __future__ import annotations

from collections.abc import Iterator

from skipper.pool.direct.queue import EditionQueue
from skipper.pool.processes.version import Edition, FunctionVersion


class LiveVersions:
    """The queues of all editions of versions that are not retired.

    The calls of a function go to one of its versions, those of a version to one of its editions.
    """

    def __init__(self) -> None:
        self.assigned: dict[bytes, EditionQueue] = {}
        """Where the calls of a function go, by its name as calls carry it."""
        self._queues: dict[Edition, EditionQueue] = {}
        self._served: dict[FunctionVersion, list[EditionQueue]] = {}
        """Those editions of a version that its calls have gone to, where they go now last."""

    def __iter__(self) -> Iterator[EditionQueue]:
        return iter([*self._queues.values()])

    def queue(self, edition: Edition) -> EditionQueue:
        """That of an edition, which is live from now on where it was not."""
        if (queue := self._queues.get(edition)) is None:
            queue = self._queues[edition] = EditionQueue(edition)
        return queue

    @property
    def current(self) -> list[EditionQueue]:
        """Where the calls of each live version go."""
        return [served[-1] for served in self._served.values()]

    def current_of(self, version: FunctionVersion) -> EditionQueue | None:
        """Where the calls of a version go, or would where its function's go to another version."""
        served = self._served.get(version)
        return served[-1] if served else None

    def assigned_beside(self, version: FunctionVersion) -> EditionQueue | None:
        """Where the calls of the same function go; None where they go nowhere."""
        return self.assigned.get(version.name.encode())

    def is_assigned(self, queue: EditionQueue) -> bool:
        return self.assigned_beside(queue.version) is queue

    def kept(self, queue: EditionQueue) -> int:
        """How many instances of it are kept though they are idle.

        One that calls may go back to, or that a part of them goes to, has one, for as long as its
        function is called.
        """
        served = self._served.get(queue.version, [])
        current = served[-1] if served else None
        is_canary = current and current.canary and current.canary.queue is queue
        if current is None or (queue not in served and not is_canary):
            return 0
        return queue.spec.min_instances if queue is current else min(1, len(current.instances))

    def assign(self, version: FunctionVersion) -> None:
        """Have the calls of its function go to a version; the one before stays beside it."""
        queue = self._served[version][-1]
        self._follows(self.assigned_beside(version), queue)
        self.assigned[version.name.encode()] = queue

    def move(self, queue: EditionQueue) -> None:
        """Have the calls of its version go to an edition; the one before stays beside it."""
        served = self._served.setdefault(queue.version, [])
        if served and served[-1] is self.assigned_beside(queue.version):
            self._follows(served[-1], queue)
            self.assigned[queue.version.name.encode()] = queue
        if queue in served:
            served.remove(queue)
        if served:
            self._hand_over(served[-1], queue)
        served.append(queue)
        queue.is_current = True
        queue.tell()

    def _hand_over(self, before: EditionQueue, queue: EditionQueue) -> None:
        before.is_current = False
        canary, before.canary = before.canary, None
        queue.canary = None if canary is None or canary.queue is queue else canary

    def has_served(self, queue: EditionQueue) -> bool:
        """Whether the calls of its version go, or have gone, to an edition that is live."""
        return queue in self._served.get(queue.version, ())

    def _follows(self, before: EditionQueue | None, queue: EditionQueue) -> None:
        if before is not None:
            queue.run_s = queue.run_s or before.run_s

    def beside(self, queue: EditionQueue) -> EditionQueue | None:
        """The edition that calls of the same version go to, or went to before this one."""
        others = [each for each in self._served.get(queue.version, ()) if each is not queue]
        return others[-1] if others else None

    def superseded(self, version: FunctionVersion, keep: int) -> list[EditionQueue]:
        """The editions of a version that its calls went to before the ``keep`` last ones."""
        return self._served[version][: -1 - keep]

    def drop(self, queue: EditionQueue) -> None:
        """Have no call go to an edition any more; not to be the one that its version's go to."""
        self._queues.pop(queue.edition, None)
        served = self._served.get(queue.version, [])
        if queue in served:
            served.remove(queue)

    def retire(self, version: FunctionVersion) -> list[EditionQueue]:
        """Have no call go to a version any more. Its queues; none where it was not live."""
        assigned = self.assigned_beside(version)
        if assigned is not None and assigned.version is version:
            del self.assigned[version.name.encode()]
        self._served.pop(version, None)
        mine = [queue for queue in self if queue.version is version]
        for queue in mine:
            del self._queues[queue.edition]
        return mine
