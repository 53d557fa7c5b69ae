"""What one attempt says, in bounded measure: the first of it, and the last. Pure."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from skipper.ledger.records import Cut, NewEvent
from skipper.pool.processes.output import OVERHEAD, Bounds

SLACK = 64 << 10
"""How far the end may grow beyond its bound before its oldest part is cut off, all at once."""


class Entry(NamedTuple):
    """An event on its way to the store."""

    order: int
    """Among all that this process has taken in."""
    transcript: Transcript
    row: NewEvent
    size: int


_order = itertools.count()


class Transcript:
    """The lines of one attempt, or its points: progress and metrics. Each has its number.

    The head is written as it comes. What follows is written as fast as ``take`` allows; of what
    cannot wait so long the oldest is left out, and of what is stored the oldest beyond the tail is
    cut out again. So there is always a head and a tail, and a gap between their numbers if it was
    too much; and who reads along sees what comes, if not all of it.
    """

    def __init__(self, task_id: str, attempt: int, *, is_log: bool, bounds: Bounds) -> None:
        self.task_id, self.attempt, self.is_log = task_id, attempt, is_log
        self._bounds = bounds
        self._number = 0
        self._head_size = self._head_end = 0
        self._head: list[Entry] = []
        self._waiting: deque[Entry] = deque()
        self._waiting_size = 0
        self._tail: deque[tuple[int, int]] = deque()  # seq and size of what is stored
        self._tail_size = 0

    def add(self, type_: str, data: dict[str, Any], at: float) -> None:
        """Take in one event."""
        self._number += 1
        row = NewEvent(
            task_id=self.task_id,
            attempt=self.attempt,
            number=self._number,
            at=at,
            type=type_,
            data=data,
        )
        size = OVERHEAD + len(str(data.get("text") if self.is_log else data))
        entry = Entry(next(_order), self, row, size)
        if self._head_end == self._number - 1 and self._head_size < self._bounds.head:
            self._head_size += entry.size
            self._head_end = self._number
            self._head.append(entry)
        else:
            self._wait(entry)

    def skip(self, count: int) -> None:
        """Count events that were left out before they came here."""
        self._number += count

    def _wait(self, entry: Entry) -> None:
        self._waiting.append(entry)
        self._waiting_size += entry.size
        while self._waiting_size > self._bounds.tail and len(self._waiting) > 1:
            self._waiting_size -= self._waiting.popleft().size

    def take(self, quota: int) -> list[Entry]:
        """What is to be written now: the head, and ``quota`` bytes of what follows it."""
        taken, self._head = self._head, []
        while self._waiting and quota > 0:
            entry = self._waiting.popleft()
            self._waiting_size -= entry.size
            quota -= entry.size
            taken.append(entry)
        return taken

    def rest(self) -> list[Entry]:
        """All that is left to write: the attempt has ended."""
        return self.take(self._waiting_size)

    def stored(self, entries: Iterable[tuple[Entry, int]]) -> None:
        """Entries of this transcript are in the store, under these numbers of it."""
        for entry, seq in entries:
            if entry.row.number > self._head_end:
                self._tail.append((seq, entry.size))
                self._tail_size += entry.size

    def cut(self, slack: int = 0) -> Cut | None:
        """What to take out of the store again, if the tail exceeds its bound by ``slack``."""
        if self._tail_size <= self._bounds.tail + slack or len(self._tail) < 2:
            return None
        first = last = self._tail[0][0]
        while self._tail_size > self._bounds.tail and len(self._tail) > 1:
            last, size = self._tail.popleft()
            self._tail_size -= size
        return Cut(self.task_id, self.attempt, self.is_log, first, last)
