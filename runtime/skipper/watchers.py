"""Who waits for which task, in a gateway or a host."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from typing import Any


class Watchers:
    """Callers that wait for tasks to change. Hints wake them; the ledger tells what happened."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self.is_closing = False

    def changed(self, ids: list[str]) -> None:
        for id_ in ids:
            for event in self._waiting.get(id_, ()):
                event.set()

    def close(self) -> None:
        """Let everybody go: the gateway is shutting down."""
        self.is_closing = True
        self.changed(list(self._waiting))

    @contextlib.contextmanager
    def watching(self, task_id: str) -> Any:
        """An event that is set when the task may have changed."""
        event = asyncio.Event()
        self._waiting[task_id].add(event)
        try:
            yield event
        finally:
            self._waiting[task_id].discard(event)
            if not self._waiting[task_id]:
                del self._waiting[task_id]
