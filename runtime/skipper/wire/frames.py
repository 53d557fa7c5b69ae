"""Frames on unix stream sockets between the processes of one machine. No policy.

A frame is ``length (u32), kind (u8), id (u64)`` in network order, then ``length`` bytes.
They are sent over

- *links* (gateway, consumer or another pool's host → a host's ``<pool>.sock``); the asker is the
  side that connects,
- *instance sockets* (host ↔ instance, one socket pair each).

The id pairs an answer with its question and is chosen by who asks. What the payloads of calls and
replies are stands in :mod:`skipper.wire.calls`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple, cast

HEAD = struct.Struct("!IBQ")
MAX_FRAME = 1 << 30
"""A longer frame is a broken or hostile peer, not data."""


class FrameKind:
    """What a frame is: plain numbers, since an enum's member takes far longer to look up."""

    # on links: what they carry is in :mod:`skipper.wire.messages`
    HELLO = 1
    """:class:`~skipper.wire.messages.Hello`; the first frame of either side."""
    CATALOGUE = 2
    """host → asker, :class:`~skipper.wire.messages.CatalogueSnapshot`; after HELLO and at every
    change."""
    ASK = 3
    """:class:`~skipper.wire.messages.Question`; ANSWER or REFUSED comes back with the same id."""
    ANSWER = 4
    TASKS = 5
    """host → asker: ids of tasks whose record has changed, one a line. A hint only."""
    NUDGE = 6
    """asker → host: id of a task that has just been accepted. A hint only."""
    TAKE = 7
    """consumer → host: task ids, one a line; answered by TAKEN when the host has taken them."""
    TAKEN = 8
    TASK_EVENTS = 9
    """host → asker: ids of tasks that have new events, one a line. A hint only."""
    REFUSED = 10
    """Why a question has no answer, in one line of text."""

    # on links and instance sockets
    CHECK = 15
    """As CALL, but only the body is to be judged; answered by a REPLY."""
    CALL = 16
    """:class:`~skipper.wire.calls.CallHead`, then the body."""
    ITEM = 17
    """One item of a generator, JSON."""
    REPLY = 18
    """:func:`~skipper.wire.calls.reply`; ends the call."""
    CANCEL = 19
    """The asker of this id no longer wants it."""
    CREDIT = 20
    """asker → host → instance, :func:`credit`: so much more of this call's items may come."""
    SERVED = 21
    """What serves a stream (:func:`~skipper.wire.calls.served_by`), before its first ITEM."""

    # on instance sockets
    JOB = 32
    """host → instance, JSON: what to load or to look at; the first frame."""
    REPORT = 33
    """instance → host, JSON: the job's answer; a serving instance takes calls from here on."""
    EVENT = 34
    """instance → host, about this id's call: what :mod:`skipper.wire.events` has."""
    BATCH = 36
    """host → instance: CALL frames, one after the other, that run as one."""
    SIZE = 37
    """instance → host: a batch ran; its id is how many items it had."""
    TURN = 38
    """instance → host, JSON: whose plugin's code runs next, or which model; only before REPORT."""
    THREADS = 39
    """host → instance: how many threads to compute on from now on, in digits.

    instance → host: on how many it does, once it has been told; others where a library is set."""
    RECALL = 40
    """host → instance: give this id's call back, if it has not begun.

    instance → host: it comes back, and is not run here; with what the instance is at meanwhile, as
    text. With id 0: an instance that gave calls back goes on."""
    FORGET = 42
    """host → instance, JSON: names of models of which other versions may serve now; ask again.

    Its id counts these frames."""
    FOLLOWS = 43
    """host → instance: which deployments replies name from now on, as ``served_by`` has them."""
    TALLIES = 44
    """instance → host: what its function has counted and observed since it last said so
    (:mod:`skipper.wire.tallies`)."""
    WISH = 41
    """instance → host, JSON: one of :mod:`skipper.instance.wishes`; answered with a REPLY."""


WINDOW = 512 << 10
"""Bytes of a stream's items that may be on their way at most: one that nobody reads stops at them.
The item that reaches past it is sent whole, so that any item can be sent."""
FIRST_WINDOW = WINDOW // 8
"""How many may be before any have been taken; whoever takes items lets it grow."""
LEAST = WINDOW // 64
"""The least that an item counts, so that a function is at most 64 items ahead of its caller."""

_CREDIT = struct.Struct("!Q")


class Frame(NamedTuple):
    """One frame as it came."""

    kind: int
    id: int
    payload: bytes


def pack(kind: int, id_: int, *parts: bytes) -> bytes:
    """One frame, ready to send."""
    payload = parts[0] if len(parts) == 1 else b"".join(parts)
    return HEAD.pack(len(payload), kind, id_) + payload


def weight(item: bytes) -> int:
    """How much of a stream's window an item takes."""
    return max(len(item), LEAST)


def credit(taken: int) -> bytes:
    """The payload of a CREDIT for items that weigh this much."""
    return _CREDIT.pack(taken)


def credited(payload: bytes) -> int:
    """How much a CREDIT gives; nothing where it cannot be read."""
    return int(_CREDIT.unpack(payload)[0]) if len(payload) == _CREDIT.size else 0


class Splitter:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._rest = bytearray()
        """The beginning of a frame whose end has not come yet."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that ``data`` completes. Raises ValueError where these are no frames."""
        if not self._rest:
            frames, end = _cut(data)
            if end < len(data):
                self._rest += data[end:]
            return frames
        self._rest += data
        with memoryview(self._rest) as whole:  # its slices copy nothing
            frames, end = _cut(whole)
        if end:
            del self._rest[:end]
        return frames


def _cut(data: bytes | memoryview) -> tuple[list[Frame], int]:
    """The whole frames at the start of ``data``, and where they end."""
    frames, at, size = [], 0, len(data)
    while (start := at + HEAD.size) <= size:
        length, kind, id_ = HEAD.unpack_from(data, at)
        if length > MAX_FRAME:
            raise ValueError(f"a frame of {length} bytes")
        end = start + length
        if size < end:
            break
        payload = bytes(data[start:end])
        frames.append(tuple.__new__(Frame, (kind, id_, payload)))  # quicker than Frame(…)
        at = end
    return frames, at


class FrameProtocol(asyncio.Protocol):
    """One end of a frame stream on an event loop; hands whole frames to ``on_frames``."""

    def __init__(
        self,
        on_frames: Callable[[FrameProtocol, list[Frame]], None],
        on_lost: Callable[[FrameProtocol], None],
        on_made: Callable[[FrameProtocol], None] = lambda _: None,
    ) -> None:
        self._on_frames, self._on_lost, self._on_made = on_frames, on_lost, on_made
        self._splitter = Splitter()
        self.transport: asyncio.Transport
        self.is_full = False
        """Whether more waits to be sent than the transport's limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._on_made(self)

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._splitter.feed(data)
        except ValueError:
            self.transport.abort()
            return
        if frames:
            self._on_frames(self, frames)

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost(self)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def send(self, kind: int, id_: int, *parts: bytes) -> None:
        """Send a frame. To a peer that is gone it goes nowhere: ``on_lost`` runs for that."""
        if not self.transport.is_closing():
            self.transport.write(pack(kind, id_, *parts))


def peer_is_us(sock: socket.socket, uid: int) -> bool:
    """Whether a unix socket's other end is user ``uid``'s. True where the system cannot tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return bool(struct.unpack("3i", credentials)[1] == uid)
