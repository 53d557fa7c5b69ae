"""Makes deliveries of the ends that webhooks are to hear of, each once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from skipper.errors import SkipperError
from skipper.ledger import Connection, Ledger, endings, events, tasks
from skipper.ledger.records import NewTask, Result
from skipper.settings.webhooks import Webhook
from skipper.tasks.deliveries import deliveries
from skipper.tasks.intake import Intake

log = logging.getLogger(__name__)

ROUND_S = 1.0
BATCH = 250
"""Ends at a time: their values are in memory together."""


class Deliveries:
    """Turns the ends that the ledger has recorded into deliveries."""

    def __init__(self, ledger: Ledger, webhooks: Mapping[str, Webhook], intake: Intake) -> None:
        self._ledger, self._webhooks, self._intake = ledger, webhooks, intake

    async def run(self, stopping: asyncio.Event) -> None:
        """A round a second until ``stopping`` is set, and more at once while many ends wait."""
        while not stopping.is_set():
            try:
                if await self.round() == BATCH:
                    continue
            except SkipperError as error:  # the ledger is away, as the scheduler itself warns of
                log.debug("webhooks have to wait: %s", error)
            try:
                await asyncio.wait_for(stopping.wait(), ROUND_S)
            except TimeoutError:
                continue

    async def round(self) -> int:
        """Accept the deliveries of some recorded ends; of how many it was."""
        waiting = await self._ledger.read(partial(endings.waiting, limit=BATCH))
        if not waiting:
            return 0
        return len(await self._intake.deliver(await self._deliveries(waiting)))

    async def _deliveries(self, ids: list[str]) -> dict[str, list[NewTask]]:
        """The deliveries of each of these ended tasks; none for one that is gone.

        Ended tasks do not change, so it does not matter how long ago they were read.
        """
        results = await self._ledger.read(partial(_results, ids=ids))
        progress = await self._ledger.read_events(partial(_progress, ids=ids))
        now = time.time()
        return {
            task_id: deliveries(self._webhooks, result, progress[task_id], now) if result else []
            for task_id, result in results.items()
        }


def _results(conn: Connection, ids: list[str]) -> dict[str, Result | None]:
    return {task_id: tasks.result(conn, task_id) for task_id in ids}


def _progress(conn: Connection, ids: list[str]) -> dict[str, dict[str, Any] | None]:
    found = ((task_id, events.progress(conn, task_id)) for task_id in ids)
    return {task_id: event.data if event else None for task_id, event in found}
