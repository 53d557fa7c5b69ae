"""Speaks ASGI to an application, without a server."""

import json
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message

from skipper.gateway.http.peer import Peer

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
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes = b"",
    **scope: Any,
) -> Answer:
    """One request and all of its response."""
    pending: list[Message] = [{"type": "http.request", "body": body}]
    sent: list[Message] = []

    async def receive() -> Message:
        return pending.pop(0) if pending else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    peer = scope.pop("peer", None) or Peer(CLIENT, SERVER)
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
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
