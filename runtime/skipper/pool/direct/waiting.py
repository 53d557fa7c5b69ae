"""Calls that wait for an instance: bounded, each in its version's queue, the versions in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from skipper.outcomes import Outcome
from skipper.pool.direct.queue import DirectCall, EditionQueue
from skipper.settings.pools import PoolSettings
from skipper.wire import calls


class WaitingCalls:
    """All waiting calls of a pool."""

    def __init__(self, settings: PoolSettings) -> None:
        self._most, self._most_of_one = settings.queue_total, settings.queue
        self._most_bytes = int(settings.queue_mb * (1 << 20))
        self.count = self._bytes = 0
        self.ring: deque[EditionQueue] = deque()
        """The queues that have any, in the order of their turns."""

    def refusal(self, call: DirectCall) -> bytes | None:
        """The reply to a call for which there is no place; None where there is one.

        One that is larger by itself than all may be together has a place where no other waits.
        """
        queue = call.queue
        pool = f"pools.{queue.spec.pool}"
        waiting = len(queue.calls)
        if waiting >= self._most_of_one:
            detail = f"{waiting} calls of {queue.version.name} wait already ({pool}.queue)"
            return calls.problem(Outcome.BUSY, detail)
        if self.count >= self._most:
            detail = f"{self.count} calls wait in its pool already ({pool}.queue_total)"
            return calls.problem(Outcome.BUSY, detail)
        if self.count and self._bytes + call.size > self._most_bytes:
            detail = (
                f"calls of {self._bytes / (1 << 20):.1f} MiB wait in its pool already, and there "
                f"is no room for one of {call.size / (1 << 20):.1f} MiB ({pool}.queue_mb)"
            )
            return calls.problem(Outcome.BUSY, detail)
        return None

    def add(self, call: DirectCall, *, is_first: bool) -> None:
        """Have a call wait in its queue: at the end, or before all others."""
        if is_first:
            call.queue.calls.appendleft(call)
        else:
            call.queue.calls.append(call)
        self.count += 1
        self._bytes += call.size
        self._enter(call.queue)

    def move(self, queue: EditionQueue, to: EditionQueue) -> None:
        """Put all that waits in one queue into another, before what came to that meanwhile."""
        for call in queue.calls:
            call.queue = to
        to.calls.extendleft(reversed(queue.calls))
        queue.calls.clear()
        self._enter(to)

    def _enter(self, queue: EditionQueue) -> None:
        if not queue.is_in_ring:
            queue.is_in_ring = True
            self.ring.append(queue)

    def remove(self, call: DirectCall) -> None:
        """Have a call wait no more. Raises ValueError where it does not."""
        call.queue.calls.remove(call)
        self._left(call)

    def take(self, queue: EditionQueue) -> DirectCall:
        """The call that has waited for longest, which waits no more."""
        call = queue.calls.popleft()
        self._left(call)
        return call

    def _left(self, call: DirectCall) -> None:
        self.count -= 1
        self._bytes -= call.size

    def take_all(self, queue: EditionQueue) -> Iterator[DirectCall]:
        """All calls of a queue, those too that come to it meanwhile."""
        while queue.calls:
            yield self.take(queue)

    def take_batch(self, queue: EditionQueue, most_bytes: int) -> list[DirectCall]:
        """As many calls as may run as one; those that nobody waits for any more are left out."""
        batch: list[DirectCall] = []
        size = 0
        while queue.calls and len(batch) < queue.spec.batch and size < most_bytes:
            call = self.take(queue)
            if not call.is_answered:
                batch.append(call)
                size += len(call.payload)
        return batch

    def drop_answered(self, queue: EditionQueue) -> None:
        """Take calls that nobody waits for any more from the queue's front."""
        while queue.calls and queue.calls[0].is_answered:
            self.take(queue)

    def go_round(self, feed: Callable[[EditionQueue], bool]) -> None:
        """Offer each queue its turn, until none makes use of it; ``feed`` says whether one has."""
        in_vain, ring = 0, self.ring
        while in_vain < len(ring):
            queue = ring.popleft()
            in_vain = 0 if feed(queue) else in_vain + 1
            if queue.calls:
                ring.append(queue)
            else:
                queue.is_in_ring, in_vain = False, 0
