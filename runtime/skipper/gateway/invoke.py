"""``POST /v1/functions/{name}/invoke``: the hot path. A plain ASGI endpoint; the body stays bytes."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from skipper import wire
from skipper.directory import Link, Waiting
from skipper.errors import SkipperError, UnavailableError
from skipper.gateway import prefer, problems
from skipper.gateway.core import Core, sse
from skipper.gateway.prefer import Preferences
from skipper.gateway.problems import Problem
from skipper.gateway.tasks import answer_of_task, task_response
from skipper.intake import Submission
from skipper.spec import DIRECT_TIMEOUT_S, FunctionSpec, Mode
from skipper.task import Outcome
from skipper.wire import CallHead

PATIENCE_S = 30.0
"""How long a call waits for a function whose file is still being read."""
CHECK_S = 5.0
"""How long a task's acceptance waits for its input to be looked at."""
WATCH_AFTER_S = 0.1
"""A call that lasts longer than this is given up when its caller leaves."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_JSON = b"application/json"

Headers = list[tuple[bytes, bytes]]


class Request:
    """The headers that matter to a call, read in one pass."""

    __slots__ = (
        "accept",
        "content_type",
        "idempotency_key",
        "is_encoded",
        "length",
        "prefer",
        "request_id",
    )

    def __init__(self, headers: Headers) -> None:
        self.content_type = self.accept = self.prefer = self.idempotency_key = b""
        self.request_id = ""
        self.length = 0
        self.is_encoded = False
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
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.request_id = value.decode()
        if not self.request_id:
            self.request_id = secrets.token_hex(8)


class Invoke:
    """The endpoint."""

    def __init__(self, core: Callable[[], Core]) -> None:
        self._core = core
        self._served: dict[bytes, Headers] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        core = self._core()
        request = Request(scope["headers"])
        try:
            await self._answer(core, request, scope, receive, send)
        except Problem as problem:
            response = problem.response()
            response.headers["X-Request-Id"] = request.request_id
            await response(scope, receive, send)
        except UnavailableError as error:
            await Problem(problems.UNAVAILABLE, str(error)).response()(scope, receive, send)
        except _GoneError:
            return

    async def _answer(
        self, core: Core, request: Request, scope: Scope, receive: Receive, send: Send
    ) -> None:
        name: str = scope["path_params"]["name"]
        body = await _read_body(request, receive, core.max_body)
        spec, link = core.directory.get(name) or await self._find(core, name)
        wishes = prefer.parse(request.prefer.decode("latin-1")) if request.prefer else prefer.NONE
        if spec.mode is Mode.TASK or wishes.wants_task:
            await self._check(spec, link, body, request)
            await self._as_task(core, spec, body, request, wishes, scope, receive, send)
        elif spec.streams and (kind := _stream_type(request.accept)):
            await _Stream(kind).run(
                self._call(spec, link, body, request, wire.STREAM), receive, send, self
            )
        else:
            waiting = self._call(spec, link, body, request, 0)
            payload = await _reply(waiting, receive)
            if payload is not None:
                await self._send(core, payload, request, spec, send)

    async def _find(self, core: Core, name: str) -> tuple[FunctionSpec, Link]:
        found = await core.directory.find(name, PATIENCE_S)
        if found is not None:
            return found
        if (broken := core.directory.broken_for(name)) is not None:
            where = f"{broken.file}:{broken.line}" if broken.line else broken.file
            raise Problem(problems.BROKEN, f"{where}: {broken.error}", {"function": name})
        known = [item["name"] for item in core.directory.described()]
        raise Problem(
            problems.UNKNOWN_FUNCTION, f"there is no function {name!r}", {"functions": known[:100]}
        )

    def _call(
        self, spec: FunctionSpec, link: Link, body: bytes, request: Request, flags: int
    ) -> _Sent:
        seconds = spec.timeout_s or DIRECT_TIMEOUT_S
        head = CallHead(int(seconds * 1000), flags, 0, spec.name, request.request_id)
        deadline = asyncio.get_running_loop().time() + seconds
        items: asyncio.Queue[bytes | None] | None = asyncio.Queue() if flags else None
        waiting = link.call(
            wire.call_head(head) + body, deadline, items.put_nowait if items else None
        )
        return _Sent(waiting, items, request)

    async def _check(self, spec: FunctionSpec, link: Link, body: bytes, request: Request) -> None:
        """Have the function's own instance look at a task's input. Raises a problem where it does not match.

        Where no instance can look at it in time the task is accepted: then its run will tell.
        """
        head = CallHead(int(CHECK_S * 1000), wire.CHECK, 0, spec.name, request.request_id)
        try:
            deadline = asyncio.get_running_loop().time() + CHECK_S
            payload = await link.call(wire.call_head(head) + body, deadline).reply
        except UnavailableError:
            return
        outcome, _, told = wire.parse_reply(payload)
        if outcome in (Outcome.INVALID, Outcome.MALFORMED):
            raise problems.from_outcome(outcome, told, with_traceback=False, function=spec.name)

    async def _send(
        self, core: Core, payload: bytes, request: Request, spec: FunctionSpec, send: Send
    ) -> None:
        outcome, served, body = wire.parse_reply(payload)
        headers = [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request.request_id.encode()),
            *self.served(served),
        ]
        if outcome != Outcome.OK:
            problem = problems.from_outcome(
                outcome,
                body,
                with_traceback=core.shows_tracebacks,
                function=spec.name,
                request_id=request.request_id,
            )
            response = problem.response()
            body = bytes(response.body)
            headers = [*response.raw_headers, *headers[2:]]
            await send(
                {"type": "http.response.start", "status": response.status_code, "headers": headers}
            )
        else:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def served(self, served: bytes) -> Headers:
        """The headers that name the code and the models of a reply."""
        headers = self._served.get(served)
        if headers is None:
            code, _, models = served.partition(b" ")
            headers = [(b"x-skipper-code", code)] if code else []
            if models:
                headers.append((b"x-skipper-model", models.replace(b" ", b", ")))
            if len(self._served) > 1000:
                self._served.clear()
            self._served[served] = headers
        return headers

    async def _as_task(
        self,
        core: Core,
        spec: FunctionSpec,
        body: bytes,
        request: Request,
        wishes: Preferences,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Accept a task; answer 202, or with its result if the caller waits and it ends in time."""
        key = None
        if request.idempotency_key:
            key = prefer.idempotency_key(request.idempotency_key.decode("latin-1"))
            if key is None:
                raise Problem(
                    problems.BAD_REQUEST, "Idempotency-Key is 1 to 255 visible ASCII characters"
                )
        submission = Submission(
            spec=spec, body=body, request_id=request.request_id, idempotency_key=key
        )
        try:
            accepted = await core.intake.accept(submission)
        except SkipperError as error:
            raise Problem(problems.UNAVAILABLE, f"the task was not accepted: {error}") from None
        if not accepted.matches:
            raise Problem(
                problems.KEY_REUSED,
                "this Idempotency-Key came with another function or body before",
            )
        extra = {
            "Location": f"/v1/tasks/{accepted.id}",
            "X-Request-Id": request.request_id,
            "Vary": "Prefer",
        }
        if wishes.wants_task:
            extra["Preference-Applied"] = wishes.applied
        if wishes.wait_s is not None:
            result = await core.wait_for_end(accepted.id, wishes.wait_s)
            if result.task.state.is_terminal:
                response = await answer_of_task(core, result)
                response.headers.update(extra)
                await response(scope, receive, send)
                return
        response = await task_response(core, await core.task(accepted.id), status=202)
        response.headers.update(extra)
        await response(scope, receive, send)


