"""The consumer's end of its link to the pool's host: ids go out in TAKE frames, TAKEN comes back.

Owns one unix socket and what the host has not taken yet. Never blocks and never raises: a host that
is gone, or does not read, is connected again after a moment and offered all of it once more. One of
another version is offered nothing. Knows nothing of Celery.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

from skipper.failpoints import failpoint
from skipper.wire import frames
from skipper.wire.frames import Frame, FrameKind
from skipper.wire.handshake import introduced, introduction, mismatch
from skipper.wire.messages import LinkRole

FIRST_RETRY_S, LAST_RETRY_S = 0.05, 1.0
HELLO_S = 10.0
"""A host that has not introduced itself after this long hangs, or is of a version that does not."""

_log = logging.getLogger(__name__)


class Loop(Protocol):
    """What the relay needs of an event loop; kombu's hub and asyncio's loops have it."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object: ...

    def remove_reader(self, fd: int, /) -> object: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> object: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parcel:
    payload: bytes
    on_taken: Callable[[], None]


class Relay:
    """Hands ids over to the host that listens at ``address``; knows when it has taken them."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._loop: Loop | None = None
        self._sock: socket.socket | None = None
        self._splitter = frames.Splitter()
        self._tags = count(1)
        self._parcels: dict[int, _Parcel] = {}
        self._retry_s = FIRST_RETRY_S
        self._turn = 0  # only the latest timer that was scheduled counts
        self._was_lost = self._was_greeted = False
        self._is_greeted = False
        """Whether the host at the other end has introduced itself, and is of this version."""
        self._logged = ""
        """The last reason that was logged for not talking to a host."""

    @property
    def waiting(self) -> int:
        """Parcels that the host has not taken."""
        return len(self._parcels)

    def attach(self, loop: Loop) -> None:
        """Join ``loop``; again where it has forgotten its readers and timers."""
        self._loop = loop
        if self._sock is None:
            self._connect()
        else:
            loop.add_reader(self._sock.fileno(), self._on_readable)

    def hand_over(self, ids: Sequence[str], on_taken: Callable[[], None]) -> None:
        """Offer ``ids`` to the host until it takes them; then call ``on_taken``, once."""
        tag = next(self._tags)
        self._parcels[tag] = parcel = _Parcel(payload="\n".join(ids).encode(), on_taken=on_taken)
        if self._sock is not None and self._is_greeted:
            self._send(self._sock, frames.pack(FrameKind.TAKE, tag, parcel.payload))
            failpoint("relay.offered")

    def forget(self) -> None:
        """Give up on what the host has not taken; an answer that still comes is ignored."""
        self._parcels.clear()

    def close(self) -> None:
        """Leave the loop and the host."""
        self._turn += 1
        self.forget()
        self._disconnect()

    # --- the socket

    def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)  # connecting to a unix socket succeeds or fails at once
        try:
            sock.connect(str(self._address))
        except OSError:
            sock.close()
            self._lost()
            return
        self._sock, self._splitter = sock, frames.Splitter()
        self._turn += 1
        assert self._loop is not None
        self._loop.add_reader(sock.fileno(), self._on_readable)
        self._loop.call_later(HELLO_S, partial(self._on_silence, self._turn))
        self._send(sock, frames.pack(FrameKind.HELLO, 0, introduction(LinkRole.CONSUMER)))

    def _send(self, sock: socket.socket, data: bytes) -> None:
        # Far less is under way than a socket holds (the broker's prefetch bounds it), so a send
        # that would block means that the host has not been reading.
        try:
            sock.sendall(data)
        except OSError:
            self._lost()

    def _on_readable(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(65536)
            received = self._splitter.feed(data)
        except BlockingIOError:
            return
        except (OSError, ValueError):
            data = b""
        if not data:
            self._lost()
            return
        for frame in received:
            if not self._is_greeted:
                if not self._on_hello(frame):
                    return
            elif frame.kind == FrameKind.TAKEN and (parcel := self._parcels.pop(frame.id, None)):
                parcel.on_taken()

    def _on_hello(self, first: Frame) -> bool:
        """The host has introduced itself. Whether it is offered anything: it is of this version."""
        if reason := mismatch("the host", introduced(first).protocol, "this consumer"):
            self._log_once(logging.ERROR, reason)
            self._disconnect()
            self._retry_later()
            return False
        if (self._was_lost and self._was_greeted) or self._logged:
            _log.info("host is back")
        self._is_greeted, self._was_lost, self._logged = True, False, ""
        self._was_greeted = True
        self._retry_s = FIRST_RETRY_S
        offers = [frames.pack(FrameKind.TAKE, tag, p.payload) for tag, p in self._parcels.items()]
        if self._sock is not None and offers:
            self._send(self._sock, b"".join(offers))
        return self._sock is not None

    def _on_silence(self, turn: int) -> None:
        if turn == self._turn and not self._is_greeted:
            self._log_once(
                logging.WARNING,
                f"the host has not introduced itself within {HELLO_S:g} s and is given no tasks: "
                "it hangs, or is of an older version; restart it if that lasts",
            )

    def _log_once(self, level: int, reason: str) -> None:
        if reason != self._logged:
            self._logged = reason
            _log.log(level, reason)

    def _lost(self) -> None:
        if not self._was_lost:
            self._was_lost = True
            if self._was_greeted:  # else it starts, as this consumer does
                _log.info("host is away; %d messages wait for it", len(self._parcels))
        self._disconnect()
        self._retry_later()

    def _disconnect(self) -> None:
        if self._sock is not None:
            assert self._loop is not None
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
            self._sock, self._is_greeted = None, False

    def _retry_later(self) -> None:
        self._turn += 1
        assert self._loop is not None
        self._loop.call_later(self._retry_s, partial(self._retry, self._turn))
        self._retry_s = min(self._retry_s * 2, LAST_RETRY_S)

    def _retry(self, turn: int) -> None:
        if turn == self._turn and self._sock is None:
            self._connect()
