"""Every instance of a pool: how it is started, what it may use, what becomes of its output."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from secrets import token_hex

from skipper import machine
from skipper.failpoints import failpoint
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo
from skipper.pool.processes import devices
from skipper.pool.processes.instance import C, Instance, InstanceOwner, NestedCalls
from skipper.pool.processes.output import Echo, Printed
from skipper.pool.processes.process import (
    InstanceProcess,
    InstanceState,
    Lane,
    ModelEndedError,
    PluginEndedError,
)
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.starter import Starter
from skipper.pool.processes.strays import Strays
from skipper.pool.processes.version import Edition
from skipper.pool.slots import Capacity
from skipper.settings.model import Settings
from skipper.settings.pools import PoolSettings
from skipper.wire.lines import Cause
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


class Instances:
    """Starts instances for their owners, and keeps watch over all of them.

    The calls that instances make themselves go to ``nested``.
    """

    def __init__(
        self,
        settings: Settings,
        pool: str,
        starter: Starter,
        nested: NestedCalls,
        quarantine: Quarantine,
    ) -> None:
        self._settings, self._pool = settings, pool
        self._starter, self._nested, self._quarantine = starter, nested, quarantine
        self.devices = devices.find() if self.pool_settings.devices else ()
        self._device_use: Counter[str] = Counter()
        self._direct_threads = Capacity.of(self.pool_settings).direct_threads
        self.all: set[InstanceProcess] = set()
        self._echoes: dict[InstanceProcess, Echo] = {}
        self._memory_mb = _memory_limit_mb(self.pool_settings)
        self._next_memory = self._next_strays = 0.0
        self._strays = Strays()
        self._is_closing = False

    @property
    def pool_settings(self) -> PoolSettings:
        return self._settings.pools[self._pool]

    async def run(
        self,
        job: Job,
        owner: InstanceOwner[C],
        *,
        spawn: bool = False,
        timeout_s: float | None = None,
    ) -> tuple[Instance[C], Report]:
        """Start an instance; it, with its report. Raises OSError or TimeoutError if none comes.

        It may load for ``timeout_s``, or as long as the pool's settings say. One that dies before
        it has reported has not done anything yet, so another is started. A plugin at whose turn
        that happens is left out from then on.
        """
        limit_s = timeout_s or self.pool_settings.load_timeout_s
        while True:
            changed = {"without": self._quarantine.names, "mark": token_hex(8)}
            changed["log_level"] = self._settings.log.level_of(_function_of(job))
            without = job.model_copy(update=changed)
            try:
                return await self._insist(without, owner, limit_s, spawn=spawn)
            except PluginEndedError as error:
                if self._is_closing or not self._quarantine.add(error):
                    raise

    async def _insist(
        self, job: Job, owner: InstanceOwner[C], limit_s: float, *, spawn: bool
    ) -> tuple[Instance[C], Report]:
        for _ in range(STARTS - 1):
            try:
                return await self._run(job, owner, limit_s, spawn=spawn)
            except ConnectionError as error:
                culprits = PluginEndedError, ModelEndedError
                if self._is_closing or (isinstance(error, culprits) and error.is_late):
                    raise
                log.warning("an instance died while it loaded and is started again: %s", error)
        return await self._run(job, owner, limit_s, spawn=spawn)

    async def _run(
        self, job: Job, owner: InstanceOwner[C], limit_s: float, *, spawn: bool
    ) -> tuple[Instance[C], Report]:
        instance = Instance(job, owner, self, self._nested)
        ends = await self._starter.start(job, spawn=spawn)
        failpoint("instances.forked")
        instance.pid = ends.pid
        self.all.add(instance)
        self._count_device(instance, 1)
        return instance, await instance.start(ends, limit_s)

    async def serve(
        self, edition: Edition, owner: InstanceOwner[C], *, gives_way: bool = False
    ) -> tuple[Instance[C], Report]:
        """Start an instance that runs calls of one function. Raises as :meth:`run`.

        One that nobody waits for ``gives_way`` to others until it is ready.
        """
        # A device may not survive a fork: contexts are a process's own, says the CUDA C guide,
        # https://docs.nvidia.com/cuda/cuda-c-programming-guide
        has_device = bool(self.devices) and self.pool_settings.start == "auto"
        version = edition.version
        limit_s = version.spec.start_timeout_s
        threads = owner.threads_for(version) or version.spec.threads or self._direct_threads
        job = self._job(edition, owner.lane, threads)
        job = job.model_copy(update={"gives_way": gives_way})
        return await self.run(job, owner, spawn=has_device, timeout_s=limit_s)

    def _job(self, edition: Edition, lane: Lane, threads: int) -> Job:
        version = edition.version
        return Job(
            kind=JobKind.SERVE,
            project_dir=self._settings.project_dir,
            source=version.source,
            texts=version.texts,
            function=version.name,
            models=edition.models,
            storage_url=self._settings.storage_url,
            tmp_dir=self._settings.state_dir / "tmp",
            models_dir=self._settings.models_dir,
            spool_dir=self._settings.spool_dir,
            threads=threads,
            memory_mb=version.spec.memory_mb or self._memory_mb,
            max_result=int(self.pool_settings.max_result_mb * (1 << 20)),
            in_development=bool(self._settings.run.reload),
            nice=TASK_NICENESS if lane is Lane.TASKS else 0,
            settings=self._settings.table_of(version.source.plugin),
            environment=version.source.environment
            | devices.environment(self.devices, self._device_use),
        )

    def keep_templates(self, sources: Iterable[SourceInfo]) -> None:
        """Retire the templates that none of these files needs."""
        self._starter.keep(sources)

    def sweep(self, now: float) -> None:
        """Enforce memory limits; end what user code left behind."""
        if now >= self._next_memory:
            self._next_memory = now + MEMORY_CHECK_S
            for instance in self.all:
                self._check_memory(instance, now)
        if now >= self._next_strays:
            self._next_strays = now + STRAY_CHECK_S
            if not self._starter.is_forking:
                self._strays.look({each.pid for each in self.all} | self._starter.pids)

    async def stop(self, timeout_s: float) -> None:
        """Have every instance come to its own end, for so long at most."""
        self._is_closing = True
        ending = [instance.gone for instance in self.all]
        for instance in list(self.all):
            instance.stop()
        if ending:
            await asyncio.wait(ending, timeout=timeout_s)

    async def close(self) -> None:
        """End those that are left, now."""
        self._is_closing = True
        for instance in list(self.all):
            instance.kill()
        for instance in list(self.all):
            await instance.gone

    def _check_memory(self, instance: InstanceProcess, now: float) -> None:
        if not instance.is_alive or not instance.pid:
            return
        limit = instance.job.memory_mb or self._memory_mb
        used = instance.memory_mb()
        grown, room = used - instance.ready_mb, limit - instance.ready_mb
        if grown > WORN_SHARE * room and now - instance.ready_at > WORN_AFTER_S:
            instance.wear()
        if used > limit:
            reason = f"it used {used:.0f} MiB of memory, more than its limit of {limit} MiB"
            instance.death_reason = reason
            log.warning("%s: %s", instance.name, reason, extra={"function": instance.job.function})
            instance.kill()

    def on_printed(self, instance: InstanceProcess, printed: Printed, cause: Cause | None) -> None:
        """Put what an instance prints into the tree's log."""
        if (echo := self._echoes.get(instance)) is None:
            echo = self._echoes[instance] = Echo(instance.job.log_level)
        echo.write(printed, {"function": _function_of(instance.job) or "plugins"}, cause)

    def on_gone(self, instance: InstanceProcess) -> None:
        """Watch it no more: its process has ended."""
        self.all.discard(instance)
        if (echo := self._echoes.pop(instance, None)) is not None:
            echo.end()
        self._count_device(instance, -1)

    def _count_device(self, instance: InstanceProcess, change: int) -> None:
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
                calls=instance.running,
                memory_mb=round(instance.memory_mb(), 1),
            )
            for instance in self.all
            if instance.lane is not Lane.READING and instance.state is not InstanceState.GONE
        )


def _function_of(job: Job) -> str:
    """The function that an instance serves, or the file that it reads, or nothing."""
    return job.function or (job.source.name if job.source else "")


def _memory_limit_mb(settings: PoolSettings) -> int:
    return settings.memory_mb or (machine.here().memory >> 20) // 2
