"""What this pool serves: files are surveyed and read in instances, and exchanged blue/green.

A changed file is read by a new process first. Only when that has succeeded, and a new instance has
taken the place of each one that was warm, do calls move to the new code; a broken file changes
nothing but the report.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from skipper.failpoints import failpoint
from skipper.instance.jobs import Job, JobKind, Report, SourceInfo
from skipper.pool.direct.queue import UNKNOWN_S, FunctionQueue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.processes import devices
from skipper.pool.processes.instance import Instance, Lane
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.spec import BrokenFile

log = logging.getLogger(__name__)

READS_PER_CORE = 2
"""Files that are read at once: more of them would only take the memory and be no faster."""


Runner = Callable[[Job, Lane], Awaitable[tuple[Instance, Report]]]
"""Starts an instance with a job; returns it with its report."""


class Catalogue:
    """The functions of one pool. ``on_change`` runs after every change of what it would report."""

    def __init__(
        self,
        settings: Settings,
        pool: str,
        run: Runner,
        *,
        quarantine: Quarantine,
        on_change: Callable[[], None],
        warm: Callable[[FunctionVersion, int], Awaitable[BrokenFile | None]],
        retire: Callable[[FunctionVersion], None],
        drop: Callable[[FunctionQueue], None],
        metrics: PoolMetrics,
        exists: Callable[[Path], bool] = Path.exists,
    ) -> None:
        self._settings, self._pool, self._run = settings, pool, run
        self._exists = exists
        self._quarantine = quarantine
        self._on_change, self._warm, self._retire, self._drop = on_change, warm, retire, drop
        self._metrics = metrics
        self.entries: dict[bytes, FunctionQueue] = {}
        self.loading: set[str] = {"*"}
        """Files that are being read, ``*`` while it is not known which there are."""
        self._sources: dict[str, SourceInfo] = {}
        self._reading: list[SourceInfo] = []
        self._unreadable: dict[str, BrokenFile] = {}
        """By file: files that do not even parse, and plugins."""
        self._failed: dict[str, BrokenFile] = {}
        """By name of the source: files that did not load."""
        self._turn = asyncio.Lock()
        self._reads = asyncio.Semaphore(READS_PER_CORE * (os.cpu_count() or 1))

    @property
    def sources(self) -> list[SourceInfo]:
        """The files that are served or being read."""
        return [*self._sources.values(), *self._reading]

    @property
    def unsettled(self) -> set[str]:
        """Sources that may define more than is known now; ``*`` where any may."""
        functions = self._settings.functions_dir
        unreadable = (Path(file) for file in self._unreadable)
        stems = {
            Path(file.relative_to(functions).parts[0]).stem
            if file.is_relative_to(functions)
            else "*"  # a plugin: who knows which functions it would bring
            for file in unreadable
        }
        return self.loading | self._failed.keys() | stems

    async def refresh(self) -> None:
        """Look at the project again and follow what has changed."""
        async with self._turn:
            report = await self._survey()
            if report is None:
                self.loading.discard("*")
                self._on_change()
                return
            mine = {s.name: s for s in report.sources if s.pools is None or self._pool in s.pools}
            self._note_unreadable((*report.broken, *report.left_out))
            self._forget(set(self._sources) - set(mine))
            changed = [s for s in mine.values() if s != self._sources.get(s.name)]
            self._reading = changed
            self.loading = {source.name for source in changed}
            self._on_change()
            # Light files first: one that needs a heavy library waits for its template anyway.
            light = [s for s in changed if not s.imports]
            heavy = [s for s in changed if s.imports]
            for group in (light, heavy):
                await asyncio.gather(*(self._follow(source) for source in group))
            self._reading = []

    async def _survey(self) -> Report | None:
        self._quarantine.review()
        job = Job(
            kind=JobKind.SURVEY,
            project_dir=self._settings.project_dir,
            environment=devices.NONE,
            set_up=self._settings.set_up_sources,
        )
        try:
            instance, report = await self._run(job, Lane.READING)
        except OSError as error:
            told = f"the project cannot be read: {str(error) or type(error).__name__}"
            log.error(told)
            folder = str(self._settings.functions_dir)
            self._unreadable[folder] = BrokenFile(file=folder, error=told)
            return None
        instance.stop()
        return report

    def _note_unreadable(self, items: Iterable[BrokenFile]) -> None:
        before, self._unreadable = self._unreadable, {item.file: item for item in items}
        for item in self._unreadable.values():
            if before.get(item.file) != item:
                self._say_broken(item)

    def _forget(self, names: set[str]) -> None:
        """Drop sources that are gone; one that merely does not parse now keeps its good version."""
        for name in names:
            if str(self._sources[name].file) not in self._unreadable:
                self._failed.pop(name, None)
                self._replace(self._sources.pop(name), [])

    async def _follow(self, source: SourceInfo) -> None:
        """Read one file and, where it is good, move calls to it."""
        await self._read_and_move(source)
        # Not where this is cut short: a host that shuts down has read no fewer files than before.
        self.loading.discard(source.name)
        self._on_change()

    async def _read_and_move(self, source: SourceInfo) -> None:
        started = time.monotonic()
        report = await self._read(source)
        failpoint("catalogue.read")
        for plugin in report.left_out:
            if plugin.file not in self._unreadable:
                self._quarantine.note(plugin)
        if report.broken:
            if self._exists(source.file):  # else it went meanwhile: the next look will tell
                self._keep_old(source, report.broken[0])
            return
        mine = [spec for spec in report.specs if spec.pool == self._pool]
        fresh = [FunctionVersion(spec, source, report.texts) for spec in mine]
        for served in fresh:
            if (problem := await self._warm_up(served)) is not None:
                self._keep_old(source, problem)
                for warm in fresh:
                    self._retire(warm)
                return
        failpoint("catalogue.warmed")
        is_change = source.name in self._sources
        self._sources[source.name] = source
        self._failed.pop(source.name, None)
        self._replace(source, fresh)
        failpoint("catalogue.switched")
        if fresh and is_change:
            self._metrics.reloads["swapped"] += 1
            log.info(
                "%s changed: %s live in %d ms",
                source.file.name,
                ", ".join(f"{s.spec.name} {s.spec.code}" for s in fresh),
                (time.monotonic() - started) * 1000,
                extra={"event": "reload"},
            )

    async def _read(self, source: SourceInfo) -> Report:
        job = Job(
            kind=JobKind.READ,
            project_dir=self._settings.project_dir,
            source=source,
            environment=source.environment | devices.NONE,
        )
        try:
            async with self._reads:
                instance, report = await self._run(job, Lane.READING)
        except TimeoutError:
            limit = self._settings.pools[self._pool].load_timeout_s  # type: ignore[index] # a str of one of the keys
            return Report(
                broken=(
                    BrokenFile(file=str(source.file), error=f"it did not load within {limit:g} s"),
                )
            )
        except OSError as error:
            told = f"its process ended while it was loaded: {error}"
            return Report(broken=(BrokenFile(file=str(source.file), error=told),))
        instance.stop()
        return report

    async def _warm_up(self, served: FunctionVersion) -> BrokenFile | None:
        old = self.entries.get(served.spec.name.encode())
        if old is None or not old.served.instances:
            return None
        return await self._warm(served, len(old.served.instances))

    def _keep_old(self, source: SourceInfo, problem: BrokenFile) -> None:
        self._sources[source.name] = source
        self._failed[source.name] = problem
        self._metrics.reloads["broken"] += 1
        self._say_broken(problem)

    def _say_broken(self, item: BrokenFile) -> None:
        told = self._told(item)
        where = f"{told.file}:{told.line}" if told.line else told.file
        kept = f"; {', '.join(told.functions)} stay as they were" if told.functions else ""
        hint = f" ({told.hint})" if told.hint else ""
        log.error(
            "%s could not be loaded: %s%s%s",
            where,
            told.error,
            hint,
            kept,
            extra={"event": "broken"},
        )

    def _told(self, item: BrokenFile) -> BrokenFile:
        """As users see it: the path in the project, and the functions that stay as they were."""
        stale = (
            e.spec.name for e in self.entries.values() if str(e.served.source.file) == item.file
        )
        told = {"file": self._in_project(item.file), "functions": tuple(stale)}
        return item.model_copy(update=told)

    def _in_project(self, file: str) -> str:
        """The file's path in the project; whole where it is elsewhere."""
        path = Path(file)
        if path.is_relative_to(self._settings.project_dir):
            path = path.relative_to(self._settings.project_dir)
        return str(path)

    @property
    def broken(self) -> list[BrokenFile]:
        all_ = (
            *self._quarantine.broken,
            *self._failed.values(),
            *self._unreadable.values(),
        )
        return [self._told(item) for item in {item.file: item for item in all_}.values()]

    def _replace(self, source: SourceInfo, fresh: list[FunctionVersion]) -> None:
        """Serve ``fresh`` in place of whatever the source served before."""
        names = {served.spec.name.encode() for served in fresh}
        gone = [
            n
            for n, e in self.entries.items()
            if e.served.source.name == source.name and n not in names
        ]
        for name in gone:
            dropped = self.entries.pop(name)
            self._retire(dropped.served)
            self._drop(dropped)
            log.info("%s is no longer served", dropped.spec.name, extra={"event": "removed"})
        for served in fresh:
            name = served.spec.name.encode()
            if (entry := self.entries.get(name)) is None:
                self.entries[name] = FunctionQueue(served)
                continue
            old, entry.served = entry.served, served
            entry.load_error, entry.retry_at, entry.failures = None, 0.0, 0
            entry.longest_s = UNKNOWN_S
            self._retire(old)

    def describe(self) -> dict[str, Any]:
        """What links are told: the functions, what is broken, what is still being read."""
        broken = self.broken
        stale = {name for item in broken for name in item.functions}
        return {
            "pool": self._pool,
            "loading": sorted(self.loading),
            "functions": [
                entry.spec.model_dump(mode="json")
                | {"file": self._in_project(entry.spec.file)}
                | {"state": "stale" if entry.spec.name in stale else "live"}
                for entry in self.entries.values()
            ],
            "broken": [item.model_dump(mode="json") for item in broken],
        }
