"""The instances that serve direct calls: how many there are, and when one takes another's place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

from skipper.errors import SkipperError
from skipper.instance.jobs import ModelRef, Report
from skipper.pool.direct.queue import DirectCall, FunctionQueue, VersionInstances
from skipper.pool.processes.instance import Instance
from skipper.pool.processes.version import FunctionVersion
from skipper.spec import BrokenFile

log = logging.getLogger(__name__)

PATIENCE_S = 0.025
"""A call that waits longer than this is worth one more instance."""
IDLE_S = 300.0
RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between starts of instances that do not become ready."""
RENEW_S = 2.5
"""How long the instances of a function may take to load a new model in turn."""
DEATH_PAUSE_S = 1.0
"""The longest such pause where they become ready, but die before their first call."""


class Fleet:
    """Starts, recycles and stops the instances of a pool's functions.

    ``start`` starts one; ``untrained`` names the models that a function needs and nobody has
    trained yet. ``on_ready`` runs when calls may find an instance, ``on_failed`` when a function is
    left with none and its start has failed.
    """

    def __init__(
        self,
        most: int,
        queues: Mapping[bytes, FunctionQueue],
        *,
        most_idle: int,
        start: Callable[[FunctionVersion], Awaitable[tuple[Instance, Report]]],
        untrained: Callable[[FunctionVersion], str],
        on_ready: Callable[[], None],
        on_failed: Callable[[FunctionQueue, BrokenFile], None],
    ) -> None:
        self._most, self._most_idle, self._queues = most, most_idle, queues
        self._start, self.untrained = start, untrained
        self._on_ready, self._on_failed = on_ready, on_failed
        self._versions: dict[FunctionVersion, VersionInstances] = {}
        """What is served, or about to be."""
        self.all: dict[Instance, VersionInstances] = {}
        """Every instance whose process lives, those too that are sent no more calls."""
        self._tasks: set[asyncio.Task[None]] = set()

    def free_instance(
        self, queue: FunctionQueue, *, has_slot: bool, is_nested: bool, may_lie_ready: bool
    ) -> Instance | None:
        """An instance with room for a call, the last one used first: its caches are warm.

        Without a slot, one that runs calls already. Instances above the most that a function may
        have are there for nested calls alone: see :meth:`grow`. Where none is free, a call of a
        quick function ``may_lie_ready`` in one that is busy: not a nested one, whose caller may be
        the very call that is in its way.
        """
        instances = queue.serving.instances
        if len(instances) > (most := self._most_of(queue)) and not is_nested:
            has_slot = has_slot and sum(bool(each.calls) for each in instances) < most
        at_once = queue.serving.version.at_once
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

    def _shortest(self, instances: Collection[Instance], ahead: int) -> Instance | None:
        """The instance with the fewest calls, of those with up to ``ahead`` of them."""
        shortest, fewest = None, ahead + 1
        for each in instances:
            if 0 < len(each.calls) < fewest and not each.waiting and each.takes_calls:
                shortest, fewest = each, len(each.calls)
        return shortest

    def begun(self, instance: Instance) -> list[DirectCall]:
        """Of an instance's calls those that may have begun; the others lie ready there."""
        calls = list(instance.calls.values())
        serving = self.all.get(instance)
        return calls[:1] if serving is not None and serving.version.is_in_turn else calls

    def grow(self, queue: FunctionQueue) -> None:
        """Start one more instance, if the function may have one and none is starting.

        It may always have one for a call within its own calls, where every instance waits for one.
        """
        instances, waiting = queue.serving.instances, queue.calls
        is_stuck = all(each.waiting for each in instances)
        is_nested = bool(waiting) and waiting[0].depth > 0
        if len(instances) < self._most_of(queue) or (is_nested and is_stuck):
            self._add(queue, queue.serving)

    def _most_of(self, queue: FunctionQueue) -> int:
        return min(queue.spec.max_instances or self._most, self._most)

    def of(self, version: FunctionVersion) -> VersionInstances:
        """The instances of a version: none yet of one that is about to be served."""
        if (serving := self._versions.get(version)) is None:
            serving = self._versions[version] = VersionInstances(version)
        return serving

    async def warm(self, version: FunctionVersion, instances: int = 1) -> BrokenFile | None:
        """Start the instances of a version that will take over; what is wrong if one fails."""
        if self.untrained(version):
            return None
        serving = self.of(version)
        found = await asyncio.gather(*(self._add_instance(serving) for _ in range(instances)))
        return next((problem for problem in found if problem is not None), None)

    def retire(self, version: FunctionVersion) -> None:
        """Stop the instances of a version that nobody is sent to any more, busy ones when done."""
        if (serving := self._versions.pop(version, None)) is not None:
            self._leave_all(serving)

    def freed(self, queue: FunctionQueue, instance: Instance) -> None:
        """A call of this instance has ended, which came for ``queue``: is it still wanted?"""
        if instance not in queue.serving.instances:
            if not instance.calls:
                instance.stop()
        elif queue.spec.recycle is not None and instance.served >= queue.spec.recycle:
            self.replace(instance)

    def replace(self, instance: Instance) -> None:
        """Have a fresh instance take this one's place; it serves until that one is ready."""
        queue = self._queues.get(instance.job.function.encode())
        if queue is not None and not instance.is_worn and instance in queue.serving.instances:
            instance.is_worn = self._add(queue, queue.serving, worn=instance)

    async def renew(self, refs: Collection[ModelRef]) -> None:
        """Have instances load these versions of models, those of one function one after the other.

        Calls go to the others meanwhile. What has not come to it within :data:`RENEW_S` loads it
        before its next call: when this returns, no call is given to an older version any more.
        """
        names = {ref.name for ref in refs}
        holders = {
            each for each in self.all.values() if not names.isdisjoint(each.version.spec.models)
        }
        await asyncio.gather(*(self._renew(serving, refs) for serving in holders))

    async def _renew(self, serving: VersionInstances, refs: Collection[ModelRef]) -> None:
        ends = time.monotonic() + RENEW_S
        for instance in sorted(serving.instances, key=lambda each: len(each.calls)):
            if instance in serving.instances:  # it is asked last of all while it loads
                serving.instances.remove(instance)
                serving.instances.insert(0, instance)
            for ref in refs:
                instance.take_model(ref)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(instance.loaded.wait(), ends - time.monotonic())

    def forget(self, instance: Instance) -> None:
        """Send no more calls to an instance, whose process is being ended."""
        if (serving := self.all.get(instance)) is not None:
            with contextlib.suppress(ValueError):
                serving.instances.remove(instance)

    def gone(self, instance: Instance) -> None:
        """An instance's process has ended.

        One that calls could have been sent to, and that has served none, is a start that came to
        nothing: another is started at once, but after several of them only now and then.
        """
        serving = self.all.pop(instance, None)
        if serving is None or instance not in serving.instances:
            return
        serving.instances.remove(instance)
        queue = self._queues.get(instance.job.function.encode())
        if queue is not None and queue.serving is serving and not instance.served:
            self._pause(queue, DEATH_PAUSE_S if queue.failures else 0.0)

    def sweep(self, queue: FunctionQueue, now: float) -> None:
        """Grow where calls wait or too few are kept; stop what has been idle for long."""
        instances, spec = queue.serving.instances, queue.spec
        if queue.failures and any(each.served for each in instances):
            queue.failures = 0
        too_few = len(instances) < spec.min_instances and not self.untrained(queue.serving.version)
        if too_few or self._is_worth_more(queue, now):
            self.grow(queue)
        idle_s = spec.idle_s or IDLE_S
        for instance in list(instances):
            if instance.calls or now - instance.idle_since <= idle_s:
                continue
            if len(instances) > spec.min_instances:
                self._leave(queue.serving, instance)

    def trim(self) -> None:
        """Stop the longest idle instances above the number that a pool keeps."""
        if len(self.all) <= self._most_idle:
            return
        idle = [
            (instance, serving)
            for instance, serving in self.all.items()
            if instance.takes_calls
            and not instance.calls
            and not serving.version.spec.min_instances
        ]
        idle.sort(key=lambda pair: pair[0].idle_since)
        for instance, serving in idle[: max(0, len(idle) - self._most_idle)]:
            self._leave(serving, instance)

    def _is_worth_more(self, queue: FunctionQueue, now: float) -> bool:
        """Whether calls have waited for long, and would go on to for want of an instance.

        Short calls that a busy machine held up for a moment are through before a further process
        could help; it would only take the processor from those that run.
        """
        instances, spec = queue.serving.instances, queue.spec
        if not any(now - call.received > PATIENCE_S for call in queue.calls):
            return False
        if not instances:
            return True
        if any(each.takes_calls and not each.calls for each in instances):
            return False  # it is a slot that is wanting, or the batch is not due
        at_once = queue.serving.version.at_once * spec.batch
        turns = math.ceil(len(queue.calls) / at_once) / len(instances)
        running_s = [now - _oldest(each).started for each in instances if each.calls]
        return turns * max([queue.run_s, *running_s]) > PATIENCE_S

    def _leave_all(self, serving: VersionInstances) -> None:
        for instance in list(serving.instances):
            self._leave(serving, instance)

    def _leave(self, serving: VersionInstances, instance: Instance) -> None:
        with contextlib.suppress(ValueError):
            serving.instances.remove(instance)
        if not instance.calls:
            instance.stop()

    def _add(
        self, queue: FunctionQueue, serving: VersionInstances, worn: Instance | None = None
    ) -> bool:
        """Start an instance, unless one is starting or the last has just failed to."""
        if serving.starting or time.monotonic() < queue.retry_at:
            return False
        serving.starting += 1
        task = asyncio.ensure_future(self._add_now(queue, serving, worn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _add_now(
        self, queue: FunctionQueue, serving: VersionInstances, worn: Instance | None
    ) -> None:
        try:
            problem = await self._add_instance(serving)
        finally:
            serving.starting -= 1
        if worn is not None:
            if problem is None:
                self._leave(serving, worn)
            worn.is_worn = False
        if not self._is_current(queue, serving):
            self._leave_all(serving)
        elif problem is None:
            queue.load_error = None
        else:
            self._record_failure(queue, problem)
            if not serving.instances:
                self._on_failed(queue, problem)
        self._on_ready()

    def _is_current(self, queue: FunctionQueue, serving: VersionInstances) -> bool:
        """Whether this version is still the one that calls are sent to."""
        return self._queues.get(queue.spec.name.encode()) is queue and queue.serving is serving

    def _record_failure(self, queue: FunctionQueue, problem: BrokenFile) -> None:
        """Open the circuit: no start for a while, longer each time."""
        queue.load_error = problem
        self._pause(queue)
        extra = {"function": queue.spec.name}
        log.error("%s cannot be loaded: %s", queue.spec.name, problem.error, extra=extra)

    def _pause(self, queue: FunctionQueue, most_s: float = RETRY_S[-1]) -> None:
        """Start nothing for a while, longer each time until an instance has served a call."""
        pause_s = min(RETRY_S[min(queue.failures, len(RETRY_S) - 1)], most_s)
        queue.retry_at = time.monotonic() + pause_s
        queue.failures += 1

    async def _add_instance(self, serving: VersionInstances) -> BrokenFile | None:
        file = str(serving.version.source.file)
        try:
            instance, report = await self._start(serving.version)
        except (OSError, TimeoutError, SkipperError) as error:
            return BrokenFile(file=file, error=str(error) or type(error).__name__)
        if report.broken:
            instance.stop()
            return report.broken[0]
        if not instance.is_alive:
            await instance.gone
            detail = f"it ended as soon as it had loaded: {instance.death_reason}"
            return BrokenFile(file=file, error=detail)
        self.all[instance] = serving
        serving.instances.append(instance)
        return None


def _oldest(instance: Instance) -> DirectCall:
    """The call that it has been running for longest."""
    call: DirectCall = next(iter(instance.calls.values()))
    return call
