"""What a project's files declare as they are now, read once, without a tree."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from skipper.pool.catalogue import Catalogue
from skipper.pool.processes.instance import C, Instance
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.starter import Starter
from skipper.pool.reading import FileReader
from skipper.settings.model import Settings
from skipper.spec import BrokenFile, FunctionSpec
from skipper.wire.frames import Frame


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The functions of a project, and what of it does not load."""

    specs: tuple[FunctionSpec, ...]
    broken: tuple[BrokenFile, ...]
    unread: frozenset[str]
    """Names of the files whose functions are not all known; ``*`` where that may be any."""

    def is_known(self, function: str) -> bool:
        """Whether a function that is not among the specs is certainly not there."""
        return not self.unread & {"*", function.partition(".")[0]}


class _NoCalls:
    """Answers no calls: instances that read files make none."""

    def on_frame(self, instance: Instance[C], frame: Frame) -> None: ...


async def take(settings: Settings) -> Inventory:
    """Read every file of the project in processes of its own, of which none is left.

    Raises OSError where the project cannot be read.
    """
    pool, quarantine = settings.local_pools[0], Quarantine()
    starter = Starter(settings.pools[pool], secrets.token_hex(8))
    instances = Instances(settings, pool, starter, _NoCalls(), quarantine)
    try:
        return await _take(
            FileReader(settings, pool, instances), Catalogue(settings, pool, quarantine)
        )
    finally:
        await instances.close()
        starter.close()


async def _take(reader: FileReader, shown_by: Catalogue) -> Inventory:
    survey = await reader.survey()
    reports = await asyncio.gather(*map(reader.read, survey.sources))
    unparsed = (*survey.broken, *survey.left_out)
    failed = [item for report in reports for item in report.broken]
    names = {s.name for s, report in zip(survey.sources, reports, strict=True) if report.broken}
    return Inventory(
        specs=tuple(spec for report in reports for spec in report.specs),
        broken=tuple(shown_by.shown(item) for item in (*unparsed, *failed)),
        unread=frozenset(names | {shown_by.stem_of(item) for item in unparsed}),
    )
