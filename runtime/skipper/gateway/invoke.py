"""``POST /v1/functions/{name}/invoke``: calls over REST. Plain ASGI; the body stays bytes."""

from __future__ import annotations

import asyncio
import logging

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skipper import problems
from skipper.errors import UnavailableError
from skipper.failpoints import failpoint
from skipper.gateway import prefer, request_ids
from skipper.gateway.answers import (
    Headers,
    answer_of_task,
    problem_response,
    served_headers,
    task_response,
)
from skipper.gateway.browsers import NO_GUESSES, for_browsers
from skipper.gateway.calls import NO_PREFERENCES, Invocation, Preferences
from skipper.gateway.context import Context
from skipper.gateway.item_stream import ItemStream
from skipper.gateway.links import link
from skipper.gateway.problems import Problem
from skipper.gateway.stream import EVENTS, send_items, stream_type
from skipper.gateway.task_stream import life_of_task
from skipper.spec import Mode
from skipper.wire.link import PendingCall

log = logging.getLogger(__name__)

_JSON = b"application/json"
_TERMS = {name.lower().encode(): name for name in prefer.TERMS}


class CallRequest:
    """The headers that matter to a call, read in one pass, and when they had come."""

    __slots__ = (
        "accept",
        "content_type",
        "idempotency_key",
        "is_answered",
        "is_encoded",
        "length",
        "prefer",
        "received",
        "request_id",
        "terms",
    )

    def __init__(self, headers: Headers, received: float) -> None:
        self.received = received
        self.content_type = self.accept = self.prefer = self.idempotency_key = b""
        self.request_id = ""
        self.terms: dict[str, str] | None = None
        self.length = 0
        self.is_encoded = self.is_answered = False
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                self.length = int(value) if value.isdigit() else 0
            elif name == b"accept":
                self.accept = value
            elif name == b"prefer":
                self.prefer = value
            elif name == b"content-encoding":
                self.is_encoded = value.lower() != b"identity"
            elif name == b"idempotency-key":
                self.idempotency_key = value
            elif name == request_ids.HEADER:
                self.request_id = request_ids.accepted(value)
            elif name in _TERMS:
                self.terms = (self.terms or {}) | {_TERMS[name]: value.decode("latin-1")}
        self.request_id = self.request_id or request_ids.new_id()

    def preferences(self) -> Preferences:
        """How the caller wants its answer. Raises a problem for what cannot be understood."""
        preferences = prefer.parse(self.prefer.decode("latin-1")) if self.prefer else NO_PREFERENCES
        if self.terms is None:
            return preferences
        try:
            return prefer.with_terms(preferences, self.terms)
        except ValueError as error:
            raise Problem(problems.BAD_REQUEST, str(error)) from None

    def key(self) -> str | None:
        """The Idempotency-Key, if there is one. Raises a problem for one that is none."""
        if not self.idempotency_key:
            return None
        key = prefer.idempotency_key(self.idempotency_key.decode("latin-1"))
        if key is None:
            detail = "Idempotency-Key is 1 to 255 visible ASCII characters"
            raise Problem(problems.BAD_REQUEST, detail)
        return key


