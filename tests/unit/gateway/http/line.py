"""A connection without a socket: what a caller sends goes in, what it would get comes out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from skipper.gateway.budget import Budget
from skipper.gateway.http.connection import ServerConnection
from skipper.gateway.http.connections import Connections
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.limits import Limits


def plenty() -> Budget:
    """Memory for whatever callers want."""
    return Budget(1 << 30, 1 << 30)


GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Answer(NamedTuple):
    """One response as it came out."""

    status: int
    headers: dict[str, str]
    body: bytes


class PlayedTransport(asyncio.Transport):
    """Keeps what is written. A caller that is not ``reading`` leaves it in the buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.out = bytearray()
        self.is_read, self.is_paused = True, False
        self.has_ended = self.is_closed = self.is_aborted = False
        self.largest = 0
        """Bytes of the largest single write."""
        self._unread, self._high = 0, 0
        self._unreceived = bytearray()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        ends = {"peername": ("192.0.2.1", 4711), "sockname": ("192.0.2.2", 80)}
        return ends.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        del low
        self._high = high or 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_ended
        self.largest = max(self.largest, len(data))
        self.out += data
        if not self.is_read:
            self._unread += len(data)
            if self._unread > self._high:
                self.protocol.pause_writing()

    def reads(self, size: int) -> None:
        """The caller reads ``size`` bytes of what is in the buffer."""
        self._unread = max(0, self._unread - size)
        if self._unread <= self._high // 4:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return self._unread

    def pause_reading(self) -> None:
        assert not self.is_paused
        self.is_paused = True

    def resume_reading(self) -> None:
        assert self.is_paused
        self.is_paused = False
        if self._unreceived:
            asyncio.get_running_loop().call_soon(self.receive, b"")

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def receive(self, data: bytes) -> None:
        """Hand on what has come, as a socket's transport does to either kind of protocol."""
        self._unreceived += data
        while self._unreceived and not self.is_closed:
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                if self.is_paused:
                    break
                space = memoryview(self.protocol.get_buffer(-1))
                size = min(len(space), len(self._unreceived))
                assert size
                space[:size] = self._unreceived[:size]
                del self._unreceived[:size]
                self.protocol.buffer_updated(size)
            else:
                taken, self._unreceived = bytes(self._unreceived), bytearray()
                self.protocol.data_received(taken)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_ended = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()


class Answering:
    """A service that answers each request by ``answer``, and keeps what came."""

    def __init__(self, answer: Callable[[Exchange], None] | None = None) -> None:
        self._answer = answer
        self.seen: list[Exchange] = []

    def begin(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        if self._answer is not None:
            self._answer(exchange)


def with_path(exchange: Exchange) -> None:
    """Answer with the path at once."""
    exchange.respond(200, [], exchange.head.path.encode())


def with_body(exchange: Exchange) -> None:
    """Answer with the body, once it is whole."""

    def echo() -> None:
        if exchange.body.is_whole and not exchange.is_started:
            exchange.on_change = None
            exchange.respond(200, [], exchange.take_body())

    exchange.on_change = echo
    exchange.want_body(1 << 30)
    echo()


class Caller:
    """The caller's end of a connection to ``service``."""

    def __init__(
        self,
        service: Any,
        limits: Limits | None = None,
        connections: Connections | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.connections = connections or Connections(limits or Limits(), budget or plenty())
        self.transport = PlayedTransport()
        self.connection = ServerConnection(service, self.connections)
        self.transport.protocol = self.connection
        self.connection.connection_made(self.transport)

    def send(self, *pieces: bytes) -> None:
        """Send each piece as a segment of its own."""
        for piece in pieces:
            self.transport.receive(piece)

    def leave(self) -> None:
        """Go, and send nothing any more."""
        self.transport.is_closed = True
        self.transport.protocol.connection_lost(None)

    @property
    def is_cut(self) -> bool:
        """Whether nothing more will come."""
        return self.transport.has_ended or self.transport.is_closed

    def answers(self, method: str = "GET") -> list[Answer]:
        """All whole answers that have come, which must be all that has come."""
        data, found = bytes(self.transport.out), []
        while data:
            answer, data = _answer(data, method)
            found.append(answer)
        return found

    def answer(self, method: str = "GET") -> Answer:
        """The one answer that has come."""
        (found,) = self.answers(method)
        return found


def _answer(data: bytes, method: str) -> tuple[Answer, bytes]:
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status, body = int(first.split()[1]), b""
    if method == "HEAD" or status in (100, 204, 304):
        pass
    elif headers.get("transfer-encoding") == "chunked":
        while True:
            size, _, rest = rest.partition(b"\r\n")
            body, end, rest = body + rest[: int(size, 16)], int(size, 16), rest[int(size, 16) + 2 :]
            if not end:
                break
    elif "content-length" in headers:
        size_ = int(headers["content-length"])
        assert len(rest) >= size_, "the answer is not whole"
        body, rest = rest[:size_], rest[size_:]
    else:
        body, rest = rest, b""
    return Answer(status, headers, body), rest
