"""``POST /v1/functions/{name}/invoke``: calls over REST. The body stays bytes."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from starlette.responses import Response
from starlette.types import Receive

from skipper import problems
from skipper.failpoints import failpoint
from skipper.gateway import links, prefer
from skipper.gateway.answers import (
    answer_of_task,
    failures_answered,
    json_part,
    problem_response,
    respond,
    served_headers,
    task_response,
)
from skipper.gateway.browsers import NO_GUESSES, for_browsers
from skipper.gateway.call_request import CallRequest
from skipper.gateway.calls import Callee, Invocation, Preferences
from skipper.gateway.contents import WantedContent
from skipper.gateway.context import Context
from skipper.gateway.http import asgi
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.inputs import BodyHead
from skipper.gateway.item_stream import ItemStream
from skipper.gateway.parts import answer_part, answering, keeping, sole_part
from skipper.gateway.problems import Problem
from skipper.gateway.reception import BodyLimit
from skipper.gateway.stream import EVENTS, send_items, stream_type
from skipper.gateway.task_stream import life_of_task
from skipper.spec import FunctionSpec, Mode
from skipper.values.envelope import MARK, Part, spooled_in, with_accept
from skipper.wire.frames import MAX_FRAME
from skipper.wire.link import PendingCall

log = logging.getLogger(__name__)

MOST_JSON = MAX_FRAME // 4
"""Of JSON, whatever a function lets in: it is one frame, which all others wait for."""
_JSON = b"application/json"
_VALUE = ((b"content-type", _JSON), NO_GUESSES)


class Invoke:
    """Answers calls."""

    def __init__(self, context: Context) -> None:
        self._context, self._calls = context, context.calls
        setting = "gateway.max_body_mb, or max_input= of the function"
        self._max_json = BodyLimit(context.max_body, setting)

    def begin(self, name: str, exchange: Exchange, prefix: str = "") -> None:
        """Answer the call of a function; links in the answer begin with ``prefix``.

        A plain call of a function that is there needs no task: it is sent on as soon as it is
        whole, and what its host replies is written to its caller as it comes.
        """
        request, body = CallRequest(exchange), exchange.body
        found = self._calls.reachable(name)
        if found is None or body.is_large or not request.is_simple(found[0]):
            exchange.run(self._answer(name, request, exchange, prefix))
        elif body.is_whole:
            self._send(found, name, request, exchange)
        else:
            exchange.on_change = partial(self._begin_again, name, exchange, prefix)
            exchange.want_body()

    def _begin_again(self, name: str, exchange: Exchange, prefix: str) -> None:
        """A small body has come on: once it is whole, the function may have gone."""
        if exchange.body.is_whole and not exchange.is_gone:
            exchange.on_change = None
            self.begin(name, exchange, prefix)

    def _send(self, found: Callee, name: str, request: CallRequest, exchange: Exchange) -> None:
        spec = found[0]
        try:
            body = _checked(exchange.take_body(), request, self._limit(spec))
            if spec.has_values and b"file-" in body:  # it may name files, to be looked up
                exchange.run(self._answer(name, request, exchange, body=body))
                return
            call = _invocation(name, body, exchange, request.sticky_key())
            self._forwarded(call, exchange, request).send(found)
        except Problem as problem:
            respond(exchange, problem_response(problem))

    def _forwarded(
        self, call: Invocation, exchange: Exchange, request: CallRequest
    ) -> ForwardedCall:
        return ForwardedCall(self._context, call, exchange, request)

    async def _answer(
        self,
        name: str,
        request: CallRequest,
        exchange: Exchange,
        prefix: str = "",
        *,
        body: bytes | None = None,
    ) -> None:
        """Answer a call that has to wait for something before it can be sent on.

        Of one whose body has been taken already, ``body`` is that.
        """
        links.below(prefix)
        view = asgi.AsgiView(exchange)
        with failures_answered(view, "a call"):
            await self._go_through(name, request, view, body)

    async def _go_through(
        self, name: str, request: CallRequest, view: asgi.AsgiView, body: bytes | None
    ) -> None:
        exchange = view.exchange
        # Before the body is received: it may be large, and its caller may take its time.
        spec = self._calls.known(name) or await self._calls.find(name)
        preferences, sticky = request.preferences(), request.sticky_key()
        is_task = spec.mode is Mode.TASK or preferences.wants_task
        accept = request.accepted(spec, as_task=is_task)
        if body is None:
            body = await self._received(spec, request, view)
        try:
            body = await self._context.files.resolve(body) if spec.has_values else body
            if accept:
                body = with_accept(body, accept)
        except BaseException:
            self._discard(body)
            raise
        # Nothing here keeps the body, because a task's caller may wait for long after it is stored.
        call, body = _invocation(name, body, exchange, sticky), b""
        if is_task:
            await self._answer_task(call, request, preferences, view)
        elif spec.streams and (kind := stream_type(request.accept)):
            await self._answer_stream(call, kind, view)
        else:
            await self._answer_directly(call, request, view, is_minimal=preferences.is_minimal)

    def _limit(self, spec: FunctionSpec) -> BodyLimit:
        """How many bytes of JSON a body may have. It is held, and goes to its host in one piece."""
        if spec.max_input is None:
            return self._max_json
        if spec.max_input > MOST_JSON:
            return BodyLimit(MOST_JSON, "of JSON: send a form, a raw body, or the id of a file")
        return BodyLimit(spec.max_input, f"max_input= of {spec.name}")

    async def _received(
        self, spec: FunctionSpec, request: CallRequest, view: asgi.AsgiView
    ) -> bytes:
        """The body: JSON, or the envelope of any other. Raises Problem."""
        if request.is_json or request.is_encoded:
            limit = self._limit(spec)
            view.largest = limit.size
            return await _read_body(request, view, limit)
        inputs, head = self._context.inputs, view.exchange.head
        inputs.limit(spec).check(head.length)
        said = BodyHead(request.content_type.decode("latin-1"), head.query)
        return await inputs.received(spec, said, view.pieces(), view.exchange.reserve)

    def _discard(self, body: bytes) -> None:
        """Forget what lies in the spool of a body that goes nowhere."""
        self._context.values.spool.remove(spooled_in(body))

    async def _answer_directly(
        self, call: Invocation, request: CallRequest, view: asgi.AsgiView, *, is_minimal: bool
    ) -> None:
        try:
            found = await self._calls.reach(call)
            forwarded = self._forwarded(call, view.exchange, request)
            forwarded.is_minimal = is_minimal
            forwarded.send(found)
        except BaseException:
            self._discard(call.body)
            raise

    async def _answer_stream(self, call: Invocation, kind: bytes, view: asgi.AsgiView) -> None:
        spooled = spooled_in(call.body)
        try:
            await _stream(await self._calls.stream(call), kind, view)
        finally:
            self._context.values.spool.remove(spooled)

    async def _answer_task(
        self,
        call: Invocation,
        request: CallRequest,
        preferences: Preferences,
        view: asgi.AsgiView,
    ) -> None:
        spooled = spooled_in(call.body)
        try:
            response = await self._as_task(call, request, preferences)
        finally:  # what has been stored is there no more
            self._context.values.spool.remove(spooled)
        await view.answered_by(answering(response))

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
                wanted = WantedContent(request.accept.decode("latin-1"))
                response = await answer_of_task(
                    self._context, accepted.result, wanted, is_minimal=preferences.is_minimal
                )
            else:
                checked = accepted.is_checked
                response = await task_response(self._context, task, 202, checked=checked)
            if applied := prefer.applied(preferences):
                if minimal := response.headers.get("Preference-Applied"):
                    applied = f"{applied}, {minimal}"
                response.headers["Preference-Applied"] = applied
        response.headers["Location"] = links.link(f"/v1/tasks/{task.id}")
        response.headers["Vary"] = chosen_by
        failpoint("gateway.answering")
        return response


class ForwardedCall:
    """A call on its way, and its exchange: whichever ends first ends the other."""

    __slots__ = (
        "_call",
        "_context",
        "_exchange",
        "_pending",
        "_request",
        "_spooled",
        "is_minimal",
    )

    def __init__(
        self, context: Context, call: Invocation, exchange: Exchange, request: CallRequest
    ) -> None:
        self._context, self._call, self._exchange = context, call, exchange
        self._request = request
        self._pending: PendingCall | None = None
        self.is_minimal = False
        """Whether the value is to be kept as a file, which is answered in its place."""
        self._spooled = spooled_in(call.body) if call.body[:1] == MARK else ()

    def send(self, found: Callee) -> None:
        """Send the call on. Raises Problem where that cannot be."""
        exchange = self._exchange
        if exchange.is_gone:
            self._context.values.spool.remove(self._spooled)
            return
        self._pending = self._context.calls.send(found, self._call)
        exchange.on_change = self._changed
        self._pending.when_over(self._replied)

    def _changed(self) -> None:
        """Give the call up where its caller has left, or the server shuts down."""
        exchange, pending = self._exchange, self._pending
        if pending is not None and (exchange.is_gone or exchange.is_answered):
            pending.give_up()

    def _replied(self, payload: bytes | None) -> None:
        exchange = self._exchange
        exchange.on_change = None
        if self._spooled:
            self._context.values.spool.remove(self._spooled)
        if payload is None:
            return
        try:
            served, value = self._context.calls.value(self._call, payload)
            if value[:1] == MARK:
                values, accept = self._context.values, self._request.accept.decode("latin-1")
                self._answer_part(sole_part(value, accept, values), served)
                return
            if self.is_minimal:
                self._answer_part(json_part(value), served)
                return
            exchange.respond(200, [*_VALUE, *served_headers(served)], value)
        except Problem as problem:
            respond(exchange, problem_response(problem))
        except Exception:
            log.exception("a call failed in the gateway", extra={"request": exchange.request_id})
            exchange.break_off()

    def _answer_part(self, part: Part, served: bytes) -> None:
        if self.is_minimal:
            asgi.answer(keeping(self._context, part, served), self._exchange)
        else:
            answer_part(self._exchange, part, self._context.values, served)


async def _stream(stream: ItemStream, kind: bytes, view: asgi.AsgiView) -> None:
    """Send a stream's items until it ends or the caller leaves."""
    watch = asyncio.ensure_future(_until_gone(view.receive, stream))
    try:
        await send_items(stream, kind, [], for_browsers(view.send))
    finally:
        watch.cancel()
        stream.give_up()


