"""The versions of functions that direct calls may be run by, and which of them is assigned."""

from __future__ import annotations

from collections.abc import Iterator

from skipper.pool.direct.queue import VersionQueue
from skipper.pool.processes.version import FunctionVersion


class LiveVersions:
    """The queues of all versions that are not retired."""

    def __init__(self) -> None:
        self.assigned: dict[bytes, VersionQueue] = {}
        """Where the calls of a function go, by its name as calls carry it."""
        self._queues: dict[FunctionVersion, VersionQueue] = {}

    def __iter__(self) -> Iterator[VersionQueue]:
        return iter([*self._queues.values()])

    def queue(self, version: FunctionVersion) -> VersionQueue:
        """That of a version, which is live from now on where it was not."""
        if (queue := self._queues.get(version)) is None:
            queue = self._queues[version] = VersionQueue(version)
        return queue

    def assigned_beside(self, version: FunctionVersion) -> VersionQueue | None:
        """That of the version to which the calls of the same function go; None where none do."""
        return self.assigned.get(version.name.encode())

    def is_assigned(self, queue: VersionQueue) -> bool:
        return self.assigned_beside(queue.version) is queue

    def assign(self, version: FunctionVersion) -> None:
        """Have the calls of its function go to a version; the one before stays beside it."""
        before, queue = self.assigned_beside(version), self.queue(version)
        if before is not None:
            queue.run_s = queue.run_s or before.run_s
        self.assigned[version.name.encode()] = queue

    def retire(self, version: FunctionVersion) -> VersionQueue | None:
        """Have no call go to a version any more. Its queue; None where it was not live."""
        queue = self._queues.pop(version, None)
        if queue is not None and self.is_assigned(queue):
            del self.assigned[version.name.encode()]
        return queue
