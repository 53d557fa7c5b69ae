"""Asks an application, or whatever else answers requests, without a server."""

import asyncio
import json
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message

from skipper.gateway.http.connection import Service
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.http.peer import HttpPeer
from tests.unit.gateway.http.line import Caller

LIMIT_S = 20.0
CLIENT, SERVER = ("127.0.0.1", 40000), ("127.0.0.1", 8000)


class Answer(NamedTuple):
    """A response as it went out."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def request(
    app: ASGIApp | Service,
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes = b"",
    **scope: Any,
) -> Answer:
    """One request and all of its response; ``scope`` of an application, ``peer`` of a service."""
    pairs = list(headers.items()) if isinstance(headers, dict) else headers or []
    if not callable(app):
        peer = scope.get("peer") or HttpPeer(scope.get("client", CLIENT), SERVER)
        return await _served(app, _written(method, path, pairs, body), peer)
    pending: list[Message] = [{"type": "http.request", "body": body}]
    sent: list[Message] = []

    async def receive() -> Message:
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    peer = scope.pop("peer", None) or HttpPeer(CLIENT, SERVER)
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]
    await app(
        {"type": "http", "method": method, "path": path, "headers": raw, "query_string": b""}
        | {"scheme": "http", "client": CLIENT, "server": SERVER, "state": {"peer": peer}}
        | scope,
        receive,
        send,
    )
    start = sent[0]
    received = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], received, b"".join(part.get("body", b"") for part in sent[1:]))


class _Watched:
    """A service of which it can be told when it has answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.exchange: Exchange | None = None

    def begin(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._service.begin(exchange)

    @property
    def is_done(self) -> bool:
        exchange = self.exchange
        return exchange is None or exchange.is_answered or exchange.is_gone


async def _served(service: Service, request: bytes, peer: HttpPeer) -> Answer:
    watched = _Watched(service)
    caller = Caller(watched)
    caller.connection.peer = peer
    caller.send(request)
    async with asyncio.timeout(LIMIT_S):
        while not watched.is_done:  # noqa: ASYNC110 - some of it is done by threads
            await asyncio.sleep(0.001)
    answer = caller.answer(request.partition(b" ")[0].decode())
    return Answer(answer.status, answer.headers, answer.body)


def _written(method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> bytes:
    """A request as clients write it; without Host, as old ones do."""
    version = "1.1" if any(name.lower() == "host" for name, _ in headers) else "1.0"
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
