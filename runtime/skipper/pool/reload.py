"""Follows the project's files: what has changed is read, and exchanged blue/green.

A changed file is read by a new process first. Only when that has succeeded, and a new instance has
taken the place of each one that was warm, do calls move to the new code; a broken file changes
nothing but the report.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from skipper.compatibility import input_changes
from skipper.failpoints import failpoint
from skipper.instance.jobs import Report, SourceInfo
from skipper.pool.again import Again
from skipper.pool.background import Background
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.peers import Peers
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.reading import FileReader
from skipper.pool.tracebacks import TRACEBACK
from skipper.spec import BrokenFile, is_private

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often it is looked which files are to be read again."""


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


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Both lanes of a pool, as code changes."""

    direct: ServingLane
    tasks: RetiringLane

    def retire(self, version: FunctionVersion) -> None:
        self.tasks.retire(version)
        self.direct.retire(version)


class Reloader:
    """Keeps a pool's catalogue as the files are, and publishes each of its changes."""

    def __init__(
        self,
        catalogue: Catalogue,
        reader: FileReader,
        lanes: Lanes,
        peers: Peers,
        metrics: PoolMetrics,
    ) -> None:
        self._catalogue, self._reader, self._lanes = catalogue, reader, lanes
        self._peers, self._metrics = peers, metrics
        self._warnings: frozenset[str] = frozenset()
        self._problems: dict[str, BrokenFile] = {}
        self._again = Again()
        self._next_look = 0.0
        self._background = Background()
        self._seen: set[str] = set()
        """Files that this host has served, or tried to serve as the host before it did."""
        self._turn = asyncio.Lock()

    async def refresh(self) -> None:
        """Look at the project again and follow what has changed."""
        async with self._turn:
            report = await self._survey()
            if report is None:
                self._catalogue.loading.discard("*")
                self._publish()
                return
            mine = self._mine(report)
            self._record_unreadable((*report.broken, *report.left_out))
            self._log_warnings(report.warnings)
            self._forget(set(self._catalogue.known) - set(mine))
            changed = [s for s in mine.values() if s != self._catalogue.known.get(s.name)]
            self._catalogue.loading = {source.name for source in changed}
            await self._follow_all(changed)

    async def again(self, function: str) -> None:
        """Read the file of a function again that does not load, and return when that is done.

        At once, unless it has been read a moment ago: then a little later.
        """
        name = function.partition(".")[0]
        if self._catalogue.faulty & {name, "*"}:
            self._again.want(name)
            await self._read_again(name)

    def sweep(self, now: float) -> None:
        """Publish which functions have come to be failing; read again what somebody wants."""
        if (problems := self._catalogue.problems) != self._problems:
            self._problems = problems
            self._publish()
        if now >= self._next_look:
            self._next_look = now + LOOK_S
            for name in self._catalogue.faulty:
                if self._again.is_due(name, self._runs(name)):
                    self._background.spawn(self._read_again(name))

    def _runs(self, name: str) -> int:
        """How often functions of a file have been called."""
        mine = (each.name for each in self._catalogue.versions if each.source.name == name)
        return sum(map(self._metrics.runs, mine))

    async def _read_again(self, name: str) -> None:
        """Read one file that did not load. Other files are not looked at: they may be half-done."""
        async with self._turn:
            if not self._again.is_due(name, self._runs(name)):
                return  # whoever came before has done it
            if (report := await self._survey()) is not None:
                kept = (i for i in self._catalogue.unreadable.values() if not self._may_be(i, name))
                found = (i for i in (*report.broken, *report.left_out) if self._may_be(i, name))
                self._record_unreadable((*kept, *found))
                await self._follow_all([s for s in self._mine(report).values() if s.name == name])
            self._again.tried(name, self._runs(name))

    def _may_be(self, item: BrokenFile, name: str) -> bool:
        """Whether a file that cannot be read may define this source."""
        return self._catalogue.stem_of(item) in (name, "*")

    def _mine(self, report: Report) -> dict[str, SourceInfo]:
        """The files that a survey found which may have functions of this pool, by name."""
        pool = self._reader.pool
        return {s.name: s for s in report.sources if s.pools is None or pool in s.pools}

    async def _follow_all(self, changed: Collection[SourceInfo]) -> None:
        self._catalogue.reading = list(changed)
        for name in self._catalogue.faulty - self._catalogue.failed.keys() - self._seen:
            await self._restore(name)  # what does not even parse is not among the sources
        self._publish()
        # Light files first: one that needs a heavy library waits for its template anyway.
        light = [s for s in changed if not s.imports]
        heavy = [s for s in changed if s.imports]
        for group in (light, heavy):
            await asyncio.gather(*(self._follow(source) for source in group))
        self._catalogue.reading = []

    async def _survey(self) -> Report | None:
        self._catalogue.quarantine.review()
        try:
            return await self._reader.survey()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            detail = f"the project cannot be read: {reason}"
            log.error(detail)
            folder = str(self._reader.functions_dir)
            self._catalogue.unreadable[folder] = BrokenFile(file=folder, error=detail)
            return None

    def _publish(self) -> None:
        self._catalogue.publish()
        self._reader.keep(self._catalogue.sources)
        self._peers.publish_catalogue()

    def _record_unreadable(self, items: Iterable[BrokenFile]) -> None:
        before, self._catalogue.unreadable = (
            self._catalogue.unreadable,
            {item.file: item if item.tried_at else item.now() for item in items},
        )
        for item in self._catalogue.unreadable.values():
            if self._reader.is_first_pool and not item.is_as(before.get(item.file)):
                self._log_broken(item)

    def _log_warnings(self, warnings: Collection[str]) -> None:
        """Log what was not so before: one host of the tree does, as all see the same."""
        before, self._warnings = self._warnings, frozenset(warnings)
        if self._reader.is_first_pool:
            for warning in sorted(self._warnings - before):
                log.warning(warning)

    def _forget(self, names: set[str]) -> None:
        """Drop sources that are gone; one that merely does not parse now keeps its good version."""
        for name in names:
            if str(self._catalogue.known[name].file) not in self._catalogue.unreadable:
                self._catalogue.failed.pop(name, None)
                self._reader.drop_good(name)
                self._replace(self._catalogue.known.pop(name), [])

    async def _follow(self, source: SourceInfo) -> None:
        """Read one file and, where it is good, move calls to it."""
        await self._read_and_move(source)
        # Not where this is cut short: a host that shuts down has read no fewer files than before.
        self._catalogue.loading.discard(source.name)
        self._publish()

    async def _read_and_move(self, source: SourceInfo) -> None:
        started = time.monotonic()
        report = await self._reader.read(source)
        failpoint("catalogue.read")
        for plugin in report.left_out:
            if plugin.file not in self._catalogue.unreadable:
                self._catalogue.quarantine.record(plugin)
        if report.broken and not report.specs:
            if self._reader.exists(source.file):  # else it went meanwhile: the next look will tell
                self._keep_old(source, report.broken)
                await self._restore(source.name)
            return
        mine = [spec for spec in report.specs if spec.pool == self._reader.pool]
        # The survey may have seen an older text, and ``known`` keeps what that saw.
        read = source.model_copy(update={"code": report.code})
        fresh = [FunctionVersion(spec, read, report.texts) for spec in mine]
        for version in fresh:
            if (problem := await self._lanes.direct.warm(version)) is not None:
                self._keep_old(source, (*report.broken, problem))
                for warm in fresh:
                    self._lanes.direct.retire(warm)
                return
        failpoint("catalogue.warmed")
        is_change = source.name in self._catalogue.known
        self._catalogue.known[source.name] = source
        self._catalogue.failed.pop(source.name, None)
        self._replace(source, fresh, kept={item.function for item in report.broken})
        if report.broken:
            self._keep_old(source, report.broken)
            await self._restore(source.name)
        else:
            self._again.loaded(source.name)
            self._reader.keep_good(read, report.texts)
        self._seen.add(source.name)
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

    def _keep_old(self, source: SourceInfo, problems: tuple[BrokenFile, ...]) -> None:
        """Tell what is wrong with a file, or with some functions of it, which stay as they were."""
        is_same_text = self._catalogue.known.get(source.name) == source
        before = self._catalogue.failed.get(source.name, ()) if is_same_text else ()
        self._catalogue.known[source.name] = source
        self._catalogue.failed[source.name] = tuple(problem.now() for problem in problems)
        self._again.tried(source.name, self._runs(source.name))
        new = [each for each in problems if not any(each.is_as(known) for known in before)]
        self._metrics.reloads["broken"] += bool(new)
        for problem in new:
            # All pools read a file of which nobody knows whose it is.
            if source.pools is not None or problem.functions or self._reader.is_first_pool:
                self._log_broken(problem)

    async def _restore(self, name: str) -> None:
        """Serve a file that does not load as the host before this one did, which has ended."""
        if name in self._seen:
            return
        self._seen.add(name)
        if (good := await self._reader.last_good(name)) is None:
            return
        source, report = good
        mine = [spec for spec in report.specs if spec.pool == self._reader.pool]
        for spec in mine:
            if spec.name not in self._catalogue.assigned:
                version = FunctionVersion(spec, source, report.texts)
                self._catalogue.assign(version)
                self._lanes.direct.assign(version)
        self._catalogue.known.setdefault(name, source)
        if mine:
            log.warning("%s is served as it was when it last loaded: %s", name, source.code)

    def _log_broken(self, item: BrokenFile) -> None:
        item = self._catalogue.shown(item)
        where = f"{item.file}:{item.line}" if item.line else item.file
        kept = f"; {', '.join(item.functions)} stay as they were" if item.functions else ""
        hint = f" ({item.hint})" if item.hint else ""
        what = f"{item.function} in {where}" if item.function else where
        log.error(
            "%s could not be loaded: %s%s%s",
            what,
            item.error,
            hint,
            kept,
            extra={"event": "broken", TRACEBACK: item.traceback},
        )

    def _replace(
        self, source: SourceInfo, fresh: list[FunctionVersion], kept: Collection[str] = ()
    ) -> None:
        """Assign ``fresh``, and retire whatever the source served before, but for ``kept``."""
        names = {version.name for version in fresh}.union(kept)
        before = [each for each in self._catalogue.versions if each.source.name == source.name]
        for version in fresh:
            self._log_refusals(version)
            self._catalogue.assign(version)
            self._lanes.direct.assign(version)
            for old in self._catalogue.superseded(version.name):
                self._retire(old)
        for version in before:
            if version.name not in names:
                for each in (*self._catalogue.superseded(version.name), version):
                    self._retire(each)
                log.info("%s is no longer served", version.name, extra={"event": "removed"})

    def _log_refusals(self, fresh: FunctionVersion) -> None:
        """Log which bodies are refused from now on that were right, before ``fresh`` serves.

        Not of a private function: its callers are the project's own, and changed with it.
        """
        before = self._catalogue.assigned.get(fresh.name)
        if before is None or is_private(fresh.name):
            return
        old, new = before.version.spec.input_schema, fresh.spec.input_schema
        for change in input_changes(fresh.name, old, new):
            if change.breaks:
                log.warning("%s", change, extra={"event": "narrowed", "function": fresh.name})

    def _retire(self, version: FunctionVersion) -> None:
        self._catalogue.retire(version)
        self._lanes.retire(version)
