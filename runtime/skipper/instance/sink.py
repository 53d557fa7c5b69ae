"""The events that a function sends through ``skipper.Run``, on their way to the host."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import Any, NamedTuple

from pydantic_core import to_json

from skipper.errors import TooLargeError
from skipper.instance.link import HostLink
from skipper.pace import Pace
from skipper.wire import frames

BURST, RATE = 10_000, 500
"""Events of one call that are sent at once, and further ones a second."""
HELD = 500
"""Events that wait for their turn; of more the oldest are left out, and counted."""
MAX_EVENT = 64 << 10
"""Bytes of one event."""


class _HeldEvent(NamedTuple):
    kind: str
    """How the host counts it where it is left out: ``lines`` or ``points``."""
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
        self._left_out: Counter[str] = Counter()
        # Re-entrant, because a signal handler of the function's may emit while this does.
        self._lock = threading.RLock()

    def emit(self, event: dict[str, Any]) -> None:
        """Send an event, now or later. Raises TooLargeError for one of more than ``MAX_EVENT``."""
        payload = _json({"at": time.time()} | event)
        if len(payload) > MAX_EVENT:
            what = f"{len(payload)} bytes of {event['type']}"
            raise TooLargeError(f"{what}: say figures, of at most {MAX_EVENT} bytes")
        with self._lock:
            self._held.append(_HeldEvent("lines" if event["type"] == "log" else "points", payload))
            if len(self._held) > HELD:
                self._left_out[self._held.popleft().kind] += 1
            self._send(self._pace.left())

    def close(self) -> None:
        """Send what is held: the call has ended."""
        with self._lock:
            self._send(len(self._held))

    def _send(self, most: int) -> None:
        number = min(most, len(self._held))
        if number <= 0:
            return
        payloads = [self._held.popleft().payload for _ in range(number)]
        if self._left_out:
            payloads.insert(0, _json({"type": "left_out", "data": self._left_out}))
            self._left_out = Counter()
        self._pace.spend(number)
        self._link.send_packed(
            b"".join(frames.pack(frames.FrameKind.EVENT, self._id, payload) for payload in payloads)
        )

    def is_cancelled(self) -> bool:
        """Whether the host has cancelled the call."""
        return self._link.is_cancelled(self._id)


def _json(value: Any) -> bytes:
    """JSON as everybody reads it: a loss that is not a number is null."""
    return to_json(value, fallback=str, inf_nan_mode="null")
