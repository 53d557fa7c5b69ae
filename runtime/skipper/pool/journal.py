"""Progress, metrics and logs of running tasks on their way to the event store, in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from skipper.errors import SkipperError
from skipper.ledger import Ledger, events
from skipper.ledger.records import NewEvent

log = logging.getLogger(__name__)

FLUSH_S = 0.1
MAX_EVENTS = 10_000
"""Events kept per attempt; further ones are counted."""
MAX_TEXT = 1 << 20
"""Bytes of log text kept per attempt; further lines are counted."""
MAX_WAITING = 100_000
"""Events of all tasks that are kept while they cannot be written."""
TYPES = ("progress", "metric", "log")


class Journal:
    """Collects events and writes them together; ``on_written`` hears which tasks have new ones."""

    def __init__(self, ledger: Ledger, on_written: Callable[[set[str]], None]) -> None:
        self._ledger, self._on_written = ledger, on_written
        self._waiting: list[NewEvent] = []
        self._events: Counter[str] = Counter()
        self._text: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._turn = asyncio.Lock()
        self._is_well = True

    def add(self, task_id: str, type_: str, data: dict[str, Any], at: float | None = None) -> None:
        """Note one event; beyond the task's bounds it is only counted."""
        self._events[task_id] += 1
        if type_ == "log":
            self._text[task_id] += len(str(data.get("text", "")))
        if self._events[task_id] > MAX_EVENTS or self._text[task_id] > MAX_TEXT:
            self._dropped[task_id] += 1
            return
        self._waiting.append(NewEvent(task_id=task_id, at=at or time.time(), type=type_, data=data))

    async def flush(self) -> None:
        """Write what is waiting."""
        async with self._turn:
            rows, self._waiting = self._waiting, []
            if not rows:
                return
            try:
                await self._ledger.record(lambda conn: events.append(conn, rows))
            except SkipperError as error:
                self._keep(rows, error)
                return
            self._is_well = True
            self._on_written({row.task_id for row in rows})

    def _keep(self, rows: list[NewEvent], error: SkipperError) -> None:
        """Have the next flush try again, with the newest where they are too many."""
        both = rows + self._waiting
        self._waiting = both[-MAX_WAITING:]
        if self._is_well or len(both) > MAX_WAITING:
            dropped = len(both) - len(self._waiting)
            log.warning("events cannot be stored, %d are dropped: %s", dropped, error)
        self._is_well = False

    async def close_task(self, task_id: str) -> None:
        """Write everything that a task has said before its end is recorded."""
        if dropped := self._dropped.pop(task_id, 0):
            text = f"{dropped} more events were dropped"
            self._waiting.append(
                NewEvent(
                    task_id=task_id,
                    at=time.time(),
                    type="dropped",
                    data={"count": dropped, "text": text},
                )
            )
        self._text.pop(task_id, None)
        if self._events.pop(task_id, 0):
            await self.flush()

    async def run(self) -> None:
        """Flush from time to time, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()
