"""The time by which the scheduler takes things away for good."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

JUMP_S = 60.0
"""A clock that is further ahead than the time that has really passed has jumped."""
DOUBT_S = 3600.0
"""How long a jump ahead may be taken back before it is believed."""


def elapsed() -> float:
    """Seconds that have really passed, those of a machine that slept included where they count."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class CautiousClock:
    """The wall clock, but a jump ahead is believed only after an hour.

    A task that expires or is forgotten does not come back when the clock is put right again. Until
    then the time is reckoned on from before the jump. A jump back is believed at once: it makes
    everything younger, and so takes nothing away.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = elapsed
    ) -> None:
        self._wall, self._steady = wall, steady
        self._time, self._seen = wall(), steady()
        self._doubted_since: float | None = None

    def now(self) -> float:
        """Seconds since the epoch. Ask often: what lies between two questions is one step."""
        wall, seen = self._wall(), self._steady()
        reckoned = self._time + seen - self._seen
        self._seen = seen
        self._time = reckoned if self._is_doubted(wall - reckoned, seen) else wall
        return self._time

    def _is_doubted(self, ahead_s: float, seen: float) -> bool:
        if ahead_s <= JUMP_S:
            self._doubted_since = None
            return False
        if self._doubted_since is None:
            self._doubted_since = seen
            log.warning(
                "the clock has jumped ahead by %.0f s; for an hour nothing expires by it", ahead_s
            )
        if seen - self._doubted_since <= DOUBT_S:
            return True
        self._doubted_since = None
        return False