async def _until_gone(receive: Receive, stream: ItemStream) -> None:
    """Give the stream up when its caller leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.give_up()


async def _read_body(request: CallRequest, view: asgi.AsgiView, limit: BodyLimit) -> bytes:
    """The body. Raises a problem for a wrong type and for too many bytes, before they come."""
    length = view.exchange.head.length
    limit.check(length)
    if length or request.is_encoded:
        _check_type(request)
    message = await view.receive()
    body: bytes = message.get("body", b"")
    if body:
        _check_type(request)
    if message.get("more_body"):
        parts, size = [body], len(body)
        while message.get("more_body") and size <= limit.size:
            message = await view.receive()
            parts.append(message.get("body", b""))
            size += len(parts[-1])
        body = b"".join(parts)
    if message["type"] == "http.disconnect":
        raise asgi.GoneError
    return _checked(body, request, limit)


def _checked(body: bytes, request: CallRequest, limit: BodyLimit) -> bytes:
    """The body, if it may be one. Raises Problem."""
    limit.check(len(body))
    if body or request.is_encoded:
        _check_type(request)
    if body[:1] == MARK:  # which the runtime alone makes: it names what lies elsewhere
        raise Problem(problems.MALFORMED, "the body is not JSON: it begins with a zero byte")
    return body


def _check_type(request: CallRequest) -> None:
    if request.is_encoded:
        raise Problem(problems.MEDIA, "send the body as it is, without Content-Encoding")
    if _JSON not in (request.content_type, request.media_type):
        raise Problem(problems.MEDIA, "send the body with Content-Type: application/json")


def _invocation(name: str, body: bytes, exchange: Exchange, sticky: str) -> Invocation:
    return Invocation(
        name,
        body,
        exchange.request_id,
        exchange.received,
        exchange.let_go,
        key=sticky or exchange.key,
    )
