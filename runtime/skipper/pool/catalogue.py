"""What this pool serves, what is wrong with its files, and what is still being read."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

from skipper.instance.jobs import SourceInfo
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.spec import BrokenFile, Kind
from skipper.wire.messages import CatalogueSnapshot, FunctionState, ListedFunction

_LIVE = FunctionState.LIVE
LOOK_S = 1.0
"""A function that may come yet is looked for this often even if nothing has changed."""


@dataclass(frozen=True, kw_only=True)
class FunctionAssignment:
    """Which version of a function new calls and claims go to.

    ``seq`` counts the assignments of a host, so of two the later one holds, whichever code is new.
    """

    version: FunctionVersion
    seq: int


class Catalogue:
    """The functions of one pool. Kept by :class:`~skipper.pool.reload.Reloader`."""

    def __init__(self, settings: Settings, pool: str, quarantine: Quarantine) -> None:
        self._settings, self._pool, self.quarantine = settings, pool, quarantine
        self.assigned: dict[str, FunctionAssignment] = {}
        """By the function's name."""
        self._live: dict[str, list[FunctionVersion]] = {}
        """By its name: the versions of each function that may run calls, the assigned one too."""
        self._seq = 0
        self.loading: set[str] = {"*"}
        """Files that are being read, ``*`` while it is not known which there are."""
        self.known: dict[str, SourceInfo] = {}
        """By name: the files as they were read last, whatever came of it."""
        self.reading: list[SourceInfo] = []
        self.unreadable: dict[str, BrokenFile] = {}
        """By file: files that do not even parse, and plugins."""
        self.failed: dict[str, tuple[BrokenFile, ...]] = {}
        """By name of the source: what is wrong with files that did not load, or not as a whole."""
        self.revision = 0
        """How many changes have been published."""
        self._published = asyncio.Event()

    @property
    def versions(self) -> list[FunctionVersion]:
        """The version of each function that new calls and claims go to."""
        return [each.version for each in self.assigned.values()]

    def assign(self, version: FunctionVersion) -> None:
        """Have new calls and claims of its function go to a version; the one before stays live."""
        live = self._live.setdefault(version.name, [])
        if version not in live:
            live.append(version)
        self._seq += 1
        self.assigned[version.name] = FunctionAssignment(version=version, seq=self._seq)

    def retire(self, version: FunctionVersion) -> None:
        """A version is not live any more; nor is its function, if it is the assigned one."""
        live = self._live[version.name]
        live.remove(version)
        if self.assigned[version.name].version is version:
            del self.assigned[version.name]
        if not live:
            del self._live[version.name]

    def superseded(self, name: str) -> list[FunctionVersion]:
        """The live versions of a function beside the one that is assigned, the oldest first."""
        assigned = self.assigned[name].version
        return [each for each in self._live[name] if each is not assigned]

    def trainers(self, source: str) -> list[str]:
        """Functions that train models: those of this source, or all where it has none."""
        found = [each for each in self.versions if each.spec.kind == Kind.TRAINING]
        beside = [each.name for each in found if each.source.name == source]
        return beside or [each.name for each in found]

    @property
    def sources(self) -> list[SourceInfo]:
        """The files that are served or being read."""
        return [*self.known.values(), *self.reading]

    def files(self) -> set[Path]:
        """What the code of those consists of."""
        return {file for source in self.sources for file in source.files}

    @property
    def unsettled(self) -> set[str]:
        """Sources that may define more than is known now; ``*`` where any may."""
        return self.loading | self.faulty

    @property
    def faulty(self) -> set[str]:
        """Sources that do not load, or not as a whole; ``*`` where that may be any."""
        return self.failed.keys() | set(map(self.stem_of, self.unreadable.values()))

    def stem_of(self, item: BrokenFile) -> str:
        """The name of the source that a file is, or belongs to."""
        file, functions = Path(item.file), self._settings.functions_dir
        if file.is_relative_to(functions) and file != functions:
            return Path(file.relative_to(functions).parts[0]).stem
        return "*"  # a plugin: who knows which functions it would bring

    @property
    def broken(self) -> list[BrokenFile]:
        failed = (item for items in self.failed.values() for item in items)
        gone = {*self.unreadable}  # what does not even parse now has no other mistakes to tell
        all_ = [*self.quarantine.broken, *(item for item in failed if item.file not in gone)]
        found = {item.place: item for item in (*all_, *self.unreadable.values())}
        return [self.shown(item) for item in found.values()]

    def shown(self, item: BrokenFile) -> BrokenFile:
        """As users see it: the path in the project, and the functions that stay as they were."""
        served = (v.name for v in self.versions if str(v.source.file) == item.file)
        stale = (name for name in served if item.function in ("", name))
        shown = {"file": self._in_project(item.file), "functions": tuple(stale)}
        return item.model_copy(update=shown)

    def _in_project(self, file: str) -> str:
        """The file's path in the project; whole where it is elsewhere."""
        path = Path(file)
        if path.is_relative_to(self._settings.project_dir):
            path = path.relative_to(self._settings.project_dir)
        return str(path)

    async def find(self, name: str) -> FunctionVersion | None:
        """The assigned version of a function; waits for files that are still being read."""
        stem = name.partition(".")[0]
        while (assigned := self.assigned.get(name)) is None:
            if not self.loading & {"*", stem}:
                return None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed_since(self.revision), LOOK_S)
        return assigned.version

    async def changed_since(self, revision: int) -> int:
        """The revision that is published now, once it is another than the given one."""
        while self.revision == revision:
            await self._published.wait()
        return self.revision

    def publish(self) -> None:
        """Have those who wait for a change look: one is complete."""
        self.revision += 1
        self._published.set()
        self._published = asyncio.Event()

    def snapshot(self, host: str) -> CatalogueSnapshot:
        """What links get to know: the functions, what is broken, what is still being read."""
        broken = self.broken
        stale = {name for item in broken for name in item.functions}
        return CatalogueSnapshot(
            pool=self._pool,
            host=host,
            loading=tuple(sorted(self.loading)),
            functions=tuple(
                self._listed(version, is_stale=version.name in stale) for version in self.versions
            ),
            broken=tuple(broken),
        )

    @property
    def problems(self) -> dict[str, BrokenFile]:
        """By the function's name: why those are failing that have no process that starts."""
        return {v.name: v.problem for v in self.versions if v.problem is not None}

    def _listed(self, version: FunctionVersion, *, is_stale: bool) -> ListedFunction:
        spec = version.spec.model_copy(update={"file": self._in_project(version.spec.file)})
        if (problem := version.problem) is not None:
            return ListedFunction(spec=spec, state=FunctionState.FAILING, problem=problem.reason)
        return ListedFunction(spec=spec, state=FunctionState.STALE if is_stale else _LIVE)
