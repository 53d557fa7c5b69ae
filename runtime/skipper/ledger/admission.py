"""Which new tasks are let in: so many may wait for each function, so much may be stored.

What was let in is never turned away afterwards: retries, and what hosts give back, are no new
tasks. Nor are deliveries of webhooks held up, which follow from tasks that were let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from skipper.ledger import usage
from skipper.ledger.accepting import accept_all, ended, known, requeue
from skipper.ledger.connection import Connection
from skipper.ledger.records import Accepted, NewTask, Refusal, TaskBounds
from skipper.ledger.views import number_waiting
from skipper.task import Task

FRESH_S = 0.5
"""What others let in meanwhile may exceed a bound by as much as they accept in this time."""


class Admission:
    """Accepts tasks within ``bounds``. Its operations run in the ledger's thread that writes.

    What one process accepts never exceeds them.
    """

    def __init__(
        self,
        bounds: TaskBounds,
        *,
        fresh_s: float = FRESH_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bounds = bounds
        self._fresh_s, self._clock = fresh_s, clock
        self._waiting: dict[str, _Tally] = {}
        self._stored = _Tally(usage.read)

    def accept_all(self, conn: Connection, news: Sequence[NewTask]) -> list[Accepted]:
        """:func:`~skipper.ledger.tasks.accept_all` for those that there is room for."""
        self._age()
        refusals = [self._refusal(conn, new.function, usage.size_of(new.input)) for new in news]
        verdicts = list(zip(news, refusals, strict=True))
        accepted = iter(accept_all(conn, [new for new, refusal in verdicts if refusal is None]))
        return [
            next(accepted) if refusal is None else _refused(conn, new, refusal)
            for new, refusal in verdicts
        ]

    def requeue(self, conn: Connection, task_id: str, now: float) -> Task | Refusal | None:
        """:func:`~skipper.ledger.tasks.requeue`, if there is room for one more."""
        if (source := ended(conn, task_id)) is None:
            return None
        self._age()
        return self._refusal(conn, *source) or requeue(conn, task_id, now)

    def foresee(
        self, conn: Connection, function: str, size: int, key: str | None, on_their_way: int
    ) -> Refusal | None:
        """Why a task would be refused as it looks now. Only reads, so any thread may ask.

        One whose ``key`` is known is not; ``on_their_way`` are being accepted just now.
        """
        if key is not None and known(conn, key) is not None:
            return None
        if usage.read(conn) + size > self.bounds.stored:
            return Refusal.STORED
        waiting = number_waiting(conn, function, self.bounds.waiting) + on_their_way
        return Refusal.WAITING if waiting >= self.bounds.waiting else None

    def _age(self) -> None:
        """Have what was counted a while ago be counted again, and all else if it does not fit."""
        oldest = self._clock() - self._fresh_s
        for tally in (self._stored, *self._waiting.values()):
            tally.age(oldest)

    def _refusal(self, conn: Connection, function: str, size: int) -> Refusal | None:
        """Why one more task of ``function`` is refused; None where it takes its room."""
        waiting = self._waiting.get(function)
        if waiting is None:
            count = partial(number_waiting, function=function, at_most=self.bounds.waiting)
            waiting = self._waiting[function] = _Tally(count)
        now = self._clock()
        if not self._stored.has_room(conn, size, self.bounds.stored, now):
            return Refusal.STORED
        if not waiting.has_room(conn, 1, self.bounds.waiting, now):
            return Refusal.WAITING
        self._stored.add(size)
        waiting.add(1)
        return None


class _Tally:
    """A number as it was when it was counted last, and what has been added here since."""

    def __init__(self, count: Callable[[Connection], int]) -> None:
        self._count = count
        self._number = self._unwritten = 0
        self._counted_at = -1.0
        self._is_stale = self._may_recount = True

    def age(self, oldest: float) -> None:
        """Begin another round, before which all that was added has been written.

        In it the number is counted again if it was counted before ``oldest``.
        """
        self._is_stale, self._may_recount = self._counted_at < oldest, True
        self._unwritten = 0

    def has_room(self, conn: Connection, more: int, bound: int, now: float) -> bool:
        """Whether ``more`` fit under ``bound``. None are refused on an earlier round's count."""
        if self._is_stale or (self._number + more > bound and self._may_recount):
            self._number, self._counted_at = self._count(conn) + self._unwritten, now
            self._is_stale = self._may_recount = False
        return self._number + more <= bound

    def add(self, more: int) -> None:
        """Count what is let in."""
        self._number += more
        self._unwritten += more


def _refused(conn: Connection, new: NewTask, refusal: Refusal) -> Accepted:
    """What became of a refused task: under a key that is known it is the earlier one."""
    earlier = new.idempotency_key and known(conn, new.idempotency_key)
    if not earlier:
        return Accepted(id=new.id, refusal=refusal)
    task, seen = earlier
    return Accepted(id=task.id, earlier=task, matches=seen == new.idempotency_hash)
