"""The instances that serve direct calls: how many there are, and when one takes another's place."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from skipper.errors import SkipperError
from skipper.instance.jobs import ModelRef, Report
from skipper.pool.direct.queue import FunctionQueue
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

    ``start`` starts one; ``missing`` names the models that a function needs and nobody has trained
    yet. ``on_ready`` runs when calls may find an instance, ``on_failed`` when an entry is left with
    none and its start has failed.
    """

    def __init__(
        self,
        most: int,
        entries: Mapping[bytes, FunctionQueue],
        *,
        most_idle: int,
        start: Callable[[FunctionVersion], Awaitable[tuple[Instance, Report]]],
        missing: Callable[[FunctionVersion], str],
        on_ready: Callable[[], None],
        on_failed: Callable[[FunctionQueue, BrokenFile], None],
    ) -> None:
        self._most, self._most_idle, self._entries = most, most_idle, entries
        self._start, self.missing = start, missing
        self._on_ready, self._on_failed = on_ready, on_failed
        self.all: dict[Instance, FunctionVersion] = {}
        """Every instance whose process lives, those too that are sent no more calls."""
        self._tasks: set[asyncio.Task[None]] = set()

    def free_instance(
        self, entry: FunctionQueue, *, has_slot: bool, is_nested: bool, may_lie_ready: bool
    ) -> Instance | None:
        """An instance with room for a call, the last one used first: its caches are warm.

        Without a slot, one that runs calls already. Instances above the most that a function may
        have are there for nested calls alone: see :meth:`grow`. Where none is free, a call of a
        quick function ``may_lie_ready`` in one that is busy: not a nested one, whose caller may be
        the very call that is in its way.
        """
        instances = entry.served.instances
        if len(instances) > (most := self._most_of(entry)) and not is_nested:
            has_slot = has_slot and sum(bool(each.calls) for each in instances) < most
        at_once = entry.served.at_once
        for instance in reversed(instances):
            if (
                len(instance.calls) < at_once
                and (has_slot or instance.calls)
                and instance.takes_calls
            ):
                return instance
        if may_lie_ready and not is_nested:
            return self._shortest(instances, entry.ahead)
        return None

    def _shortest(self, instances: Collection[Instance], ahead: int) -> Instance | None:
        """The instance with the fewest calls, of those with up to ``ahead`` of them."""
        shortest, fewest = None, ahead + 1
        for each in instances:
            if 0 < len(each.calls) < fewest and not each.waiting and each.takes_calls:
                shortest, fewest = each, len(each.calls)
        return shortest

    def begun(self, instance: Instance) -> list[Any]:
        """Of an instance's calls those that may have begun; the others lie ready there."""
        calls = list(instance.calls.values())
        served = self.all.get(instance)
        return calls[:1] if served is not None and served.is_in_turn else calls

    def grow(self, entry: FunctionQueue) -> None:
        """Start one more instance, if the function may have one and none is starting.

        It may always have one for a call within its own calls, where every instance waits for one.
        """
        instances, queue = entry.served.instances, entry.queue
        is_stuck = all(each.waiting for each in instances)
        is_nested = bool(queue) and queue[0].depth > 0
        if len(instances) < self._most_of(entry) or (is_nested and is_stuck):
            self._add(entry, entry.served)

    def _most_of(self, entry: FunctionQueue) -> int:
        return min(entry.spec.max_instances or self._most, self._most)

    async def warm(self, served: FunctionVersion, instances: int = 1) -> BrokenFile | None:
        """Start the instances of a version that will take over; what is wrong if one fails."""
        if self.missing(served):
            return None
        found = await asyncio.gather(*(self._add_instance(served) for _ in range(instances)))
        return next((problem for problem in found if problem is not None), None)

    def retire(self, served: FunctionVersion) -> None:
        """Stop the instances of a version that nobody is sent to any more, busy ones when done."""
        for instance in list(served.instances):
            self._leave(served, instance)

    def freed(self, entry: FunctionQueue, instance: Instance) -> None:
        """A call of this instance has ended, which came for ``entry``: is it still wanted?"""
        if instance not in entry.served.instances:
            if not instance.calls:
                instance.stop()
        elif entry.spec.recycle is not None and instance.served >= entry.spec.recycle:
            self.replace(instance)

    def replace(self, instance: Instance) -> None:
        """Have a fresh instance take this one's place; it serves until that one is ready."""
        entry = self._entries.get(instance.job.function.encode())
        if entry is not None and not instance.is_worn and instance in entry.served.instances:
            instance.is_worn = self._add(entry, entry.served, worn=instance)

    async def renew(self, refs: Collection[ModelRef]) -> None:
        """Have instances load these versions of models, those of one function one after the other.

        Calls go to the others meanwhile. What has not come to it within :data:`RENEW_S` loads it
        before its next call: when this returns, no call is given to an older version any more.
        """
        names = {ref.name for ref in refs}
        holders = {each for each in self.all.values() if not names.isdisjoint(each.spec.models)}
        await asyncio.gather(*(self._renew(served, refs) for served in holders))

    async def _renew(self, served: FunctionVersion, refs: Collection[ModelRef]) -> None:
        ends = time.monotonic() + RENEW_S
        for instance in sorted(served.instances, key=lambda each: len(each.calls)):
            if instance in served.instances:  # it is asked last of all while it loads
                served.instances.remove(instance)
                served.instances.insert(0, instance)
            for ref in refs:
                instance.take_model(ref)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(instance.loaded.wait(), ends - time.monotonic())

    def forget(self, instance: Instance) -> None:
        """Send no more calls to an instance, whose process is being ended."""
        if (served := self.all.get(instance)) is not None:
            with contextlib.suppress(ValueError):
                served.instances.remove(instance)

    def gone(self, instance: Instance) -> None:
        """An instance's process has ended.

        One that calls could have been sent to, and that has served none, is a start that came to
        nothing: another is started at once, but after several of them only now and then.
        """
        served = self.all.pop(instance, None)
        if served is None or instance not in served.instances:
            return
        served.instances.remove(instance)
        entry = self._entries.get(instance.job.function.encode())
        if entry is not None and entry.served is served and not instance.served:
            self._pause(entry, DEATH_PAUSE_S if entry.failures else 0.0)

    def sweep(self, entry: FunctionQueue, now: float) -> None:
        """Grow where calls wait or too few are kept; stop what has been idle for long."""
        instances, spec = entry.served.instances, entry.spec
        if entry.failures and any(each.served for each in instances):
            entry.failures = 0
        too_few = len(instances) < spec.min_instances and not self.missing(entry.served)
        if too_few or self._is_worth_more(entry, now):
            self.grow(entry)
        idle_s = spec.idle_s or IDLE_S
        for instance in list(instances):
            if instance.calls or now - instance.idle_since <= idle_s:
                continue
            if len(instances) > spec.min_instances:
                self._leave(entry.served, instance)

    def trim(self) -> None:
        """Stop the longest idle instances above the number that a pool keeps."""
        if len(self.all) <= self._most_idle:
            return
        idle = [
            (instance, served)
            for instance, served in self.all.items()
            if instance.takes_calls and not instance.calls and not served.spec.min_instances
        ]
        idle.sort(key=lambda pair: pair[0].idle_since)
        for instance, served in idle[: max(0, len(idle) - self._most_idle)]:
            self._leave(served, instance)

    def _is_worth_more(self, entry: FunctionQueue, now: float) -> bool:
        """Whether calls have waited for long, and would go on to for want of an instance.

        Short calls that a busy machine held up for a moment are through before a further process
        could help; it would only take the processor from those that run.
        """
        instances, spec = entry.served.instances, entry.spec
        if not any(now - call.received > PATIENCE_S for call in entry.queue):
            return False
        if not instances:
            return True
        if any(each.takes_calls and not each.calls for each in instances):
            return False  # it is a slot that is wanting, or the batch is not due
        at_once = entry.served.at_once * spec.batch
        turns = math.ceil(len(entry.queue) / at_once) / len(instances)
        running_s: list[float] = [now - _oldest(each).started for each in instances if each.calls]
        return turns * max([entry.run_s, *running_s]) > PATIENCE_S

    def _leave(self, served: FunctionVersion, instance: Instance) -> None:
        with contextlib.suppress(ValueError):
            served.instances.remove(instance)
        if not instance.calls:
            instance.stop()

    def _add(
        self, entry: FunctionQueue, served: FunctionVersion, worn: Instance | None = None
    ) -> bool:
        """Start an instance, unless one is starting or the last has just failed to."""
        if served.starting or time.monotonic() < entry.retry_at:
            return False
        served.starting += 1
        task = asyncio.ensure_future(self._add_now(entry, served, worn))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _add_now(
        self, entry: FunctionQueue, served: FunctionVersion, worn: Instance | None
    ) -> None:
        try:
            problem = await self._add_instance(served)
        finally:
            served.starting -= 1
        if worn is not None:
            if problem is None:
                self._leave(served, worn)
            worn.is_worn = False
        if not self._is_current(entry, served):
            self.retire(served)
        elif problem is None:
            entry.load_error = None
        else:
            self._note_failure(entry, problem)
            if not served.instances:
                self._on_failed(entry, problem)
        self._on_ready()

    def _is_current(self, entry: FunctionQueue, served: FunctionVersion) -> bool:
        """Whether this version is still the one that calls are sent to."""
        return self._entries.get(entry.spec.name.encode()) is entry and entry.served is served

    def _note_failure(self, entry: FunctionQueue, problem: BrokenFile) -> None:
        """Open the circuit: no start for a while, longer each time."""
        entry.load_error = problem
        self._pause(entry)
        extra = {"function": entry.spec.name}
        log.error("%s cannot be loaded: %s", entry.spec.name, problem.error, extra=extra)

    def _pause(self, entry: FunctionQueue, most_s: float = RETRY_S[-1]) -> None:
        """Start nothing for a while, longer each time until an instance has served a call."""
        pause_s = min(RETRY_S[min(entry.failures, len(RETRY_S) - 1)], most_s)
        entry.retry_at = time.monotonic() + pause_s
        entry.failures += 1

    async def _add_instance(self, served: FunctionVersion) -> BrokenFile | None:
        try:
            instance, report = await self._start(served)
        except (OSError, TimeoutError, SkipperError) as error:
            told = str(error) or type(error).__name__
            return BrokenFile(file=str(served.source.file), error=told)
        if report.broken:
            instance.stop()
            return report.broken[0]
        if not instance.is_alive:
            await instance.gone
            told = f"it ended as soon as it had loaded: {instance.death_reason}"
            return BrokenFile(file=str(served.source.file), error=told)
        self.all[instance] = served
        served.instances.append(instance)
        return None


def _oldest(instance: Instance) -> Any:
    """The call that it has been running for longest."""
    return next(iter(instance.calls.values()))