class _Sent:
    """A call that is on its way."""

    def __init__(
        self, waiting: Waiting, items: asyncio.Queue[bytes | None] | None, request: Request
    ) -> None:
        self.waiting, self.items, self.request = waiting, items, request
        if items is not None:
            waiting.reply.add_done_callback(lambda _: items.put_nowait(None))

    def give_up(self) -> None:
        """Nobody wants the answer any more."""
        self.waiting.link.cancel(self.waiting)
        self.waiting.reply.cancel()


async def _reply(sent: _Sent, receive: Receive) -> bytes | None:
    """The reply, or None where the caller left before it came."""
    reply = sent.waiting.reply
    watch: asyncio.Task[None] | None = None

    def start_watching() -> None:
        nonlocal watch
        watch = asyncio.ensure_future(_until_gone(receive, sent))

    alarm = asyncio.get_running_loop().call_later(WATCH_AFTER_S, start_watching)
    try:
        return await reply
    except asyncio.CancelledError:
        sent.give_up()
        if watch is not None and watch.done():
            return None
        raise
    finally:
        alarm.cancel()
        if watch is not None:
            watch.cancel()


async def _until_gone(receive: Receive, sent: _Sent) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    sent.give_up()


class _GoneError(Exception):
    """The caller left before its request was complete."""


