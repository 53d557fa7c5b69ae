"""The events that a function sends through ``skipper.Run``, on their way to the host."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, NamedTuple

from skipper.errors import TooLargeError
from skipper.instance.link import HostLink
from skipper.pace import Pace
from skipper.wire import frames
from skipper.wire.events import LOG, EmittedEvent, LeftOut

BURST, RATE = 10_000, 500
"""Events of one call that are sent at once, and further ones a second."""
HELD = 500
"""Events that wait for their turn; of more the oldest are left out, and counted."""
MAX_EVENT = 64 << 10
"""Bytes of one event."""


class _HeldEvent(NamedTuple):
    is_line: bool
    """Whether it is a line of the log, and no point."""
    payload: bytes


class EventSink:
    """Sends the events of one call to the host, as frames with its id. Any thread may use it.

    A function that sends more than anybody could read does not keep the host from its other work:
    ``RATE`` events a second leave here, and of the others the last ``HELD`` wait, which are sent at
    the call's end.
    """

    def __init__(self, link: HostLink, call_id: int, pace: Pace | None = None) -> None:
        self._link, self._id = link, call_id
        self._pace = pace or Pace(BURST, RATE)
        self._held: deque[_HeldEvent] = deque()
        self._left_out = LeftOut()
        # Re-entrant, because a signal handler of the function's may emit while this does.
        self._lock = threading.RLock()

    def emit(self, event: dict[str, Any]) -> None:
        """Send an event, now or later. Raises TooLargeError for one of more than ``MAX_EVENT``."""
        type_: str = event["type"]
        payload = EmittedEvent(type_, event["data"], time.time()).to_json()
        if len(payload) > MAX_EVENT:
            what = f"{len(payload)} bytes of {type_}"
            raise TooLargeError(f"{what}: say figures, of at most {MAX_EVENT} bytes")
        with self._lock:
            self._held.append(_HeldEvent(type_ == LOG, payload))
            if len(self._held) > HELD:
                self._leave_out(self._held.popleft())
            self._send(self._pace.left())

    def close(self) -> None:
        """Send what is held: the call has ended."""
        with self._lock:
            self._send(len(self._held))

    def _leave_out(self, event: _HeldEvent) -> None:
        lines, points = self._left_out
        self._left_out = LeftOut(lines + event.is_line, points + (not event.is_line))

    def _send(self, most: int) -> None:
        number = min(most, len(self._held))
        if number <= 0:
            return
        payloads = [self._held.popleft().payload for _ in range(number)]
        if any(self._left_out):
            payloads.insert(0, self._left_out.to_json())
            self._left_out = LeftOut()
        self._pace.spend(number)
        self._link.send_packed(
            b"".join(frames.pack(frames.FrameKind.EVENT, self._id, payload) for payload in payloads)
        )

    def is_cancelled(self) -> bool:
        """Whether the host has cancelled the call."""
        return self._link.is_cancelled(self._id)
