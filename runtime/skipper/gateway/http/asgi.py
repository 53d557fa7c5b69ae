"""An exchange as an ASGI application sees it, for what is FastAPI's to answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from skipper import problems
from skipper.gateway.budget import SMALL
from skipper.gateway.http.exchange import Exchange, problem_answer
from skipper.gateway.http.head import Headers
from skipper.gateway.http.limits import PIECE
from skipper.gateway.problems import Problem
from skipper.problems import ProblemKind

log = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Application = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[Message]],
        Callable[[Message], Awaitable[None]],
    ],
    Awaitable[None],
]
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_NO_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def answer(app: Application, exchange: Exchange) -> None:
    """Have ``app`` answer, in a task."""
    exchange.run(AsgiView(exchange).answered_by(app))


def scope_of(exchange: Exchange) -> dict[str, Any]:
    """The scope of a request.

    ``state.peer`` is the other end of its connection, ``state.key`` what let it in.
    """
    head, peer = exchange.head, exchange.peer
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": head.version,
        "method": head.method,
        "scheme": peer.scheme,
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query,
        "root_path": "",
        "headers": head.headers,
        "client": peer.client,
        "server": peer.server,
        "state": {"peer": peer, "key": exchange.key, "request_id": exchange.request_id},
    }


class GoneError(Exception):
    """The caller left before its request was complete."""


class AsgiView:
    """The two callables of ASGI for one exchange.

    A body of more than :data:`~skipper.gateway.budget.SMALL` bytes is received once there is room
    for all of it, and an answer is held where there is: either raises Problem for want of it, but
    an answer that is sent whole becomes that problem.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._changed = asyncio.Event()
        self.largest: int | None = None
        """Bytes that its body may have, where that is not what any may have."""
        self._has_all = self._has_room = False
        self._start: Message | None = None
        """How the answer is to begin, until the first part of its body is there."""
        exchange.on_change = self._changed.set

    async def answered_by(self, app: Application) -> None:
        """Run ``app``. What it leaves undone is answered with 500, or breaks the answer off."""
        exchange = self.exchange
        try:
            await app(scope_of(exchange), self.receive, self.send)
        except asyncio.CancelledError:  # the server shuts down, and its grace is at an end
            self.fail(problems.UNAVAILABLE, "the gateway shuts down")
            raise
        except Exception:
            log.exception("a request failed", extra={"request": exchange.request_id})
        else:
            if exchange.is_answered or exchange.is_gone:
                return
            log.error("a request was not answered", extra={"request": exchange.request_id})
        finally:
            exchange.let_go()
        self.fail(problems.INTERNAL, "the gateway's log tells more")

    async def receive(self) -> Message:
        """The next part of the body; the caller's leaving, or the end of the answer, after it."""
        exchange, body = self.exchange, self.exchange.body
        while True:
            if exchange.is_gone or exchange.is_answered:
                return {"type": "http.disconnect"}
            if not self._has_all and (body.size or body.is_whole):
                self._has_all = body.is_whole
                taken = exchange.take_body()
                return {"type": "http.request", "body": taken, "more_body": not self._has_all}
            self._check_cut()
            if not self._has_all:
                if not self._has_room and body.received + (body.rest or 0) >= SMALL:
                    self._has_room = True
                    await exchange.reserve(largest=self.largest)
                    continue  # something may have come meanwhile, or the caller may have left
                exchange.want_body()
            await self._change()

    async def pieces(self) -> AsyncIterator[bytes | memoryview]:
        """The body as it comes, for who holds none of it: a piece is lent until the next.

        Raises GoneError if the caller leaves.
        """
        exchange, body = self.exchange, self.exchange.body
        exchange.land_body()
        while not (body.is_whole and not body.size):
            if exchange.is_gone or exchange.is_answered:
                raise GoneError
            self._check_cut()
            if body.size:
                lent = exchange.lend_body()
                yield lent
                exchange.give_back_body(lent)
            else:
                await self._change()
        self._has_all = True

    def _check_cut(self) -> None:
        if self.exchange.is_cut:
            detail = "its body came too slowly while others waited (gateway.memory_mb)"
            raise Problem(problems.UNAVAILABLE, detail)

    async def send(self, message: Message) -> None:
        """Send a part of the answer, once the caller has read what was sent before."""
        exchange = self.exchange
        if exchange.is_gone:
            return
        if message["type"] == "http.response.start":
            if self._start is not None or exchange.is_started:
                raise RuntimeError("the answer has begun already")
            self._start = {**message, "headers": _checked(message.get("headers", ()))}
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"{message['type']!r} was sent out of turn")
        start, self._start = self._start, None
        data, has_more = message.get("body", b""), message.get("more_body", False)
        if start is not None and len(data) > SMALL and not has_more:
            await self._respond(start, data)
            return
        if start is not None:
            exchange.start(start["status"], start["headers"])
        elif not exchange.is_started or exchange.is_answered:
            raise RuntimeError("the answer has not begun, or is complete")
        await self._write(data)
        if not has_more and not exchange.is_gone:
            exchange.end()

    async def _respond(self, start: Message, body: bytes) -> None:
        """Send a whole answer, and wait until its caller has read it."""
        headers = [header for header in start["headers"] if header[0] != b"content-length"]
        self.exchange.respond(start["status"], headers, body)
        while not (self.exchange.is_answered or self.exchange.is_gone):
            await self._change()

    async def _write(self, data: bytes) -> None:
        """Send a part of the answer, and wait until its caller has read most of it."""
        exchange = self.exchange
        if len(data) > SMALL:
            exchange.hold(len(data))
        with memoryview(data) as whole:
            for at in range(0, len(data), PIECE):
                exchange.write(whole[at : at + PIECE])
                await self._until_read()
                exchange.reads(at)
        exchange.let_go()

    async def _until_read(self) -> None:
        while self.exchange.is_congested and not self.exchange.is_gone:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def fail(self, kind: ProblemKind, detail: str) -> None:
        """Answer with a problem; where an answer has begun, let nobody take it for whole."""
        exchange = self.exchange
        if not exchange.is_started:
            exchange.respond(*problem_answer(kind, detail))
        elif not exchange.is_answered:
            exchange.break_off()


def _checked(headers: Any) -> Headers:
    """Headers that can be sent. Raises RuntimeError for those that would end their line."""
    for name, value in headers:
        if not _NAME.fullmatch(name) or _NO_VALUE.search(value):
            raise RuntimeError(f"the header {name!r} cannot be sent")
    return [(bytes(name).lower(), bytes(value)) for name, value in headers]
