"""The door before an ASGI application."""

from __future__ import annotations

from typing import NamedTuple

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skipper.gateway.access.door import Door
from skipper.gateway.access.pages import Headers
from skipper.gateway.answers import problem_response
from skipper.gateway.browsers import for_browsers


class Access:
    """Refuses what must not come in; everything else goes to ``app``.

    What was decided is the scope's ``admission``, for who writes it down.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._http(scope, receive, send)
        elif kind == "lifespan":
            await self._app(scope, receive, send)
        elif kind == "websocket":  # nothing here speaks it, and who tries has shown no key
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _Asked(scope["method"], scope["path"], scope["query_string"], scope["headers"])
        scope["admission"] = admission = self._door.admit(asked, scope["state"]["peer"])
        if admission.headers:
            send = _with_headers(send, admission.headers)
        if admission.problem is not None:
            await problem_response(admission.problem)(scope, receive, for_browsers(send))
        elif admission.is_answered:
            await Response(status_code=204)(scope, receive, for_browsers(send))
        else:
            await self._app(scope, receive, send)


class _Asked(NamedTuple):
    method: str
    path: str
    query: bytes
    headers: Headers


def _with_headers(send: Send, headers: Headers) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        await send(message)

    return send_with_headers
