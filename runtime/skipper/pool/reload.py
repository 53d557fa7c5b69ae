"""Follows the project's files: surveyed and read in instances, and exchanged blue/green.

A changed file is read by a new process first. Only when that has succeeded, and a new instance has
taken the place of each one that was warm, do calls move to the new code; a broken file changes
nothing but the report.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Never, Protocol

from skipper.failpoints import failpoint
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes import devices
from skipper.pool.processes.instance import Instance, JobRunner, SlotlessOwner
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.spec import BrokenFile
from skipper.wire.frames import Frame

log = logging.getLogger(__name__)

READS_PER_CORE = 2
"""Files that are read at once: more of them would only take the memory and be no faster."""


class Reader(SlotlessOwner[Never]):
    """Owns the instances that only load files: they are given no calls."""

    def on_frame(self, instance: Instance[Never], frame: Frame) -> None: ...

    def on_gone(self, instance: Instance[Never]) -> None: ...


class ServingLane(Protocol):
    """What new code means to the lane whose callers wait on the line."""

    async def warm(self, version: FunctionVersion) -> BrokenFile | None:
        """Have as many instances of a version ready as serve its function now.

        What is wrong where one cannot serve.
        """

    def assign(self, version: FunctionVersion) -> None:
        """Send this version the calls of its function that come from now on."""

    def retire(self, version: FunctionVersion) -> None:
        """Send a version no more calls and stop its instances, busy ones when done.

        Where it is the assigned one, its function is served no more.
        """


class RetiringLane(Protocol):
    """What new code means to a lane that looks for a version whenever it has something to run."""

    def retire(self, version: FunctionVersion) -> None:
        """Stop the instances of a version that serves no more, busy ones when done."""


class Reloader:
    """Keeps a pool's catalogue as the files are. ``on_change`` runs after each of its changes."""

    def __init__(
        self,
        settings: Settings,
        pool: str,
        catalogue: Catalogue,
        instances: JobRunner,
        *,
        direct: ServingLane,
        tasks: RetiringLane,
        quarantine: Quarantine,
        on_change: Callable[[], None],
        metrics: PoolMetrics,
        exists: Callable[[Path], bool] = Path.exists,
    ) -> None:
        self._settings, self._pool, self._catalogue = settings, pool, catalogue
        self._instances, self._direct, self._tasks = instances, direct, tasks
        self._quarantine, self._on_change, self._metrics = quarantine, on_change, metrics
        self._reader, self._exists = Reader(), exists
        self._warnings: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()
        self._reads = asyncio.Semaphore(READS_PER_CORE * (os.cpu_count() or 1))

    async def refresh(self) -> None:
        """Look at the project again and follow what has changed."""
        async with self._turn:
            report = await self._survey()
            if report is None:
                self._catalogue.loading.discard("*")
                self._on_change()
                return
            mine = {s.name: s for s in report.sources if s.pools is None or self._pool in s.pools}
            self._record_unreadable((*report.broken, *report.left_out))
            self._log_warnings(report.warnings)
            self._forget(set(self._catalogue.known) - set(mine))
            changed = [s for s in mine.values() if s != self._catalogue.known.get(s.name)]
            self._catalogue.reading = changed
            self._catalogue.loading = {source.name for source in changed}
            self._on_change()
            # Light files first: one that needs a heavy library waits for its template anyway.
            light = [s for s in changed if not s.imports]
            heavy = [s for s in changed if s.imports]
            for group in (light, heavy):
                await asyncio.gather(*(self._follow(source) for source in group))
            self._catalogue.reading = []

    async def _survey(self) -> Report | None:
        self._quarantine.review()
        job = Job(
            kind=JobKind.SURVEY,
            project_dir=self._settings.project_dir,
            environment=devices.NONE,
            pools=tuple(self._settings.pools),
            set_up=self._settings.set_up_plugins,
        )
        try:
            instance, report = await self._instances.run(job, self._reader)
        except OSError as error:
            detail = f"the project cannot be read: {str(error) or type(error).__name__}"
            log.error(detail)
            folder = str(self._settings.functions_dir)
            self._catalogue.unreadable[folder] = BrokenFile(file=folder, error=detail)
            return None
        instance.stop()
        return report

    def _record_unreadable(self, items: Iterable[BrokenFile]) -> None:
        before, self._catalogue.unreadable = (
            self._catalogue.unreadable,
            {item.file: item for item in items},
        )
        for item in self._catalogue.unreadable.values():
            if before.get(item.file) != item:
                self._log_broken(item)

    def _log_warnings(self, warnings: Collection[str]) -> None:
        """Log what was not so before: one host of the tree does, as all see the same."""
        before, self._warnings = self._warnings, frozenset(warnings)
        if self._pool == self._settings.local_pools[0]:
            for warning in sorted(self._warnings - before):
                log.warning(warning)

    def _forget(self, names: set[str]) -> None:
        """Drop sources that are gone; one that merely does not parse now keeps its good version."""
        for name in names:
            if str(self._catalogue.known[name].file) not in self._catalogue.unreadable:
                self._catalogue.failed.pop(name, None)
                self._replace(self._catalogue.known.pop(name), [])

    async def _follow(self, source: SourceInfo) -> None:
        """Read one file and, where it is good, move calls to it."""
        await self._read_and_move(source)
        # Not where this is cut short: a host that shuts down has read no fewer files than before.
        self._catalogue.loading.discard(source.name)
        self._on_change()

    async def _read_and_move(self, source: SourceInfo) -> None:
        started = time.monotonic()
        report = await self._read(source)
        failpoint("catalogue.read")
        for plugin in report.left_out:
            if plugin.file not in self._catalogue.unreadable:
                self._quarantine.record(plugin)
        if report.broken:
            if self._exists(source.file):  # else it went meanwhile: the next look will tell
                self._keep_old(source, report.broken[0])
            return
        mine = [spec for spec in report.specs if spec.pool == self._pool]
        fresh = [FunctionVersion(spec, source, report.texts) for spec in mine]
        for version in fresh:
            if (problem := await self._direct.warm(version)) is not None:
                self._keep_old(source, problem)
                for warm in fresh:
                    self._direct.retire(warm)
                return
        failpoint("catalogue.warmed")
        is_change = source.name in self._catalogue.known
        self._catalogue.known[source.name] = source
        self._catalogue.failed.pop(source.name, None)
        self._replace(source, fresh)
        failpoint("catalogue.switched")
        if fresh and is_change:
            self._metrics.reloads["swapped"] += 1
            log.info(
                "%s changed: %s live in %d ms",
                source.file.name,
                ", ".join(f"{v.name} {v.spec.code}" for v in fresh),
                (time.monotonic() - started) * 1000,
                extra={"event": "reload"},
            )

    async def _read(self, source: SourceInfo) -> Report:
        job = Job(
            kind=JobKind.READ,
            project_dir=self._settings.project_dir,
            source=source,
            pools=tuple(self._settings.pools),
            settings=self._settings.table_of(source.plugin),
            environment=source.environment | devices.NONE,
        )
        try:
            async with self._reads:
                instance, report = await self._instances.run(job, self._reader)
        except TimeoutError:
            limit = self._settings.pools[self._pool].load_timeout_s
            return Report(
                broken=(
                    BrokenFile(file=str(source.file), error=f"it did not load within {limit:g} s"),
                )
            )
        except OSError as error:
            detail = f"its process ended while it was loaded: {error}"
            return Report(broken=(BrokenFile(file=str(source.file), error=detail),))
        instance.stop()
        return report

    def _keep_old(self, source: SourceInfo, problem: BrokenFile) -> None:
        self._catalogue.known[source.name] = source
        self._catalogue.failed[source.name] = problem
        self._metrics.reloads["broken"] += 1
        self._log_broken(problem)

    def _log_broken(self, item: BrokenFile) -> None:
        item = self._catalogue.shown(item)
        where = f"{item.file}:{item.line}" if item.line else item.file
        kept = f"; {', '.join(item.functions)} stay as they were" if item.functions else ""
        hint = f" ({item.hint})" if item.hint else ""
        log.error(
            "%s could not be loaded: %s%s%s",
            where,
            item.error,
            hint,
            kept,
            extra={"event": "broken"},
        )

    def _replace(self, source: SourceInfo, fresh: list[FunctionVersion]) -> None:
        """Assign ``fresh``, and retire whatever the source served before."""
        names = {version.name for version in fresh}
        before = [each for each in self._catalogue.versions if each.source.name == source.name]
        for version in fresh:
            self._catalogue.assign(version)
            self._direct.assign(version)
            for old in self._catalogue.superseded(version.name):
                self._retire(old)
        for version in before:
            if version.name not in names:
                for each in (*self._catalogue.superseded(version.name), version):
                    self._retire(each)
                log.info("%s is no longer served", version.name, extra={"event": "removed"})

    def _retire(self, version: FunctionVersion) -> None:
        self._catalogue.retire(version)
        self._tasks.retire(version)
        self._direct.retire(version)
