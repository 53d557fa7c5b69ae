"""Who waits for which task, in a gateway or a host."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

_Waiting = defaultdict[str, set[asyncio.Event]]


class Watchers:
    """Callers that wait for tasks to change. Hints wake them; the ledger has what happened."""

    def __init__(self) -> None:
        self._watching: _Waiting = defaultdict(set)
        self._following: _Waiting = defaultdict(set)
        self.is_closing = False

    def changed(self, ids: Iterable[str]) -> None:
        """The records of these tasks have changed."""
        for id_ in ids:
            _wake(self._watching, id_)
            _wake(self._following, id_)

    def emitted(self, ids: Iterable[str]) -> None:
        """These tasks have new events."""
        for id_ in ids:
            _wake(self._following, id_)

    def close(self) -> None:
        """Let everybody go: the gateway is shutting down."""
        self.is_closing = True
        self.changed([*self._watching, *self._following])

    def watching(self, task_id: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set when the task's record may have changed."""
        return _entered(self._watching, task_id)

    def following(self, task_id: str) -> AbstractContextManager[asyncio.Event]:
        """An event that is set when the task's record or its events may have changed."""
        return _entered(self._following, task_id)


def _wake(waiting: _Waiting, task_id: str) -> None:
    for event in waiting.get(task_id, ()):
        event.set()


@contextlib.contextmanager
def _entered(waiting: _Waiting, task_id: str) -> Iterator[asyncio.Event]:
    event = asyncio.Event()
    waiting[task_id].add(event)
    try:
        yield event
    finally:
        waiting[task_id].discard(event)
        if not waiting[task_id]:
            del waiting[task_id]
