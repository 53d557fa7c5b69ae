"""Which waiting task a host starts next: the most urgent, functions in turn, the oldest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

from skipper.ledger.records import WaitingTask

ENDED = 1024
"""How many tasks that have ended here are remembered."""


class ShortList:
    """Ids of tasks that this host may claim, ``room`` of them, in the order in which it would.

    What comes from the broker are ids alone, so it stands at the end until the ledger's word on
    what waits puts everything in order. While more waits than is listed, only what is in order may
    be taken: one of the others may be less urgent than what is not listed.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._ids: dict[str, None] = {}
        self._ended: dict[str, None] = {}
        self._in_order = 0
        self._is_all = True
        self._turns: dict[str, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def has_room(self) -> bool:
        return len(self._ids) < self.room

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._ids)

    def settles(self, number: int) -> bool:
        """Whether all that is known to wait is listed and is no more than ``number`` tasks."""
        return self._is_all and len(self._ids) <= number

    @property
    def is_spent(self) -> bool:
        """Whether what is listed must be arranged before anything more may be taken."""
        return not (self._is_all or self._in_order)

    def add(self, ids: Iterable[str]) -> None:
        """Put ids at the end; those that are listed stay where they are."""
        for id_ in ids:
            if id_ not in self._ended:
                self._ids.setdefault(id_)

    def ended(self, id_: str) -> None:
        """This task is over: it is not listed when the broker names it, again or too late."""
        self._ended[id_] = None
        if len(self._ended) > ENDED:
            del self._ended[next(iter(self._ended))]

    def arrange(self, waiting: Sequence[WaitingTask], known: Collection[str]) -> None:
        """Put what waits in order. An id that was ``known`` before and does not wait is dropped.

        So is what there is no room for: it is found again once the list is spent.
        """
        best = in_turn(waiting, self._turns)[: self.room]
        later = (id_ for id_ in self._ids if id_ not in known)
        self._ids = dict.fromkeys((*best, *later))
        self._in_order, self._is_all = len(best), len(waiting) < self.room

    def take(self, number: int) -> tuple[str, ...]:
        """The first ``number`` ids that may be taken, which are listed no more."""
        ids = tuple(islice(self._ids, number if self._is_all else min(number, self._in_order)))
        for id_ in ids:
            del self._ids[id_]
        self._in_order = max(0, self._in_order - len(ids))
        return ids

    def started(self, function: str) -> None:
        """A task of this function has started: the others' turn comes before its next."""
        self._turn += 1
        self._turns[function] = self._turn


def in_turn(waiting: Iterable[WaitingTask], turns: Mapping[str, int]) -> list[str]:
    """The ids of what waits, in the order in which it should start.

    Of the highest priority each function has one task, the oldest first, then each its second, and
    so on; the function whose ``turns`` number is lowest, having had its turn longest ago, begins.
    """
    places: Counter[tuple[int, str]] = Counter()
    ranked = []
    for task in sorted(waiting, key=lambda task: task.id):
        place = places[task.priority, task.function]
        places[task.priority, task.function] += 1
        turn = turns.get(task.function, 0)
        ranked.append((-task.priority, place, turn, task.id))
    return [id_ for *_, id_ in sorted(ranked)]
