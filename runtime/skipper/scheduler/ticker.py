"""Makes the tasks of schedules that are due. Several schedulers may do so at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from skipper.cron import Missed, Overlap, Timetable
from skipper.ledger import Ledger, schedules
from skipper.ledger.records import Firing, Schedule
from skipper.scheduler.ticks import mended, plan
from skipper.tasks.intake import Intake

log = logging.getLogger(__name__)

T = TypeVar("T")


class Ticker:
    """Moves the ledger's schedules from tick to tick. ``now`` is the time of day, epoch seconds.

    Only schedulers compute when a schedule is due next: whoever declares or resumes one leaves that
    to them.
    """

    def __init__(self, ledger: Ledger, intake: Intake) -> None:
        self._ledger, self._intake = ledger, intake
        self._unreadable: set[str] = set()
        """Names of those whose time zone is not known here, which has been logged."""

    async def fire(self, now: float) -> list[str]:
        """Make the tasks of what is due; their ids."""
        firings = []
        for each in await self._ledger.read(lambda conn: schedules.due(conn, now)):
            what = self._read(each, partial(plan, due_at=each.next_at, now=now))
            if what is not None:
                tasks = schedules.tasks_of(each, what.ticks, now)
                firings.append(Firing(schedule=each, next_at=what.next_at, tasks=tasks))
        made = await asyncio.gather(*map(self._fire, firings))
        return [task_id for ids in made for task_id in ids]

    async def review(self, now: float) -> None:
        """Bring near again what a clock that was ahead for a while has put off."""
        for each in await self._ledger.read(schedules.live):
            if each.next_at is None:
                continue
            next_at = self._read(each, partial(mended, due_at=each.next_at, now=now))
            if next_at is not None:
                log.warning("the clock has gone back: schedule %s is set anew", each.declared.name)
                await self._fire(Firing(schedule=each, next_at=next_at))

    async def _fire(self, firing: Firing) -> list[str]:
        if ids := await self._intake.tick(firing):
            others = f", and {len(ids) - 1} for ticks that were missed" if len(ids) > 1 else ""
            log.info("schedule %s: task %s%s", firing.schedule.declared.name, ids[-1], others)
        return ids

    def _read(self, schedule: Schedule, ask: Callable[[Timetable], T]) -> T | None:
        """What ``ask`` finds of its timetable; None where it cannot be read here, logged once."""
        declared = schedule.declared
        try:
            answer = ask(
                Timetable(
                    cron=declared.cron,
                    timezone=declared.timezone,
                    missed=Missed(declared.missed),
                    overlap=Overlap(declared.overlap),
                )
            )
        except ValueError as error:
            if declared.name not in self._unreadable:
                log.error("schedule %s cannot be read here: %s", declared.name, error)
            self._unreadable.add(declared.name)
            return None
        self._unreadable.discard(declared.name)
        return answer
