"""Has instances read the project's files: which there are, and what each of them declares."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Never, Protocol

from skipper import machine
from skipper.instance.jobs import Job, JobKind, ModuleText, Report, SourceInfo
from skipper.pool.last_good import GoodFile, LastGood
from skipper.pool.processes import devices
from skipper.pool.processes.instance import Instance, JobRunner, SlotlessOwner
from skipper.settings.handover import LAST_GOOD
from skipper.settings.model import Settings
from skipper.spec import BrokenFile
from skipper.wire.frames import Frame

READS_PER_CORE = 2
"""Files that are read at once: more of them would only take the memory and be no faster."""

STALE_READS = 20
"""A file that changes this often while it is read is taken as it is: the next look will tell."""


class FileRunner(JobRunner, Protocol):
    """What starts instances: :class:`~skipper.pool.processes.instances.Instances`."""

    def keep_templates(self, sources: Iterable[SourceInfo]) -> None:
        """Let go of what was prepared for other files than these."""


class _Reading(SlotlessOwner[Never]):
    """Owns the instances that read files: they are given no calls."""

    def on_frame(self, instance: Instance[Never], frame: Frame) -> None: ...

    def on_gone(self, instance: Instance[Never]) -> None: ...


class FileReader:
    """Reads files for one pool. ``exists`` looks whether a file is there."""

    def __init__(
        self,
        settings: Settings,
        pool: str,
        instances: FileRunner,
        exists: Callable[[Path], bool] = Path.exists,
    ) -> None:
        self._settings, self.pool, self._instances = settings, pool, instances
        self.exists = exists
        self._good = LastGood(settings.run_dir / LAST_GOOD / pool)
        self._owner = _Reading()
        self._reads = asyncio.Semaphore(READS_PER_CORE * machine.here().cores)

    @property
    def functions_dir(self) -> Path:
        return self._settings.functions_dir

    @property
    def is_first_pool(self) -> bool:
        """Whether what all pools see alike is this one's to log."""
        return self.pool == self._settings.local_pools[0]

    async def survey(self) -> Report:
        """Which files there are, in all pools. Raises OSError where that cannot be found out."""
        job = Job(
            kind=JobKind.SURVEY,
            project_dir=self._settings.project_dir,
            environment=devices.NONE,
            pools=tuple(self._settings.pools),
            set_up=self._settings.set_up_plugins,
        )
        instance, report = await self._instances.run(job, self._owner)
        instance.stop()
        return report

    async def read(self, source: SourceInfo, texts: tuple[ModuleText, ...] = ()) -> Report:
        """What one file declares, or what is wrong with it: never what it was half-written.

        With ``texts`` they are read, whatever the file holds by now.
        """
        for _ in range(STALE_READS):
            report = await self._read(source, texts)
            if not report.is_stale:
                break
        return report

    async def _read(self, source: SourceInfo, texts: tuple[ModuleText, ...]) -> Report:
        job = Job(
            kind=JobKind.READ,
            project_dir=self._settings.project_dir,
            source=source,
            texts=texts,
            pools=tuple(self._settings.pools),
            settings=self._settings.table_of(source.plugin),
            environment=source.environment | devices.NONE,
        )
        try:
            async with self._reads:
                instance, report = await self._instances.run(job, self._owner)
        except TimeoutError:
            limit_s = self._settings.pools[self.pool].load_timeout_s
            return _broken(source, f"it did not load within {limit_s:g} s")
        except OSError as error:
            return _broken(source, f"its process ended while it was loaded: {error}")
        instance.stop()
        return report

    def keep_good(self, source: SourceInfo, texts: tuple[ModuleText, ...]) -> None:
        """Keep what was read for a host that comes after this one."""
        if texts:
            self._good.keep(GoodFile(source=source, texts=texts))

    def drop_good(self, name: str) -> None:
        """Keep nothing of a file."""
        self._good.drop(name)

    async def last_good(self, name: str) -> tuple[SourceInfo, Report] | None:
        """What a file declared when it last was good, under this host or one before it."""
        if (good := self._good.find(name)) is None:
            return None
        return good.source, await self.read(good.source, good.texts)

    def keep(self, sources: Iterable[SourceInfo]) -> None:
        """Let go of what was prepared for other files than these."""
        self._instances.keep_templates(sources)


def _broken(source: SourceInfo, error: str) -> Report:
    return Report(broken=(BrokenFile(file=str(source.file), error=error),))
