"""An exchange as an ASGI application sees it, for what is FastAPI's to answer."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from skipper import problems
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.head import Headers
from skipper.gateway.http.limits import PIECE
from skipper.gateway.http.refusals import problem_answer
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
    exchange.run(View(exchange).answered_by(app))


def scope_of(exchange: Exchange) -> dict[str, Any]:
    """The scope of a request; ``state.peer`` is the other end of its connection."""
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
        "state": {"peer": peer, "request_id": exchange.request_id},
    }


class View:
    """The two callables of ASGI for one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._changed = asyncio.Event()
        self._has_all = False
        exchange.on_change = self._changed.set

    async def answered_by(self, app: Application) -> None:
        """Run ``app``. What it leaves undone is answered with 500, or breaks the answer off."""
        exchange = self._exchange
        try:
            await app(scope_of(exchange), self.receive, self.send)
        except asyncio.CancelledError:  # the server shuts down, and its grace is at an end
            self._fail(problems.UNAVAILABLE, "the gateway shuts down")
            raise
        except Exception:
            log.exception("a request failed", extra={"request": exchange.request_id})
        else:
            if exchange.is_answered or exchange.is_gone:
                return
            log.error("a request was not answered", extra={"request": exchange.request_id})
        self._fail(problems.INTERNAL, "the gateway's log tells more")

    async def receive(self) -> Message:
        """The next part of the body; the caller's leaving, or the end of the answer, after it."""
        exchange, body = self._exchange, self._exchange.body
        while True:
            if exchange.is_gone or exchange.is_answered:
                return {"type": "http.disconnect"}
            if not self._has_all and (body.size or body.is_whole):
                self._has_all = body.is_whole
                taken = exchange.take_body()
                return {"type": "http.request", "body": taken, "more_body": not self._has_all}
            if not self._has_all:
                exchange.want_body()
            await self._change()

    async def send(self, message: Message) -> None:
        """Send a part of the answer, once the caller has read what was sent before."""
        exchange = self._exchange
        if exchange.is_gone:
            return
        if message["type"] == "http.response.start":
            exchange.start(message["status"], _checked(message.get("headers", ())))
            return
        if message["type"] != "http.response.body" or not exchange.is_started:
            raise RuntimeError(f"{message['type']!r} was sent out of turn")
        if exchange.is_answered:
            raise RuntimeError("the answer is complete")
        data = message.get("body", b"")
        for at in range(0, len(data), PIECE):
            await self._until_read()
            exchange.write(data[at : at + PIECE])
        if message.get("more_body", False):
            await self._until_read()
        elif not exchange.is_gone:
            exchange.end()

    async def _until_read(self) -> None:
        while self._exchange.is_congested and not self._exchange.is_gone:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _fail(self, kind: ProblemKind, detail: str) -> None:
        """Answer with a problem; where an answer has begun, let nobody take it for whole."""
        exchange = self._exchange
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
