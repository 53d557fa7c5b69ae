"""How much may pass: so much at once, and so much a second from then on. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """``burst`` at once and ``rate`` a second, of bytes or of whatever is counted."""

    def __init__(
        self, burst: float, rate: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst, self._rate, self._clock = burst, rate, clock
        self._left, self._at = float(burst), clock()

    def left(self) -> int:
        """What may pass now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        return int(self._left)

    def spend(self, amount: float) -> None:
        """So much passes, if need be on credit."""
        self._left -= amount

    def renew(self) -> None:
        """Begin anew."""
        self._left = self._burst
