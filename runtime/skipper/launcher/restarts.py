"""When a child that died is started again, and when the tree gives up. Pure.

A start *fails* when the child dies, or its time runs out, before it was ever ready. Only those use
up the budget, and only until the child has been ready once: whatever served before is started again
for as long as the tree lives.
"""

from __future__ import annotations

from dataclasses import dataclass

from skipper.exits import Exit

BUDGET = 5
"""Failed starts in a row after which a child that was never ready ends the tree."""
STEADY_S = 10.0
"""A child that served that long died by itself, not in a row with its earlier deaths."""
FINAL_CODES = frozenset(
    {
        Exit.USAGE,
        Exit.INVALID,
        Exit.TAKEN,
        Exit.UNAUTHORISED,
        Exit.UNREACHABLE,
        Exit.NOT_WRITABLE,
    }
)
"""Exit codes for what is wrong outside the child: a second start would find the same."""


@dataclass
class History:
    """What became of one child's starts so far."""

    failed_starts: int = 0
    deaths: int = 0
    was_ready: bool = False

    def became_ready(self) -> None:
        self.was_ready = True
        self.failed_starts = 0

    def died(self, served_s: float) -> float:
        """After a death in service: seconds until the next start. 0, 0.1, 0.2 … 1."""
        self.deaths = 1 if served_s >= STEADY_S else self.deaths + 1
        return min(0.1 * (self.deaths - 1), 1.0)

    def failed(self, code: int | None) -> float | None:
        """After a failed start: seconds until the next one, or None to give up.

        ``code`` is the exit code, None where its time ran out. 0.1, 0.2, 0.4 … 2.
        """
        self.failed_starts += 1
        if not self.was_ready and (self.failed_starts >= BUDGET or code in FINAL_CODES):
            return None
        return float(min(0.1 * 2 ** min(self.failed_starts - 1, 10), 2.0))
