"""The audit around an ASGI application: outermost, so that it sees how every request ends."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skipper.gateway.access.door import Admission
from skipper.gateway.access.pages import READING
from skipper.gateway.audit import MAX_PATH, Audit, Request, function_of
from skipper.gateway.proxies import Proxies
from skipper.gateway.request_ids import HEADER

_UNJUDGED = Admission()
"""Stands for the decision about a request whose judging has failed."""


class Audited:
    """Has ``app`` answer, and tells the audit of what changed something or was refused."""

    def __init__(self, app: ASGIApp, audit: Audit, proxies: Proxies) -> None:
        self._app, self._audit, self._proxies = app, audit, proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, scope["state"]["request_id"])
        try:
            await self._app(scope, receive, answer)
        finally:
            self._tell(scope, answer)

    def _tell(self, scope: Scope, answer: _Answer) -> None:
        admission: Admission = scope.get("admission", _UNJUDGED)
        reason = admission.reason.value if admission.reason else ""
        if scope["method"] in READING and not reason:
            return
        path = scope["path"]
        is_call = function_of(path) != ""
        if is_call and not (self._audit.has_calls or reason or answer.task):
            return
        request = Request(
            client=self._proxies.client(scope),
            key=admission.key,
            method=scope["method"],
            path=path[:MAX_PATH],
            status=answer.status,
            reason=reason,
            at=time.time(),
            request_id=answer.request_id,
            task=answer.task,
        )
        if reason or (not is_call and answer.status >= 400):
            self._audit.refused(request)
        else:
            self._audit.record(request)


class _Answer:
    """A ``send`` that remembers what is told of an answer."""

    __slots__ = ("_send", "request_id", "status", "task")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self.request_id = send, request_id
        self.status, self.task = 0, ""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            for name, value in message["headers"]:
                if name == HEADER:
                    self.request_id = value.decode()
                elif name == b"location":
                    self.task = value.rpartition(b"/")[2].decode()
        await self._send(message)
