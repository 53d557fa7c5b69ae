"""Makes tasks that wait known where they can run; for speed alone, as the ledger has them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

Nudge: TypeAlias = Callable[[str, str], None]
"""``nudge(pool, task_id)`` wakes the pool's host on this machine, if there is one."""
Publish: TypeAlias = Callable[[str, Sequence[str]], None]
"""``publish(pool, ids)`` gives ids to the broker."""


class Announcer:
    """Nudges the host on this machine, and publishes to those elsewhere.

    Neither waits nor raises, and either may come to nothing: hosts look into the ledger themselves.
    ``publish`` is None in a host, which has no connection to the broker.
    """

    def __init__(self, nudge: Nudge, publish: Publish | None) -> None:
        self._nudge, self._publish = nudge, publish

    def announce(self, waiting: Iterable[tuple[str, str]]) -> None:
        """Make tasks known that wait to be claimed: the id and the pool of each.

        One nudge goes for all of a pool's: a host that finds work in the ledger looks for more.
        """
        by_pool: defaultdict[str, list[str]] = defaultdict(list)
        for task_id, pool in waiting:
            by_pool[pool].append(task_id)
        for pool, ids in by_pool.items():
            self._nudge(pool, ids[0])
            if self._publish is not None:
                self._publish(pool, ids)