async def _read_body(request: Request, receive: Receive, limit: int) -> bytes:
    """The body. Raises a problem for a wrong type and for too many bytes."""
    if request.length > limit:
        raise _too_large(limit)
    message = await receive()
    body: bytes = message.get("body", b"")
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
    if body and request.content_type.partition(b";")[0].strip().lower() != _JSON:
        raise Problem(problems.MEDIA, "send the body with Content-Type: application/json")
    if request.is_encoded:
        raise Problem(problems.MEDIA, "send the body as it is, without Content-Encoding")
    return body


def _too_large(limit: int) -> Problem:
    detail = f"at most {limit} bytes are accepted (gateway.max_body_mb)"
    return Problem(problems.TOO_LARGE, detail)


def _stream_type(accept: bytes) -> bytes:
    """Which kind of stream the caller accepts; empty for none."""
    for kind in (b"text/event-stream", b"application/jsonl", b"application/x-ndjson"):
        if kind in accept:
            return kind
    return b""


class _Stream:
    """Sends a generator's items as they come: server-sent events, or JSON lines."""

    def __init__(self, kind: bytes) -> None:
        self._kind = kind
        self._is_sse = kind == b"text/event-stream"

    async def run(self, sent: _Sent, receive: Receive, send: Send, invoke: Invoke) -> None:
        headers = [
            (b"content-type", self._kind),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", sent.request.request_id.encode()),
        ]
        watch = asyncio.ensure_future(_until_gone(receive, sent))
        try:
            assert sent.items is not None
            item = await sent.items.get()
            if item is None:
                headers += self._served(sent, invoke)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            while item is not None:
                await send(
                    {"type": "http.response.body", "body": self._item(item), "more_body": True}
                )
                item = await sent.items.get()
            await send({"type": "http.response.body", "body": self._end(sent)})
        finally:
            watch.cancel()
            sent.give_up()

    def _served(self, sent: _Sent, invoke: Invoke) -> Headers:
        reply = sent.waiting.reply
        return invoke.served(wire.parse_reply(reply.result())[1]) if not reply.cancelled() else []

    def _item(self, item: bytes) -> bytes:
        return sse("item", item) if self._is_sse else item + b"\n"

    def _end(self, sent: _Sent) -> bytes:
        """How the stream closes: ``done``, or the problem that ended it."""
        if sent.waiting.reply.cancelled():
            return b""
        outcome, _, body = wire.parse_reply(sent.waiting.reply.result())
        if outcome == Outcome.OK:
            return sse("done", b"{}") if self._is_sse else b""
        document = problems.from_outcome(outcome, body, with_traceback=False).document()
        return (
            sse("error", document)
            if self._is_sse
            else json.dumps({"error": document}).encode() + b"\n"
        )
