"""Tracebacks of functions in the log: where callers do not see them, operators must.

A function that always raises is called as often as anybody likes, so the same one is written once a
minute; the line about each failure is written without it.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b

TRACEBACK = "traceback"
"""The member of a log record that holds one; empty where nothing was raised."""
PRINTED = "skipper.function"
"""The logger of what functions print and log themselves, which is left as it is."""
INTERVAL_S = 60.0
MAX_REMEMBERED = 1000
"""Tracebacks whose time is remembered; of more different ones a minute, some are written again."""


class Tracebacks(logging.Filter):
    """Leaves a traceback in a record, or takes it out: always, or where the log has it already."""

    def __init__(
        self, *, are_shown: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._are_shown, self._clock = are_shown, clock
        self._written: OrderedDict[bytes, float] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        text = vars(record).get(TRACEBACK) if record.name != PRINTED else None
        if text is not None and (not text or self._are_shown or self._was_written(str(text))):
            delattr(record, TRACEBACK)
        return True

    def _was_written(self, text: str) -> bool:
        """Whether it was within the last minute; from now on it was."""
        digest, now = (
            blake2b(text.encode("utf-8", "replace"), digest_size=16).digest(),
            self._clock(),
        )
        if now - self._written.get(digest, -INTERVAL_S) < INTERVAL_S:
            return True
        self._written[digest] = now
        self._written.move_to_end(digest)
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)
        return False


def log_tracebacks(*, are_shown: bool) -> None:
    """Have this process's log hold the tracebacks of functions, unless callers are shown them."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Tracebacks(are_shown=are_shown))
