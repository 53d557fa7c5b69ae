"""What an instance prints, on its way to its host's log: as much of it as anybody could follow.

Each line of log costs the host and the launcher some time, which they owe to other functions too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

Facts: TypeAlias = dict[str, object]
"""What the log tells beside a line: whose it is."""

LINES_PER_S = 100.0
AT_ONCE = 1000.0
"""So many lines come through before those of a second are counted."""
_LINE = 200
"""Characters; a longer line counts as several."""


class Echo:
    """Passes one instance's lines on to ``say``; leaves out what is too much, and tells how much."""

    def __init__(
        self, say: Callable[[str, Facts], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._clock = say, clock
        self._room, self._at = AT_ONCE, clock()
        self._left_out = 0
        self._facts: Facts = {}

    def line(self, text: str, facts: Facts) -> None:
        """Say a line, if there is room for it by now."""
        now = self._clock()
        self._room = min(AT_ONCE, self._room + (now - self._at) * LINES_PER_S)
        self._at, self._facts = now, facts
        if self._room < 1:
            self._left_out += 1
            return
        self.end()
        self._room -= 1 + len(text) // _LINE
        self._say(text, facts)

    def end(self) -> None:
        """Tell of what has been left out by now."""
        if self._left_out:
            self._say(f"[{self._left_out} more lines were printed]", self._facts)
            self._left_out = 0
