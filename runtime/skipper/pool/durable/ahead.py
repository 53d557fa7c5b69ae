"""Attempts that are claimed ahead of the slots that they will run in, and how many those are. Pure.

Where tasks take milliseconds, claiming one each time a slot comes free would make every slot wait
for a transaction of its own. So as many are claimed ahead as the slots will have started within
:data:`AHEAD_S`, going by what slots have been taken for lately: none, where tasks take longer.
"""

from __future__ import annotations

from collections import deque

from skipper.pool.durable.attempt import RunningAttempt
from skipper.pool.slots import Slots

AHEAD_S = 0.02
"""What is claimed ahead should have started within this time."""
AHEAD = 16
"""Most that is claimed ahead, per pool."""
PATIENCE_S = 0.1
"""What has been claimed ahead and not started for this long is given back.

Others may have room for it, and a more urgent task may have come since.
"""
_WEIGHT = 0.2


class ClaimedAhead:
    """Attempts that wait for one of ``slots``. Times are of a monotonic clock, in seconds."""

    def __init__(
        self, slots: Slots, *, ahead_s: float = AHEAD_S, patience_s: float = PATIENCE_S
    ) -> None:
        self.slots, self._ahead_s, self.patience_s = slots, ahead_s, patience_s
        self._waiting: deque[tuple[RunningAttempt, float]] = deque()
        self._pace_s: float | None = None
        self._left_at = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def free(self) -> int:
        """Slots for which no attempt waits. Negative where a lent slot is in use twice."""
        return self.slots.free - len(self._waiting)

    def wanted(self, now: float) -> int:
        """How many more attempts may be claimed."""
        return self.free + self._ahead(now)

    def _ahead(self, now: float) -> int:
        is_still = now - self._left_at > self._ahead_s  # the pace of before says nothing any more
        if self._pace_s is None or is_still:
            return 0
        return min(AHEAD, int(self._ahead_s / max(self._pace_s, 1e-6)) * self.slots.capacity)

    def wait(self, attempt: RunningAttempt, now: float) -> None:
        """Have an attempt that was claimed wait for its slot."""
        self._waiting.append((attempt, now))

    def next(self) -> RunningAttempt | None:
        """The attempt whose turn it is, now in a slot; None where none waits or no slot is free."""
        if not self._waiting or self.slots.free <= 0:
            return None
        self.slots.take()
        return self._waiting.popleft()[0]

    def leave(self, taken_s: float, now: float) -> None:
        """An attempt has left its slot, which it had for ``taken_s``."""
        self.slots.leave()
        self._left_at = now
        known_s = taken_s if self._pace_s is None else self._pace_s
        self._pace_s = known_s + _WEIGHT * (taken_s - known_s)

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
        while self._waiting and now - self._waiting[0][1] >= self.patience_s:
            overdue.append(self._waiting.popleft()[0])
        return overdue
