"""Room for the tasks of a pool to run, and how many are claimed ahead of it. Pure.

Where tasks take milliseconds, claiming one each time a slot comes free would make every slot wait
for a transaction of its own. So as many are claimed ahead as the slots will have started within
:data:`AHEAD_S`, going by what slots have been taken for lately: none, where tasks take longer.
"""

from __future__ import annotations

from collections import deque

from skipper.pool.durable.attempt import RunningAttempt

AHEAD_S = 0.02
"""What is claimed ahead should have started within this time."""
AHEAD = 16
"""Most that is claimed ahead, per pool."""
PATIENCE_S = 0.1
"""What has been claimed ahead and not started for this long is given back.

Others may have room for it, and a more urgent task may have come since.
"""
_WEIGHT = 0.2


class Slots:
    """``number`` slots. Times are the caller's monotonic clock, in seconds."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._busy = self._lent = 0
        self._waiting: deque[tuple[RunningAttempt, float]] = deque()
        self._pace_s: float | None = None
        self._left_at = 0.0

    @property
    def free(self) -> int:
        """Slots for which no attempt waits. Negative where a lent slot is in use twice."""
        return self.number - self._busy + self._lent - len(self._waiting)

    @property
    def waiting(self) -> int:
        """Attempts that wait for a slot."""
        return len(self._waiting)

    def wanted(self, now: float) -> int:
        """How many more attempts may be claimed."""
        return self.free + self._ahead(now)

    def _ahead(self, now: float) -> int:
        is_still = now - self._left_at > AHEAD_S  # the pace of before says nothing any more
        if self._pace_s is None or is_still:
            return 0
        return min(AHEAD, int(AHEAD_S / max(self._pace_s, 1e-6)) * self.number)

    def wait(self, attempt: RunningAttempt, now: float) -> None:
        """Have an attempt that was claimed wait for its slot."""
        self._waiting.append((attempt, now))

    def next(self) -> RunningAttempt | None:
        """The attempt whose turn it is, now in a slot; None where none waits or no slot is free."""
        if not self._waiting or self._busy - self._lent >= self.number:
            return None
        self._busy += 1
        return self._waiting.popleft()[0]

    def leave(self, taken_s: float, now: float) -> None:
        """An attempt has left its slot, which it had for ``taken_s``."""
        self._busy -= 1
        self._left_at = now
        known_s = taken_s if self._pace_s is None else self._pace_s
        self._pace_s = known_s + _WEIGHT * (taken_s - known_s)

    def lend(self) -> None:
        """An attempt in a slot waits for another: that may have its slot meanwhile."""
        self._lent += 1

    def take_back(self) -> None:
        """It goes on, even if that is one more than there are slots."""
        self._lent -= 1

    def withdraw(self, attempt: RunningAttempt) -> bool:
        """Have an attempt wait no more; whether it did."""
        for each in self._waiting:
            if each[0] is attempt:
                self._waiting.remove(each)
                return True
        return False

    def overdue(self, now: float) -> list[RunningAttempt]:
        """Attempts that have waited for too long; they wait no more."""
        overdue = []
        while self._waiting and now - self._waiting[0][1] >= PATIENCE_S:
            overdue.append(self._waiting.popleft()[0])
        return overdue
