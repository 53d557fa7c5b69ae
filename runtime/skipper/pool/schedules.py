"""Records when this pool's functions are to run: by their own code, or by the settings.

Every host of a project reads the same files and settings, so whoever reads them last is right.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial

from pydantic_core import to_json

from skipper.cron import Timetable
from skipper.errors import SkipperError
from skipper.ledger import Ledger, schedules
from skipper.ledger.records import Declaration, Schedule
from skipper.pool.catalogue import Catalogue
from skipper.settings.model import ScheduleSettings, Settings
from skipper.spec import FunctionSpec
from skipper.tasks.bound import key_of

log = logging.getLogger(__name__)

RETRY_S = 5.0


class Schedules:
    """Keeps the ledger's schedules of one pool as its catalogue and the settings have them."""

    def __init__(self, ledger: Ledger, settings: Settings, pool: str, catalogue: Catalogue) -> None:
        self._ledger, self._settings, self._pool = ledger, settings, pool
        self._catalogue = catalogue

    async def run(self) -> None:
        """Follow the catalogue, for ever. While the ledger is away it waits for that."""
        recorded = 0
        while True:
            revision = await self._catalogue.changed_since(recorded)
            try:
                await self.record()
                recorded = revision
            except SkipperError as error:
                log.warning("schedules are not written down yet: %s", error)
                await asyncio.sleep(RETRY_S)

    async def record(self) -> None:
        """Have the ledger's schedules be what the catalogue and the settings say now."""
        specs = [version.spec for version in self._catalogue.versions]
        unsettled = self._catalogue.unsettled
        stored = await self._ledger.read(schedules.present)
        declared = wanted(specs, self._settings.schedules)
        await self._declare(changed(stored, declared))
        # Those of a pool that the project has no longer have no host that would drop them.
        removed = {each.declared.pool for each in stored} - set(self._settings.pools)
        for pool in sorted({self._pool} | removed):
            its = [each for each in stored if each.declared.pool == pool]
            await self._drop(pool, gone(its, declared, self._settings.schedules, unsettled))

    async def _declare(self, declared: Sequence[Declaration]) -> None:
        if declared:
            await self._ledger.write(partial(schedules.declare, declared=declared))
        for each in declared:
            log.info("%s is scheduled: %s (%s)", each.name, each.cron, each.timezone)

    async def _drop(self, pool: str, names: Sequence[str]) -> None:
        if names:
            drop = partial(schedules.drop, pool=pool, names=names, now=time.time())
            await self._ledger.write(drop)
            log.info("no longer scheduled: %s", ", ".join(names))


def wanted(
    specs: Iterable[FunctionSpec], tables: Mapping[str, ScheduleSettings]
) -> list[Declaration]:
    """The schedules of these functions."""
    found = []
    for spec in specs:
        if spec.schedule is not None:
            found.append(_declared(spec, spec.name, spec.schedule, origin="code"))
        for name, table in tables.items():
            if table.function == spec.name:
                when = Timetable(
                    cron=table.cron,
                    timezone=table.timezone,
                    missed=table.missed,
                    overlap=table.overlap,
                )
                found.append(
                    _declared(
                        spec,
                        name,
                        when,
                        origin="settings",
                        body=to_json(table.body),
                        starts_paused=table.paused,
                    )
                )
    return found


def _declared(
    spec: FunctionSpec,
    name: str,
    when: Timetable,
    *,
    origin: str,
    body: bytes = b"",
    starts_paused: bool = False,
) -> Declaration:
    return Declaration(
        name=name,
        function=spec.name,
        kind=spec.kind.value,
        pool=spec.pool,
        cron=when.cron,
        timezone=when.timezone,
        missed=when.missed.value,
        body=body,
        origin=origin,
        max_attempts=spec.max_attempts,
        timeout_s=spec.timeout_s,
        priority=spec.priority,
        expires_s=spec.expires_s,
        overlap=when.overlap.value,
        concurrency=spec.concurrency,
        concurrency_key=key_of(spec, body),
        starts_paused=starts_paused,
    )


def changed(stored: Iterable[Schedule], declared: Iterable[Declaration]) -> tuple[Declaration, ...]:
    """What the ledger does not have, or has otherwise."""
    known = {each.declared for each in stored if each.gone_at is None}
    return tuple(each for each in declared if each not in known)


def gone(
    stored: Iterable[Schedule],
    declared: Iterable[Declaration],
    tables: Collection[str],
    unsettled: Collection[str],
) -> tuple[str, ...]:
    """Names of what is stored and no longer declared.

    What a file that is ``unsettled`` used to define may come yet, so its schedules stay; not those
    whose ``tables`` have been taken out of the settings.
    """

    def may_come(old: Declaration) -> bool:
        is_unsettled = bool({"*", old.function.partition(".")[0]} & set(unsettled))
        return is_unsettled and (old.origin == "code" or old.name in tables)

    names = {each.name for each in declared}
    return tuple(
        each.declared.name
        for each in stored
        if each.gone_at is None and each.declared.name not in names and not may_come(each.declared)
    )
