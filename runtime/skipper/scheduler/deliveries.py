"""Makes tasks of the ends that webhooks are to be told of, each once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from skipper.errors import SkipperError
from skipper.ledger import Connection, Ledger, endings, events, tasks
from skipper.ledger.records import NewTask, Result
from skipper.settings.webhooks import Webhook
from skipper.tasks.deliveries import deliveries

log = logging.getLogger(__name__)

ROUND_S = 1.0
BATCH = 250
"""Ends at a time: their values are in memory together."""


class Deliveries:
    """Turns the ends that the ledger has noted into deliveries.

    ``publish(pool, ids)`` makes ids known to whoever can run them.
    """

    def __init__(
        self,
        ledger: Ledger,
        webhooks: Mapping[str, Webhook],
        publish: Callable[[str, list[str]], None],
    ) -> None:
        self._ledger, self._webhooks, self._publish = ledger, webhooks, publish

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
        """Accept the deliveries of some noted ends; of how many it was."""
        waiting = await self._ledger.read(partial(endings.waiting, limit=BATCH))
        if not waiting:
            return 0
        tellings = await self._tellings(waiting)
        settled = await self._ledger.write(partial(endings.settle, tellings=tellings))
        news = [new for task_id in settled for new in tellings[task_id]]
        for pool in {new.pool for new in news}:
            self._publish(pool, [new.id for new in news if new.pool == pool])
        return len(settled)

    async def _tellings(self, ids: list[str]) -> dict[str, list[NewTask]]:
        """What each of these ended tasks is told by; nothing for one that is gone.

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
