"""Every instance of a pool: how it is started, what it may use, what becomes of its output."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import psutil

from skipper.failpoints import failpoint
from skipper.instance.jobs import Job, JobKind, Report
from skipper.instance.link import OWN
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.processes import devices
from skipper.pool.processes.instance import Instance, InstanceState, Lane, PluginEndedError
from skipper.pool.processes.output import Echo, Printed
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.starter import Starter, children, end_strays
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.settings.pools import PoolSettings
from skipper.wire.frames import Frame
from skipper.wire.messages import InstanceInfo

log = logging.getLogger(__name__)

TASK_NICENESS = 10
MEMORY_CHECK_S = 0.5
STRAY_CHECK_S = 1.0
STARTS = 3
"""Processes that may die while they load before it is held to be the code's doing."""
WORN_SHARE = 0.8
"""An instance that has filled this share of the memory it may take is replaced before the rest."""
WORN_AFTER_S = 30.0
"""Not earlier in its life: a function that needs so much at once would be replaced for ever."""


class LaneOwner(Protocol):
    """What a lane does with its instances."""

    def on_frame(self, instance: Instance, frame: Frame) -> None: ...

    def on_gone(self, instance: Instance) -> None: ...


class Instances:
    """Starts instances and keeps watch over all of them.

    ``lanes`` owns what they say; ``on_own`` takes the frames of calls that they make themselves.
    """

    def __init__(
        self,
        settings: Settings,
        pool: str,
        starter: Starter,
        served_models: ServedModels,
        metrics: PoolMetrics,
    ) -> None:
        self._settings, self._pool = settings, pool
        self._starter, self._served_models, self._metrics = starter, served_models, metrics
        self.devices = devices.find() if self.pool_settings.devices else ()
        self._device_use: Counter[str] = Counter()
        self.quarantine = Quarantine()
        self.all: set[Instance] = set()
        self.lanes: dict[Lane, LaneOwner] = {}
        self.on_own: Callable[[Instance, Frame], None] = lambda _instance, _frame: None
        self.on_worn: Callable[[Instance], None] = lambda _instance: None
        """Runs for an instance of the direct lane that has filled most of its memory."""
        self.on_printed: Callable[[Instance, Printed], str | None] = lambda _instance, _printed: (
            None
        )
        """Takes what an instance prints; the task it belongs to."""
        self._echoes: defaultdict[Instance, Echo] = defaultdict(Echo)
        self._cores = os.cpu_count() or 1
        self._memory_mb = _memory_limit_mb(self.pool_settings)
        self._next_memory = self._next_strays = 0.0
        self._before = children()
        """Whoever was there before: no instance, and not what one has left behind."""
        self._suspects: set[int] = set()
        self._is_closing = False

    @property
    def pool_settings(self) -> PoolSettings:
        return self._settings.pools[self._pool]

    async def run(
        self, job: Job, lane: Lane, *, spawn: bool = False, timeout_s: float | None = None
    ) -> tuple[Instance, Report]:
        """Start an instance; it, with its report. Raises OSError or TimeoutError if none comes.

        It may load for ``timeout_s``, or as long as the pool's settings say. One that dies before
        it has reported has not done anything yet, so another is started. A plugin at whose turn
        that happens is left out from then on.
        """
        limit_s = timeout_s or self.pool_settings.load_timeout_s
        while True:
            without = job.model_copy(update={"without": self.quarantine.names})
            try:
                return await self._insist(without, lane, limit_s, spawn=spawn)
            except PluginEndedError as error:
                if self._is_closing or not self.quarantine.add(error):
                    raise

    async def _insist(
        self, job: Job, lane: Lane, limit_s: float, *, spawn: bool
    ) -> tuple[Instance, Report]:
        for _ in range(STARTS - 1):
            try:
                return await self._run(job, lane, limit_s, spawn=spawn)
            except ConnectionError as error:
                if self._is_closing or (isinstance(error, PluginEndedError) and error.is_late):
                    raise
                log.warning("an instance died while it loaded and is started again: %s", error)
        return await self._run(job, lane, limit_s, spawn=spawn)

    async def _run(
        self, job: Job, lane: Lane, limit_s: float, *, spawn: bool
    ) -> tuple[Instance, Report]:
        instance = Instance(
            job, lane, on_frame=self._on_frame, on_printed=self._on_printed, on_gone=self._on_gone
        )
        ends = await self._starter.start(instance, spawn=spawn)
        failpoint("instances.forked")
        instance.pid = ends.pid
        self.all.add(instance)
        self._count_device(instance, 1)
        return instance, await instance.start(ends, limit_s)

    async def serve(self, version: FunctionVersion, lane: Lane) -> tuple[Instance, Report]:
        """Start an instance that runs calls of one function. Raises as :meth:`run`."""
        started = time.monotonic()
        job = Job(
            kind=JobKind.SERVE,
            project_dir=self._settings.project_dir,
            source=version.source,
            texts=version.texts,
            function=version.spec.name,
            models=self._served_models.refs(version.spec.models),
            storage_url=self._settings.storage_url,
            tmp_dir=self._settings.state_dir / "tmp",
            threads=self.threads(lane),
            memory_mb=version.spec.memory_mb or 0,
            max_result=int(self.pool_settings.max_result_mb * (1 << 20)),
            nice=TASK_NICENESS if lane is Lane.TASKS else 0,
            settings=self._settings.of_source(version.source.name),
            environment=version.source.environment
            | devices.environment(self.devices, self._device_use),
        )
        # A device may not survive a fork: contexts are a process's own, says the CUDA C guide,
        # https://docs.nvidia.com/cuda/cuda-c-programming-guide
        has_device = bool(self.devices) and self.pool_settings.start == "auto"
        limit_s = version.spec.start_timeout_s
        instance, report = await self.run(job, lane, spawn=has_device, timeout_s=limit_s)
        for ref in self._served_models.refs(version.spec.models):
            instance.take_model(ref)  # published while it was loading
        self._metrics.cold_starts[version.spec.name].observe(time.monotonic() - started)
        return instance, report

    def threads(self, lane: Lane) -> int:
        """An instance's share of the cores while as many of its lane run as may run at once."""
        slots = self.task_slots if lane is Lane.TASKS else self.slots
        return self._cores // min(slots, self._cores)

    @property
    def slots(self) -> int:
        return self.pool_settings.slots or 2 * self._cores

    @property
    def task_slots(self) -> int:
        return self.pool_settings.task_slots or self._cores

    def sweep(self, now: float) -> None:
        """Enforce memory limits; end what user code left behind."""
        if now >= self._next_memory:
            self._next_memory = now + MEMORY_CHECK_S
            for instance in self.all:
                self._check_memory(instance, now)
        if now >= self._next_strays:
            self._next_strays = now + STRAY_CHECK_S
            self._end_strays()

    def _end_strays(self) -> None:
        """End whoever was nobody's at two looks: a fork is known a moment after it is there."""
        if self._starter.is_forking:
            return
        known = {instance.pid for instance in self.all} | self._starter.pids
        strays = children() - known - self._before
        end_strays(strays & self._suspects)
        self._suspects = strays

    async def close(self) -> None:
        self._is_closing = True
        for instance in list(self.all):
            instance.kill()
        for instance in list(self.all):
            await instance.gone

    def _check_memory(self, instance: Instance, now: float) -> None:
        if not instance.is_alive or not instance.pid:
            return
        limit = instance.job.memory_mb or self._memory_mb
        used = instance.memory_mb()
        grown, room = used - instance.ready_mb, limit - instance.ready_mb
        if grown > WORN_SHARE * room and now - instance.ready_at > WORN_AFTER_S:
            self._wear(instance)
        if used > limit:
            told = f"it used {used:.0f} MiB of memory, more than its limit of {limit} MiB"
            instance.death_reason = told
            log.warning("%s: %s", instance.name, told, extra={"function": instance.job.function})
            instance.kill()

    def _wear(self, instance: Instance) -> None:
        if instance.lane is Lane.TASKS:
            instance.is_worn = True  # what it runs may still end well; nothing follows it
        else:
            self.on_worn(instance)

    def _on_frame(self, instance: Instance, frame: Frame) -> None:
        if frame.id >= OWN:
            self.on_own(instance, frame)
        elif (owner := self.lanes.get(instance.lane)) is not None:
            owner.on_frame(instance, frame)

    def _on_printed(self, instance: Instance, printed: Printed) -> None:
        source = instance.job.source.name if instance.job.source else "plugins"
        extra = {"function": instance.job.function or source}
        if (task := self.on_printed(instance, printed)) is not None:
            extra["task"] = task
        self._echoes[instance].write(printed, extra)

    def _on_gone(self, instance: Instance) -> None:
        self.all.discard(instance)
        self._echoes.pop(instance, Echo()).end()
        self._count_device(instance, -1)
        if (owner := self.lanes.get(instance.lane)) is not None:
            owner.on_gone(instance)

    def _count_device(self, instance: Instance, change: int) -> None:
        self._device_use[instance.job.environment.get("CUDA_VISIBLE_DEVICES", "")] += change

    def describe(self) -> tuple[InstanceInfo, ...]:
        """Those that serve."""
        return tuple(
            InstanceInfo(
                function=instance.job.function,
                code=instance.job.source.code if instance.job.source else None,
                state=instance.state,
                lane=instance.lane,
                pid=instance.pid,
                calls=len(instance.calls),
                memory_mb=round(instance.memory_mb(), 1),
            )
            for instance in self.all
            if instance.lane is not Lane.READING and instance.state is not InstanceState.GONE
        )


def _memory_limit_mb(settings: PoolSettings) -> int:
    return settings.memory_mb or (_memory() >> 20) // 2


def _memory() -> int:
    """Bytes that processes here may use: the machine's, or fewer where a control group says so."""
    total: int = psutil.virtual_memory().total
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # no such file; "max"
            total = min(total, int(Path("/sys/fs/cgroup", file).read_text()))
    return total
