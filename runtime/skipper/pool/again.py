"""When files that did not load are read again. Pure, but for the clock.

What they lacked may be there by now, a library or a table, and no save tells of it. So each is read
again soon after somebody has wanted a function of its, and never without that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

ASKED_S = 2.0
"""The shortest time between two tries of one file."""
STALE_S = 8.0
"""The same where its last good version answers meanwhile."""


class Again:
    """Which files are wanted, and when each was read last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tried: dict[str, tuple[float, int]] = {}
        self._wanted: set[str] = set()

    def tried(self, name: str, runs: int) -> None:
        """A file has just been read, and did not load; its functions have run so often by now."""
        self._tried[name] = self._clock(), runs
        self._wanted.discard(name)

    def loaded(self, name: str) -> None:
        """There is nothing to be read again."""
        self._tried.pop(name, None)
        self._wanted.discard(name)

    def want(self, name: str) -> None:
        """Somebody was refused for a file that does not load."""
        self._wanted.add(name)

    def is_due(self, name: str, runs: int) -> bool:
        """Whether a file that is known not to load is to be read again now."""
        tried_at, before = self._tried.get(name, (float("-inf"), 0))
        since_s = self._clock() - tried_at
        return since_s >= (ASKED_S if name in self._wanted else STALE_S) and (
            name in self._wanted or runs > before
        )
