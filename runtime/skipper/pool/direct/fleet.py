"""The instances that serve direct calls: how many there are, and when one takes another's place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Collection
from typing import Protocol

from skipper.errors import SkipperError
from skipper.pool.background import Background
from skipper.pool.direct.queue import DirectCall, EditionQueue
from skipper.pool.processes.instance import Instance, InstanceOwner
from skipper.pool.serving import Serving
from skipper.spec import BrokenFile

log = logging.getLogger(__name__)

PATIENCE_S = 0.025
"""A call that waits longer than this is worth one more instance."""
IDLE_S = 300.0
RETRY_S = (0.5, 1.0, 2.0, 5.0, 8.0)
"""Pauses between starts of instances that do not become ready."""
DEATH_PAUSE_S = 1.0
"""The longest such pause where they become ready, but die before their first call."""


class FleetOwner(InstanceOwner[DirectCall], Protocol):
    """Whose calls the instances run: the lane."""

    def on_ready(self) -> None:
        """Calls may find an instance now."""

    def on_failed(self, queue: EditionQueue, problem: BrokenFile) -> None:
        """An edition is left with no instance, since its start has failed."""


class Fleet:
    """Starts, recycles and stops the instances of a pool's functions, at most ``most`` of each.

    No more than ``most_idle`` of them are kept that do nothing.
    """

    def __init__(self, owner: FleetOwner, serving: Serving, *, most: int, most_idle: int) -> None:
        self._owner, self._serving = owner, serving
        self._most, self._most_idle = most, most_idle
        self.all: dict[Instance[DirectCall], EditionQueue] = {}
        """Every instance whose process lives, those too that are sent no more calls."""
        self._background = Background()

    def free_instance(
        self, queue: EditionQueue, *, has_slot: bool, is_nested: bool, may_lie_ready: bool
    ) -> Instance[DirectCall] | None:
        """An instance with room for a call, the last one used first: its caches are warm.

        Without a slot, one that runs calls already. Instances above the most that a function may
        have are there for nested calls alone: see :meth:`grow`. Where none is free, a call of a
        quick function ``may_lie_ready`` in one that is busy: not a nested one, whose caller may be
        the very call that is in its way.
        """
        instances = queue.instances
        if len(instances) > (most := self._most_of(queue)) and not is_nested:
            has_slot = has_slot and sum(bool(each.calls) for each in instances) < most
        at_once = queue.version.at_once
        for instance in reversed(instances):
            if (
                len(instance.calls) < at_once
                and (has_slot or instance.calls)
                and instance.takes_calls
            ):
                return instance
        if may_lie_ready and not is_nested:
            return self._shortest(instances, queue.ahead)
        return None

    def _shortest(
        self, instances: Collection[Instance[DirectCall]], ahead: int
    ) -> Instance[DirectCall] | None:
        """The instance with the fewest calls, of those with up to ``ahead`` of them."""
        shortest, fewest = None, ahead + 1
        for each in instances:
            if 0 < len(each.calls) < fewest and not each.waiting and each.takes_calls:
                shortest, fewest = each, len(each.calls)
        return shortest

    def begun(self, instance: Instance[DirectCall]) -> list[DirectCall]:
        """Of an instance's calls those that may have begun; the others lie ready there."""
        calls = list(instance.calls.values())
        queue = self.all.get(instance)
        return calls[:1] if queue is not None and queue.version.is_in_turn else calls

    def grow(self, queue: EditionQueue) -> None:
        """Start one more instance, if the function may have one and none is starting.

        It may always have one for a call within its own calls, where every instance waits for one.
        """
        instances, waiting = queue.instances, queue.calls
        is_stuck = all(each.waiting for each in instances)
        is_nested = bool(waiting) and waiting[0].depth > 0
        if len(instances) < self._most_of(queue) or (is_nested and is_stuck):
            self._add(queue)

    def _most_of(self, queue: EditionQueue) -> int:
        return min(queue.spec.max_instances or self._most, self._most)

    async def warm(
        self, queue: EditionQueue, instances: int = 1, *, gives_way: bool = False
    ) -> BrokenFile | None:
        """Start the instances of an edition that will take over; what is wrong if one fails.

        Where they ``give_way``, they leave the processor to others until they are ready.
        """
        if self._serving.untrained(queue.version):
            return None
        queue.starting += instances
        try:
            adding = (self._add_instance(queue, gives_way=gives_way) for _ in range(instances))
            found = await asyncio.gather(*adding)
        finally:
            queue.starting -= instances
        if queue.is_retired:
            self._leave_all(queue)
        self._owner.on_ready()
        return next((problem for problem in found if problem is not None), None)

    def retire(self, queue: EditionQueue) -> None:
        """Stop the instances of an edition that is sent no more calls, busy ones when done."""
        queue.is_retired = True
        self._leave_all(queue)

    def freed(self, queue: EditionQueue, instance: Instance[DirectCall]) -> None:
        """A call that an instance of ``queue`` ran has ended: is it still wanted?"""
        if instance not in queue.instances:
            if not instance.calls:
                instance.stop()
        elif queue.spec.recycle is not None and instance.called >= queue.spec.recycle:
            self.replace(instance)

    def replace(self, instance: Instance[DirectCall]) -> None:
        """Have a fresh instance take this one's place; it serves until that one is ready."""
        queue = self.all.get(instance)
        if queue is not None and not instance.is_worn and instance in queue.instances:
            instance.is_worn = self._add(queue, worn=instance)

    def forget(self, instance: Instance[DirectCall]) -> None:
        """Send no more calls to an instance, whose process is being ended."""
        if (queue := self.all.get(instance)) is not None:
            with contextlib.suppress(ValueError):
                queue.instances.remove(instance)

    def gone(self, instance: Instance[DirectCall]) -> None:
        """An instance's process has ended.

        One that calls could have been sent to, and that has served none, is a start that came to
        nothing: another is started at once, but after several of them only now and then.
        """
        queue = self.all.pop(instance, None)
        if queue is None or instance not in queue.instances:
            return
        queue.instances.remove(instance)
        if not instance.called:
            self._pause(queue, DEATH_PAUSE_S if queue.failures else 0.0)
        queue.tell()

    def sweep(self, queue: EditionQueue, now: float, *, is_assigned: bool, kept: int) -> None:
        """Grow where calls wait or too few are there; stop what has been idle for long.

        An edition beside the one that is assigned has no more than it was warmed with. ``kept``
        stay however idle they are.
        """
        instances, spec = queue.instances, queue.spec
        if queue.failures and any(each.called for each in instances):
            queue.failures = 0
        is_short = is_assigned and len(instances) < max(spec.min_instances, queue.is_wanted)
        if self._is_worth_more(queue, now) or (
            is_short and not self._serving.untrained(queue.version)
        ):
            self.grow(queue)
        idle_s = spec.idle_s or IDLE_S
        for instance in list(instances):
            if instance.calls or now - instance.idle_since <= idle_s:
                continue
            if len(instances) > kept:
                self._leave(queue, instance)
                queue.tell()

    def trim(self) -> None:
        """Stop the longest idle instances above the number that a pool keeps."""
        if len(self.all) <= self._most_idle:
            return
        idle = [
            (instance, queue)
            for instance, queue in self.all.items()
            if instance.takes_calls and not instance.calls and not queue.spec.min_instances
        ]
        idle.sort(key=lambda pair: pair[0].idle_since)
        for instance, queue in idle[: max(0, len(idle) - self._most_idle)]:
            self._leave(queue, instance)

    def _is_worth_more(self, queue: EditionQueue, now: float) -> bool:
        """Whether calls have waited for long, and would go on to for want of an instance.

        Short calls that a busy machine held up for a moment are through before a further process
        could help; it would only take the processor from those that run.
        """
        instances, spec = queue.instances, queue.spec
        if not any(now - call.received > PATIENCE_S for call in queue.calls):
            return False
        if not instances:
            return True
        if any(each.takes_calls and not each.calls for each in instances):
            return False  # it is a slot that is wanting, or the batch is not due
        at_once = queue.version.at_once * spec.batch
        turns = math.ceil(len(queue.calls) / at_once) / len(instances)
        running_s = [now - _oldest(each).started for each in instances if each.calls]
        return turns * max([queue.run_s, *running_s]) > PATIENCE_S

    def _leave_all(self, queue: EditionQueue) -> None:
        for instance in list(queue.instances):
            self._leave(queue, instance)

    def _leave(self, queue: EditionQueue, instance: Instance[DirectCall]) -> None:
        with contextlib.suppress(ValueError):
            queue.instances.remove(instance)
        if not instance.calls:
            instance.stop()

    def _add(self, queue: EditionQueue, worn: Instance[DirectCall] | None = None) -> bool:
        """Start an instance, unless one is starting or the last has just failed to."""
        if queue.starting or time.monotonic() < queue.retry_at:
            return False
        queue.starting += 1
        queue.is_wanted = False
        self._background.spawn(self._add_now(queue, worn))
        return True

    async def _add_now(self, queue: EditionQueue, worn: Instance[DirectCall] | None) -> None:
        try:
            problem = await self._add_instance(queue)
        finally:
            queue.starting -= 1
        if worn is not None:
            if problem is None:
                self._leave(queue, worn)
            worn.is_worn = False
        if queue.is_retired:
            self._leave_all(queue)
        elif problem is None:
            queue.load_error = None
        else:
            self.failed(queue, problem)
        queue.tell()
        self._owner.on_ready()

    def failed(self, queue: EditionQueue, problem: BrokenFile) -> None:
        """An instance could not be started."""
        dated = problem.now()
        self._record_failure(queue, dated)
        if not queue.instances:
            self._owner.on_failed(queue, dated)

    def _record_failure(self, queue: EditionQueue, problem: BrokenFile) -> None:
        """Open the circuit: no start for a while, longer each time."""
        is_new, queue.load_error = not problem.is_as(queue.load_error), problem
        self._pause(queue)
        if is_new:  # it is tried every few seconds while somebody calls it
            extra = {"function": queue.spec.name}
            log.error("%s cannot be loaded: %s", queue.spec.name, problem.reason, extra=extra)

    def _pause(self, queue: EditionQueue, most_s: float = RETRY_S[-1]) -> None:
        """Start nothing for a while, longer each time until an instance has served a call."""
        pause_s = min(RETRY_S[min(queue.failures, len(RETRY_S) - 1)], most_s)
        queue.retry_at = time.monotonic() + pause_s
        queue.failures += 1

    async def _add_instance(
        self, queue: EditionQueue, *, gives_way: bool = False
    ) -> BrokenFile | None:
        file = str(queue.version.source.file)
        try:
            instance, report = await self._serving.start(
                queue.edition, self._owner, gives_way=gives_way
            )
        except (OSError, TimeoutError, SkipperError) as error:
            return BrokenFile(file=file, error=str(error) or type(error).__name__)
        if report.broken:
            instance.stop()
            return report.broken[0]
        if not instance.is_alive:
            await instance.gone
            detail = f"it ended as soon as it had loaded: {instance.death_reason}"
            return BrokenFile(file=file, error=detail)
        self.all[instance] = queue
        queue.add(instance)
        return None


def _oldest(instance: Instance[DirectCall]) -> DirectCall:
    """The call that it has been running for longest."""
    return next(iter(instance.calls.values()))
