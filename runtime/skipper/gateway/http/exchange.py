"""One request and its answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, Protocol

from skipper import problems
from skipper.gateway import request_ids
from skipper.gateway.budget import Budget, MemoryClaim
from skipper.gateway.http.body import Body
from skipper.gateway.http.head import Head, Headers
from skipper.gateway.http.limits import MAPPED_PIECE, PIECE, PIECES, SHORT_REST
from skipper.gateway.http.peer import HttpPeer
from skipper.gateway.problems import Problem
from skipper.problems import ProblemKind

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_COUNTED, _CHUNKED, _UNTIL_END, _BODILESS = range(4)
"""How the end of an answer's body is known."""


_NONE: Headers = []


def _phrase(status: int) -> str:
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""


STATUS_LINES = {n: f"HTTP/1.1 {n} {_phrase(n)}\r\n".encode() for n in range(200, 600)}


def problem_answer(kind: ProblemKind, detail: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a problem's answer."""
    body = json.dumps(problems.document(kind, detail, {})).encode()
    headers = [(b"content-type", b"application/problem+json")]
    if kind.status == 503:
        headers.append((b"retry-after", b"1"))
    return kind.status, headers, body


class Channel(Protocol):
    """The connection, as its exchanges need it."""

    budget: Budget

    is_ending: bool
    """Whether it ends with the present answer."""
    is_congested: bool
    """Whether its caller does not read as fast as it is written to."""

    def write(self, data: bytes | memoryview) -> None:
        """Send ``data``; to a caller that has left it goes nowhere."""
        ...

    def on_answered(self) -> None:
        """The present answer is complete."""
        ...

    def on_room(self) -> None:
        """The present body has been taken, or may grow."""
        ...

    def land(self) -> None:
        """Receive what is yet to come of the present body straight into a buffer, if it can be."""
        ...

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Start a task that a shutdown waits for."""
        ...

    def abort(self) -> None:
        """End at once, in the middle of an answer."""
        ...


class Exchange:
    """One request and its answer, which is written once, by whoever answers.

    ``on_change`` is called when there is more of the body, when the caller has left, when it has
    read what was written, and when the answer is complete.
    """

    __slots__ = (
        "_claim",
        "_has_continued",
        "_left",
        "_line",
        "_mode",
        "_piece",
        "_room",
        "_size",
        "_unsent",
        "answered",
        "body",
        "head",
        "headers",
        "is_answered",
        "is_cut",
        "is_gone",
        "is_started",
        "key",
        "on_change",
        "on_end",
        "on_outcome",
        "peer",
        "received",
        "request_id",
        "status",
    )

    def __init__(
        self, line: Channel, head: Head, body: Body, peer: HttpPeer, received: float
    ) -> None:
        self._line = line
        self.head, self.body, self.peer = head, body, peer
        self.received = received
        """When its head was complete, on the loop's clock."""
        self.request_id = request_ids.accepted(head.header(request_ids.HEADER))
        self.request_id = self.request_id or request_ids.new_id()
        """Its caller's, or a new one."""
        self.key = ""
        """What the key is called that has let it in; empty for none."""
        self.headers: Headers = _NONE
        """What its answer has besides, whatever that is."""
        self.status = 0
        """Of the answer; 0 where there is none."""
        self.answered: Headers = _NONE
        """The headers of the answer that are its own."""
        self.on_outcome: Callable[[Exchange], None] | None = None
        """Called once, as the answer begins, or as the caller leaves before that."""
        self.on_end: Callable[[Exchange], None] | None = None
        """Called once, when it is answered, or the connection has ended before that."""
        self.is_started = self.is_answered = False
        self.is_gone = False
        """Whether the caller has left: nobody reads the answer."""
        self.is_cut = False
        """Whether the rest of the body is not received, because others want its room."""
        self._claim: MemoryClaim | None = None
        self._room: asyncio.Future[MemoryClaim] | None = None
        """Of a body, while it waits for room."""
        self._size = 0
        self.on_change: Callable[[], None] | None = None
        self._has_continued = not head.awaits_continue
        self._mode = _COUNTED
        self._left = 0
        """Bytes of the answer's body that its head has promised and that have not been written."""
        self._unsent = memoryview(b"")
        self._piece = PIECE

    # --- the request

    def want_body(self, limit: int | None = None) -> None:
        """Have the body sent, and received until ``limit`` bytes of it lie here untaken."""
        if limit is not None:
            self.body.limit = limit
        if not self._has_continued and not self.is_started:
            self._has_continued = True
            if not self.body.size:
                self._line.write(_CONTINUE)
        self._line.on_room()

    def take_body(self) -> bytes:
        """What lies here of the body."""
        taken = self.body.take()
        self._line.on_room()
        return taken

    def land_body(self) -> None:
        """:meth:`want_body`, for who uses what comes at once: see :meth:`lend_body`."""
        self._line.land()
        self.want_body(PIECES)

    def lend_body(self) -> bytes | memoryview:
        """What lies here of the body, which is not to be kept but given back."""
        return self.body.lend()

    def give_back_body(self, lent: bytes | memoryview) -> None:
        """What was lent is needed no more."""
        self.body.give_back(lent)
        self._line.on_room()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Answer by a task, for which a shutdown waits."""
        self._line.run(coroutine)

    @property
    def awaits_body(self) -> bool:
        """Whether the caller is to send more of the body."""
        return self._has_continued and not self.body.is_whole

    # --- the memory that they take

    async def reserve(self, size: int | None = None, largest: int | None = None) -> None:
        """Wait until there is room for the whole body, or for ``size`` bytes of it.

        It has ``largest`` bytes at most, where that is not what any body may have. Raises Problem
        where there is no room.
        """
        if size is None and self.body.rest is not None:
            size = self.body.received + self.body.rest
        room = self._room = asyncio.ensure_future(
            self._line.budget.body(size, self._on_cut, largest)
        )
        try:
            self._claim = await room
        except asyncio.CancelledError:
            if not room.cancelled() and room.exception() is None:  # granted just before
                room.result().release()
            if not self.is_gone:
                raise
        finally:
            self._room = None

    def hold(self, size: int) -> None:
        """Take room for this much of the answer, until it is read. Raises Problem for want of it.

        Room that the body had is given back.
        """
        self.let_go()
        if not self.is_gone:
            self._claim = self._line.budget.answer(size, self.break_off)

    def let_go(self) -> None:
        """Give back what was reserved or held."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release()

    def reads(self, size: int) -> None:
        """The caller has taken this much of what is held."""
        if self._claim is not None:
            self._claim.gets_on(size)

    def _on_cut(self) -> None:
        self.is_cut = True
        self.changed()

    # --- the answer

    def respond(
        self, status: int, headers: Headers, body: bytes | memoryview, *, is_mapped: bool = False
    ) -> None:
        """Send a whole answer; ``headers`` have no Content-Length.

        In the place of one that cannot be held until its caller has read it goes a problem. What
        ``is_mapped`` is a file's, and takes no memory that has to be accounted for.
        """
        if is_mapped:
            self.let_go()
            if self.peer.scheme == "http":  # with TLS a piece is memory once it is encrypted
                self._piece = MAPPED_PIECE
        elif len(body) > PIECE:
            try:
                self.hold(len(body))
            except Problem as problem:
                status, headers, body = problem_answer(problem.kind, problem.detail)
        length = (b"content-length", b"%d" % len(body))
        start = self._start(status, [length, *headers])
        if self._has_no_body(status):
            body = b""
        if len(body) <= PIECE:
            self._line.write(start + body)
            self._finish()
        else:
            self._line.write(start)
            self._unsent, self._size = memoryview(body), len(body)
            self.go_on()

    def start(self, status: int, headers: Headers) -> None:
        """Send the head of an answer whose body follows."""
        self._line.write(self._start(status, headers))

    def write(self, data: bytes | memoryview) -> None:
        """Send a part of the answer's body. Raises RuntimeError for more than was promised."""
        if not data or self._mode == _BODILESS:
            return
        if self._mode == _CHUNKED:
            data = b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        elif self._mode == _COUNTED:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("the answer is longer than its Content-Length")
        self._line.write(data)

    def end(self) -> None:
        """The answer is complete. Raises RuntimeError where less came than was promised."""
        if self._mode == _CHUNKED:
            self._line.write(b"0\r\n\r\n")
        elif self._left:
            raise RuntimeError("the answer is shorter than its Content-Length")
        self._finish()

    def break_off(self) -> None:
        """End the connection in the middle of the answer, so that nobody takes it for whole."""
        self._line.abort()

    @property
    def is_congested(self) -> bool:
        """Whether what was written lies here still; more had better wait for ``on_change``."""
        return self._line.is_congested

    # --- what the connection calls

    def go_on(self) -> None:
        """The caller has read what was written: write what is left, or have it written."""
        while self._unsent and not self._line.is_congested:
            piece, self._unsent = self._unsent[: self._piece], self._unsent[self._piece :]
            self._line.write(piece)
            self.reads(self._size - len(self._unsent))
            if not self._unsent:
                self._finish()
        self.changed()

    def lose(self) -> None:
        """The caller has left."""
        self.is_gone, self._line = True, _NOWHERE
        self._unsent = memoryview(b"")
        self.let_go()
        if self._room is not None:
            self._room.cancel()
        self.changed()
        self.on_change = None
        self._tell_outcome()
        self._tell_end()

    def refuse(self, status: int) -> None:
        """What comes is no body: whoever answers is rid of it, and the connection answers."""
        if not self.is_started:
            self.status = status
        self.lose()

    def grows(self) -> None:
        """There is more of the body."""
        if self._claim is not None:
            if self.body.is_whole:
                self._claim.is_whole(self.body.received)
            else:
                self._claim.gets_on(self.body.received)
        self.changed()

    def changed(self) -> None:
        """Tell whoever answers that something is different."""
        if self.on_change is not None:
            self.on_change()

    # --- how an answer is written

    def _start(self, status: int, headers: Headers) -> bytes:
        if self.is_started:
            raise RuntimeError("the answer has begun already")
        self.is_started, self.status, self.answered = True, status, headers
        self._tell_outcome()
        lines, length = [STATUS_LINES[status]], None
        for name, value in (headers + self.headers) if self.headers else headers:
            if name in (b"connection", b"transfer-encoding"):  # which are the connection's to say
                continue
            if name == b"content-length":
                length = int(value)
            lines += (name, b": ", value, b"\r\n")
        lines += (b"x-request-id: ", self.request_id.encode(), b"\r\n")
        lines += self._framing(status, length)
        lines.append(b"\r\n")
        return b"".join(lines)

    def _framing(self, status: int, length: int | None) -> list[bytes]:
        """The headers that tell where the answer ends, and whether the connection does."""
        lines = []
        if self._has_no_body(status):
            self._mode = _BODILESS
        elif length is not None:
            self._left = length
        elif self.head.version == "1.1":
            self._mode = _CHUNKED
            lines.append(b"transfer-encoding: chunked\r\n")
        else:
            self._mode = _UNTIL_END
            self._line.is_ending = True
        if not self.head.keeps_alive or not self._has_short_rest():
            self._line.is_ending = True
        if self._line.is_ending:
            lines.append(b"connection: close\r\n")
        return lines

    def _has_short_rest(self) -> bool:
        """Whether what is left of the body is sure to come, and quick to receive."""
        if self.body.is_whole:
            return True
        rest = self.body.rest
        return self._has_continued and rest is not None and rest <= SHORT_REST

    def _has_no_body(self, status: int) -> bool:
        return self.head.method == "HEAD" or status in (204, 304)

    def _finish(self) -> None:
        self.is_answered = True
        self._tell_end()
        self.let_go()
        self.body.throw_away()
        self._line.on_answered()
        self.changed()

    def _tell_outcome(self) -> None:
        on_outcome, self.on_outcome = self.on_outcome, None
        if on_outcome is not None:
            on_outcome(self)

    def _tell_end(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end(self)


class _Nowhere:
    """The line of an exchange whose caller has left: what is written goes nowhere."""

    is_ending = True
    is_congested = False
    budget = Budget(0, 0)

    def write(self, data: bytes | memoryview) -> None:
        pass

    def on_answered(self) -> None:
        pass

    def on_room(self) -> None:
        pass

    def land(self) -> None:
        pass

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        coroutine.close()

    def abort(self) -> None:
        pass


_NOWHERE = _Nowhere()