class Invoke:
    """The endpoint."""

    def __init__(self, context: Context) -> None:
        self._context, self._calls, self._max_body = context, context.calls, context.max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = CallRequest(scope["headers"], asyncio.get_running_loop().time())
        try:
            await self._answer(request, scope, receive, send)
            return
        except _GoneError:
            return
        except Problem as problem:
            response = problem_response(problem)
        except UnavailableError as error:
            response = problem_response(Problem(problems.UNAVAILABLE, str(error)))
        except asyncio.CancelledError:  # the server shuts down, and its grace is at an end
            if request.is_answered:
                raise
            detail = "the gateway shuts down"
            response = problem_response(Problem(problems.UNAVAILABLE, detail))
        except Exception:
            log.exception("a call failed in the gateway", extra={"request": request.request_id})
            detail = "the gateway's log tells more"
            response = problem_response(Problem(problems.INTERNAL, detail))
        response.headers["X-Request-Id"] = request.request_id
        await response(scope, receive, for_browsers(send))

    async def _answer(
        self, request: CallRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        name: str = scope["path_params"]["name"]
        # Before the body is received: it may be large, and its caller may take its time.
        spec = self._calls.known(name) or await self._calls.find(name)
        preferences = request.preferences()
        call = Invocation(
            name,
            await _read_body(request, receive, self._max_body),
            request.request_id,
            request.received,
            scope.get("state", {}).get("let_go", _nothing),
        )
        if spec.mode is Mode.TASK or preferences.wants_task:
            response = await self._as_task(call, request, preferences)
            request.is_answered = True
            await response(scope, receive, for_browsers(send))
        elif spec.streams and (kind := stream_type(request.accept)):
            stream = await self._calls.stream(call)
            request.is_answered = True
            await _stream(stream, kind, request, receive, send)
        else:
            await self._directly(call, request, receive, send)

    async def _directly(
        self, call: Invocation, request: CallRequest, receive: Receive, send: Send
    ) -> None:
        """Answer with the value; with nothing where the caller leaves before it comes."""
        watch: asyncio.Task[None] | None = None

        def start_watching(pending: PendingCall) -> None:
            nonlocal watch
            watch = asyncio.ensure_future(_until_gone(receive, pending))

        try:
            served, value = await self._calls.direct(call, start_watching)
        except asyncio.CancelledError:
            if watch is not None and watch.done():
                return
            raise
        finally:
            if watch is not None:
                watch.cancel()
        request.is_answered = True
        headers = [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(value)),
            (b"x-request-id", call.request_id.encode()),
            NO_GUESSES,
            *served_headers(served),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": value})

    async def _as_task(
        self, call: Invocation, request: CallRequest, preferences: Preferences
    ) -> Response:
        """Accept a task: 202, or with its result if the caller waits and it ends in time.

        Who accepts events instead gets the task's life as it goes on.
        """
        accepted = await self._calls.accept(call, preferences, request.key())
        task = accepted.task
        if not preferences.wants_task and stream_type(request.accept) == EVENTS:
            response, chosen_by = await life_of_task(self._context, task.id), "Accept"
        else:
            chosen_by = "Prefer"
            if accepted.result is not None:
                response = await answer_of_task(self._context, accepted.result)
            else:
                checked = accepted.is_checked
                response = await task_response(self._context, task, 202, checked=checked)
            if applied := prefer.applied(preferences):
                response.headers["Preference-Applied"] = applied
        response.headers["Location"] = link(f"/v1/tasks/{task.id}")
        response.headers["X-Request-Id"] = request.request_id
        response.headers["Vary"] = chosen_by
        failpoint("gateway.answering")
        return response


async def _stream(
    stream: ItemStream, kind: bytes, request: CallRequest, receive: Receive, send: Send
) -> None:
    """Send a stream's items until it ends or the caller leaves."""
    watch = asyncio.ensure_future(_until_gone(receive, stream))
    try:
        headers = [(b"x-request-id", request.request_id.encode())]
        await send_items(stream, kind, headers, for_browsers(send))
    finally:
        watch.cancel()
        stream.give_up()


async def _until_gone(receive: Receive, call: PendingCall | ItemStream) -> None:
    """Give the call up when its caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.give_up()


class _GoneError(Exception):
    """The caller left before its request was complete."""


async def _read_body(request: CallRequest, receive: Receive, limit: int) -> bytes:
    """The body. Raises a problem for a wrong type and for too many bytes, before they come."""
    if request.length > limit:
        raise _too_large(limit)
    if request.is_encoded:
        raise Problem(problems.MEDIA, "send the body as it is, without Content-Encoding")
    if request.length:
        _check_type(request)
    message = await receive()
    body: bytes = message.get("body", b"")
    if body:
        _check_type(request)
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body") and size <= limit:
            message = await receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise _GoneError
    if len(body) > limit:
        raise _too_large(limit)
    if body:
        _check_type(request)
    return body


def _check_type(request: CallRequest) -> None:
    if request.content_type.partition(b";")[0].strip().lower() != _JSON:
        raise Problem(problems.MEDIA, "send the body with Content-Type: application/json")


def _nothing() -> None:
    """What a scope that has nothing to let go of does."""


def _too_large(limit: int) -> Problem:
    detail = f"at most {limit} bytes are accepted (gateway.max_body_mb)"
    return Problem(problems.TOO_LARGE, detail)
