"""What an instance's function counts and observes, on its way to the host, which adds it up."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from skipper.function.tallies import MAX_NAME, Addition, Room, Tallies, counted, observed
from skipper.instance.link import HostLink
from skipper.wire.frames import FrameKind
from skipper.wire.tallies import pack_tallies

log = logging.getLogger("skipper.output")

SEND_S = 1.0
"""A run that goes on sends what it has counted so often; every run does at its end."""
MAX_TOLD = 20
"""Names of which the log says that they are left out."""


class InstanceTallies:
    """Adds up, and sends what has come since the last time. Any thread may use it.

    Nothing that it is given raises: what cannot be shown is left out, which is counted, and told
    once for each name.
    """

    def __init__(
        self, link: HostLink, function: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._link, self._function, self._clock = link, function, clock
        self._pending, self._room = Tallies(), Room()
        self.is_pending = False
        """Whether there is something to send: looked at after every call."""
        self._sent_at = clock()
        self._told: set[str] = set()
        # Re-entrant, because a signal handler of the function's may count while this does.
        self._lock = threading.RLock()

    def count(self, name: object, amount: object, labels: Mapping[str, object]) -> None:
        """Add to a counter."""
        self._take(counted, name, amount, labels)

    def observe(self, name: object, value: object, labels: Mapping[str, object]) -> None:
        """Add to a histogram."""
        self._take(observed, name, value, labels)

    def send(self) -> None:
        """Send what is pending, if anything is: before the reply, so that who has it finds it."""
        with self._lock:
            if not self.is_pending:
                return
            sent, self._pending, self.is_pending = self._pending, Tallies(), False
            self._sent_at = self._clock()
            self._link.send(FrameKind.TALLIES, 0, pack_tallies(sent))

    def _take(
        self,
        read: Callable[[object, object, Mapping[str, object]], Addition],
        name: object,
        value: object,
        labels: Mapping[str, object],
    ) -> None:
        is_count = read is counted
        with self._lock:
            try:
                added = read(name, value, labels)
                self._room.admit(added.series, is_count=is_count)
            except ValueError as problem:
                self._leave_out(name, str(problem))
            else:
                (self._pending.count if is_count else self._pending.observe)(added)
            self.is_pending = True
            if self._clock() - self._sent_at >= SEND_S:
                self.send()

    def _leave_out(self, name: object, problem: str) -> None:
        self._pending.left_out += 1
        shown = repr(name[:MAX_NAME]) if isinstance(name, str) else f"a {type(name).__name__}"
        if shown not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(shown)
            log.warning("%s: %s is left out of /metrics: %s", self._function, shown, problem)
