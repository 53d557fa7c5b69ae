"""The audit around an ASGI application: outermost, so that it sees how every request ends."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skipper.gateway.access.door import Admission
from skipper.gateway.access.pages import READING
from skipper.gateway.audit import MAX_PATH, Audit, Request, function_of
from skipper.gateway.proxies import Proxies
from skipper.gateway.request_ids import HEADER

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

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
        answer = _Answer(send, functools.partial(self._tell, scope))
        try:
            await self._app(scope, receive, answer)
        finally:
            if not answer.has_begun:
                self._tell(scope, 0, ())

    def _tell(self, scope: Scope, status: int, headers: Headers) -> None:
        """Tell of a request once it is known how it ends: at the beginning of its answer."""
        admission: Admission = scope.get("admission", _UNJUDGED)
        reason = admission.reason.value if admission.reason else ""
        if scope["method"] in READING and not reason:
            return
        given = dict(headers)
        task = given.get(b"location", b"").rpartition(b"/")[2].decode()
        is_call = function_of(scope["path"]) != ""
        if is_call and not (self._audit.has_calls or reason or task):
            return
        request = Request(
            client=self._proxies.client(scope),
            key=admission.key,
            method=scope["method"],
            path=scope["path"][:MAX_PATH],
            status=status,
            reason=reason,
            at=time.time(),
            request_id=given.get(HEADER, b"").decode() or scope["state"]["request_id"],
            task=task,
        )
        if reason or (not is_call and status >= 400):
            self._audit.refused(request)
        else:
            self._audit.record(request)


class _Answer:
    """A ``send`` that tells how an answer begins."""

    __slots__ = ("_send", "_tell", "has_begun")

    def __init__(self, send: Send, tell: Callable[[int, Headers], None]) -> None:
        self._send, self._tell = send, tell
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            self._tell(message["status"], message.get("headers", ()))
        await self._send(message)
