"""One connection: bytes become requests, one after the other, and answers become bytes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from enum import Enum
from typing import Any, Protocol, cast

from skipper import problems
from skipper.gateway import request_ids
from skipper.gateway.http.body import body_of
from skipper.gateway.http.connections import Connections
from skipper.gateway.http.exchange import Exchange, problem_answer
from skipper.gateway.http.head import Head, HeadReader, RefusedError
from skipper.gateway.http.landing import LandingProtocol
from skipper.gateway.http.limits import PIPELINED, UNSENT, Limits
from skipper.gateway.http.peer import HttpPeer
from skipper.gateway.http.refusals import refusal

log = logging.getLogger(__name__)


class Stage(Enum):
    """What a connection is at. What it waits for decides how long it may."""

    FRESH = "nothing or half a head has come"
    HEAD = "half a head has come"
    IDLE = "the next request is yet to come"
    BODY = "half a body has come"
    WORKING = "the answer is yet to come"
    WRITING = "the answer is being read"
    LINGERING = "the last answer was given"


class Service(Protocol):
    """Whoever answers requests."""

    def begin(self, exchange: Exchange) -> None:
        """Answer, or see to it that somebody does.

        Called as soon as the head of a request is there; of its body is there what came with it.
        """
        ...


class ServerConnection(asyncio.Protocol):
    """The server's end of one connection. Later requests wait until the first is answered."""

    transport: asyncio.Transport
    peer: HttpPeer

    def __init__(self, service: Service, connections: Connections) -> None:
        self._service, self._all = service, connections
        self.budget = connections.budget
        self._loop = asyncio.get_running_loop()
        self._reader = HeadReader()
        self._exchange: Exchange | None = None
        self._later = bytearray()
        """What has come of later requests."""
        self._is_deaf = False
        """Whether what still comes is thrown away."""
        self._is_lost = False
        self._is_paused = False
        """Whether nothing is received for now."""
        self._is_landing = False
        """Whether what is received goes straight into the present body's buffer."""
        self.is_ending = self._is_shut = False
        self.is_congested = False
        self._requests = self._received = self._written = 0
        self._seen = (Stage.FRESH, 0)
        """What it was at when it was last looked at, and in which request."""
        self._since = self._loop.time()
        self._mark = 0
        """How far it had got then."""

    # --- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.transport.set_write_buffer_limits(UNSENT)
        self.peer = HttpPeer.of(transport)
        if not self._all.admit(self):
            self._all.complaints.add("no room for another connection", self.peer)
            detail = f"there are {self._all.limits.connections} connections (gateway.connections)"
            self._refuse(RefusedError(problems.UNAVAILABLE, detail), lingers=False)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._is_deaf:
            return
        exchange = self._exchange
        try:
            if exchange is None and not self._later:
                self._read_head(data)
            elif exchange is not None and not exchange.body.is_whole:
                self._read_body(exchange, data)
            else:
                self._hold(data)
        except RefusedError as refused:
            self._all.complaints.add("a request was refused", self.peer, refused.detail)
            self._refuse(refused)

    def pause_writing(self) -> None:
        self.is_congested = True

    def resume_writing(self) -> None:
        self.is_congested = False
        if self._exchange is not None:
            self._exchange.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._is_lost = self._is_deaf = True
        self._all.forget(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lose()

    # --- a body that is received straight into a buffer

    def land(self) -> None:
        exchange = self._exchange
        # Not with TLS, where what has come and been decrypted is the transport's.
        if exchange is None or self._is_landing or self._is_lost or self.peer.scheme != "http":
            return
        if exchange.body.land():
            self._switch(is_landing=True)

    def _switch(self, *, is_landing: bool) -> None:
        """Have the transport put what comes into the body's buffer, or hand it on in pieces."""
        self._is_landing = is_landing
        if is_landing:
            protocol: asyncio.BaseProtocol = LandingProtocol(self, self._space, self._landed)
        else:
            protocol = self
        if not self._is_paused:  # because it looks at who takes what comes as it begins to read
            self.transport.pause_reading()
        self.transport.set_protocol(protocol)
        if not self._is_paused:
            self.transport.resume_reading()

    def _space(self) -> memoryview:
        assert self._exchange is not None
        return self._exchange.body.space()

    def _landed(self, size: int) -> None:
        self._received += size
        exchange = self._exchange
        assert exchange is not None
        exchange.body.landed(size)
        if exchange.body.is_whole:
            self._switch(is_landing=False)
        if not exchange.is_answered:
            self._read_on()
            exchange.grows()
        elif exchange.body.is_whole:
            self._next()

    # --- requests

    def _read_head(self, data: bytes) -> None:
        found = self._reader.feed(data)
        if found is None:
            self._all.head_grows(self, self._reader.size)
            return
        head, end = found
        self._all.head_ends(self)
        self._all.works(self)
        self._begin(head, data[end:])

    def _begin(self, head: Head, data: bytes) -> None:
        self._requests += 1
        body = body_of(head)
        exchange = Exchange(self, head, body, self.peer, self._loop.time())
        self._exchange = exchange
        if self._all.access_log is not None:
            exchange.on_end = self._all.access_log.ended
        if data and (end := body.feed(data)) < len(data):
            self._hold(data[end:])
        try:
            self._service.begin(exchange)
        except Exception:
            log.exception("a request failed", extra={"request": exchange.request_id})
            if exchange.is_started:
                self.abort()
            else:
                detail = "the gateway's log tells more"
                exchange.respond(*problem_answer(problems.INTERNAL, detail))
        self._read_on()

    def _read_body(self, exchange: Exchange, data: bytes) -> None:
        end = exchange.body.feed(data)
        if end < len(data):
            self._hold(data[end:])
        if exchange.is_answered:
            if exchange.body.is_whole:
                self._next()
            return
        self._read_on()
        exchange.grows()

    def _hold(self, data: bytes) -> None:
        self._later += data
        self._read_on()

    def _next(self) -> None:
        """Wait for the next request, or go on to the one that has come."""
        self._exchange = None
        if self._later:
            self._loop.call_soon(self._go_on)  # others come first, however many are waiting here
        else:
            self._all.waits(self)
            self._read_on()

    def _go_on(self) -> None:
        later, self._later = bytes(self._later), bytearray()
        if not self._is_deaf:
            self._received -= len(later)
            self.data_received(later)

    def _read_on(self) -> None:
        """Receive more, or for now no more, by what lies here already."""
        if self._is_lost:
            return
        exchange = self._exchange
        has_enough = len(self._later) > PIPELINED or (
            exchange is not None and exchange.body.is_full and not exchange.body.is_whole
        )
        if has_enough != self._is_paused:
            self._is_paused = has_enough
            (self.transport.pause_reading if has_enough else self.transport.resume_reading)()
            self._all.is_read(self, is_read=not has_enough)

    def _refuse(self, refused: RefusedError, *, lingers: bool = True) -> None:
        """Answer what is no request, and end the connection."""
        exchange, self._exchange = self._exchange, None
        request_id = exchange.request_id if exchange is not None else request_ids.new_id()
        if exchange is not None:
            exchange.refuse(refused.kind.status)
        elif self._all.access_log is not None:
            self._all.access_log.refused(refused.kind.status, request_id)
        self.is_ending = True
        if exchange is None or not exchange.is_started:
            self.write(refusal(refused.kind, refused.detail, request_id))
        self._end(lingers=lingers)

    # --- answers (what an exchange calls)

    def write(self, data: bytes | memoryview) -> None:
        if not self._is_lost:
            self._written += len(data)
            self.transport.write(data)

    def on_answered(self) -> None:
        exchange = self._exchange
        if exchange is None or self._is_lost:
            return
        if self.is_ending:
            self._exchange = None
            self._end(lingers=bool(self._later) or not exchange.body.is_whole)
        elif exchange.body.is_whole:
            self._next()
        else:
            self._read_on()

    def on_room(self) -> None:
        self._read_on()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._all.run(coroutine)

    def abort(self) -> None:
        self._is_deaf = True
        self.transport.abort()

    def _end(self, *, lingers: bool) -> None:
        """Send what is written, then close. Who ``lingers`` throws away what still comes first."""
        self._is_deaf = True
        if self._is_landing:
            self._switch(is_landing=False)
        self._later.clear()
        self._read_on()
        if lingers and not self._is_shut and self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # --- what the server and the timer call

    def shutdown(self) -> None:
        """End, once the request that has come is answered."""
        self.is_ending = self._is_shut = True
        if self._exchange is None:
            self._end(lingers=False)

    def cut(self) -> None:
        """The server has waited as long as it does: whoever still waits is told so."""
        exchange = self._exchange
        if exchange is None or exchange.is_started:
            self.abort()
        else:
            detail = "the gateway shuts down"
            exchange.respond(*problem_answer(problems.UNAVAILABLE, detail))

    def make_room(self) -> None:
        """End: it waits for a request, and others want its place."""
        self._end(lingers=False)

    def leave(self) -> None:
        """End: its caller has left."""
        self.transport.abort()

    @property
    def descriptor(self) -> int:
        """That of its socket."""
        return int(self.transport.get_extra_info("socket").fileno())

    def check(self, now: float, limits: Limits) -> None:
        """End if it has been at the same for too long, and has not got on."""
        stage, limit_s, progress = self._stage(limits)
        seen = (stage, self._requests)
        if seen != self._seen or progress - self._mark >= limits.progress:
            self._seen, self._since, self._mark = seen, now, progress
        elif now - self._since > limit_s:
            self._give_up(stage)

    def _stage(self, limits: Limits) -> tuple[Stage, float, int]:
        """What it is at, how long it may be in seconds, and how many bytes it has got on."""
        if unsent := self.transport.get_write_buffer_size():
            return Stage.WRITING, limits.stall_s, self._written - unsent
        if self._is_deaf:
            return Stage.LINGERING, limits.linger_s, 0
        exchange = self._exchange
        if exchange is not None:
            if exchange.awaits_body and not self._is_paused:
                return Stage.BODY, limits.stall_s, self._received
            return Stage.WORKING, math.inf, 0
        if not self._requests:
            return Stage.FRESH, limits.head_s, 0
        if self._reader.size:
            return Stage.HEAD, limits.head_s, 0
        return Stage.IDLE, limits.idle_s, 0

    def _give_up(self, stage: Stage) -> None:
        if stage in (Stage.WRITING, Stage.LINGERING):
            self._all.complaints.add("an answer was not read in time", self.peer)
            self.transport.abort()
        elif stage is Stage.BODY or self._reader.size:
            self._all.complaints.add("a request did not come in time", self.peer)
            self._refuse(RefusedError(problems.LATE, "the rest of it did not come"), lingers=False)
        else:
            self._end(lingers=False)
