"""``POST /v1/functions/{name}/invoke``: the hot path. Plain ASGI; the body stays bytes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from skipper import problems
from skipper.errors import SkipperError, UnavailableError
from skipper.failpoints import failpoint
from skipper.gateway import prefer, request_ids
from skipper.gateway.answers import answer_of_task, task_response
from skipper.gateway.context import Context
from skipper.gateway.prefer import Preferences
from skipper.gateway.problems import Problem, from_outcome
from skipper.gateway.sent import Sent, reply_to
from skipper.gateway.stream import EVENTS, ItemStream, stream_type
from skipper.gateway.task_stream import life_of_task
from skipper.outcomes import Outcome
from skipper.spec import DIRECT_TIMEOUT_S, FunctionSpec, Mode
from skipper.task import Task
from skipper.tasks.intake import Submission
from skipper.wire import calls
from skipper.wire.calls import CallHead
from skipper.wire.link import Link

log = logging.getLogger(__name__)

PATIENCE_S = 30.0
"""How long a call waits for a function whose file is still being read."""
REACH_S = 5.0
"""How long a call waits for a host that is being started again."""
CHECK_S = 1.0
"""How long a task's acceptance waits for its input to be looked at."""
_JSON = b"application/json"
_TERMS = {name.lower().encode(): name for name in prefer.TERMS}

Headers = list[tuple[bytes, bytes]]


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
        preferences = prefer.parse(self.prefer.decode("latin-1")) if self.prefer else prefer.NONE
        if self.terms is None:
            return preferences
        try:
            return prefer.with_terms(preferences, self.terms)
        except ValueError as error:
            raise Problem(problems.BAD_REQUEST, str(error)) from None

    def deadline(self, spec: FunctionSpec) -> float:
        """When a direct call must have been answered, on the loop's clock."""
        return self.received + (spec.timeout_s or DIRECT_TIMEOUT_S)


class Invoke:
    """The endpoint."""

    def __init__(self, context: Callable[[], Context]) -> None:
        self._context = context
        self._served: dict[bytes, Headers] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        context = self._context()
        request = CallRequest(scope["headers"], asyncio.get_running_loop().time())
        try:
            await self._answer(context, request, scope, receive, send)
            return
        except _GoneError:
            return
        except Problem as problem:
            response = problem.response()
        except UnavailableError as error:
            response = Problem(problems.UNAVAILABLE, str(error)).response()
        except asyncio.CancelledError:  # the server shuts down, and its patience is at an end
            if request.is_answered:
                raise
            response = Problem(problems.UNAVAILABLE, "the gateway shuts down").response()
        except Exception:
            log.exception("a call failed in the gateway", extra={"request": request.request_id})
            response = Problem(problems.INTERNAL, "the gateway's log tells more").response()
        response.headers["X-Request-Id"] = request.request_id
        await response(scope, receive, send)

    async def _answer(
        self, context: Context, request: CallRequest, scope: Scope, receive: Receive, send: Send
    ) -> None:
        name: str = scope["path_params"]["name"]
        body = await _read_body(request, receive, context.max_body)
        spec, link = context.directory.remembered(name) or await self._find(
            context, name, PATIENCE_S
        )
        preferences = request.preferences()
        if spec.mode is Mode.TASK or preferences.wants_task:
            await self._check(spec, link, body, request)
            response = await _as_task(context, spec, body, request, preferences)
            request.is_answered = True
            await response(scope, receive, send)
            return
        if not link.is_up:
            await link.until_up(min(REACH_S, _left_s(request, spec)))
        if (found := context.directory.get(name)) is None:
            found = await self._find(context, name, min(PATIENCE_S, _left_s(request, spec)))
        spec, link = found
        if spec.streams and (kind := stream_type(request.accept)):
            sent = self._call(spec, link, body, request, calls.STREAM)
            own = (b"x-request-id", request.request_id.encode())
            request.is_answered = True
            await ItemStream(kind).run(
                sent, lambda served: [own, *self.served(served)], receive, send
            )
        else:
            payload = await reply_to(self._call(spec, link, body, request, 0), receive)
            request.is_answered = True
            if payload is not None:
                await self._send(context, payload, request, spec, send)

    async def _find(
        self, context: Context, name: str, patience_s: float
    ) -> tuple[FunctionSpec, Link]:
        found = await context.directory.find(name, patience_s)
        if found is not None:
            return found
        if (broken := context.directory.broken_for(name)) is not None:
            where = f"{broken.file}:{broken.line}" if broken.line else broken.file
            raise Problem(problems.BROKEN, f"{where}: {broken.error}", {"function": name})
        known = [item["name"] for item in context.directory.described()]
        raise Problem(
            problems.UNKNOWN_FUNCTION, f"there is no function {name!r}", {"functions": known[:100]}
        )

    def _call(
        self, spec: FunctionSpec, link: Link, body: bytes, request: CallRequest, flags: int
    ) -> Sent:
        deadline = request.deadline(spec)
        left_ms = math.ceil((deadline - asyncio.get_running_loop().time()) * 1000)
        if left_ms <= 0:
            told = "the deadline passed before the call could be given to its pool"
            raise Problem(problems.DEADLINE, told, {"function": spec.name})
        head = CallHead(left_ms, flags, 0, spec.name, request.request_id)
        items: asyncio.Queue[bytes | None] | None = asyncio.Queue() if flags else None
        waiting = link.call(
            calls.call_head(head) + body, deadline, items.put_nowait if items else None
        )
        return Sent(waiting, items)

    async def _check(
        self, spec: FunctionSpec, link: Link, body: bytes, request: CallRequest
    ) -> None:
        """Have the function's own instance look at a task's input. Raises a problem if it is wrong.

        Where no instance can look at it in time the task is accepted: then its run will tell.
        """
        head = CallHead(int(CHECK_S * 1000), calls.CHECK, 0, spec.name, request.request_id)
        try:
            deadline = asyncio.get_running_loop().time() + CHECK_S
            payload = await link.call(calls.call_head(head) + body, deadline).reply
        except UnavailableError:
            return
        outcome, _, told = calls.parse_reply(payload)
        if outcome in (Outcome.INVALID, Outcome.MALFORMED):
            raise from_outcome(outcome, told, with_traceback=False, function=spec.name)

    async def _send(
        self, context: Context, payload: bytes, request: CallRequest, spec: FunctionSpec, send: Send
    ) -> None:
        outcome, served, body = calls.parse_reply(payload)
        headers = [
            (b"content-type", _JSON),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request.request_id.encode()),
            *self.served(served),
        ]
        if outcome != Outcome.OK:
            problem = from_outcome(
                outcome,
                body,
                with_traceback=context.shows_tracebacks,
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


def _left_s(request: CallRequest, spec: FunctionSpec) -> float:
    """What is left of a direct call's time, which began when it was received."""
    return request.deadline(spec) - asyncio.get_running_loop().time()


async def _as_task(
    context: Context,
    spec: FunctionSpec,
    body: bytes,
    request: CallRequest,
    preferences: Preferences,
) -> Response:
    """Accept a task: 202, or with its result if the caller waits and it ends in time.

    Who accepts events instead gets the task's life as it goes on.
    """
    task = await _accept(context, spec, body, request, preferences)
    result = None
    if not preferences.wants_task and stream_type(request.accept) == EVENTS:
        return _told(await life_of_task(context, task.id), task, request, "Accept")
    if preferences.wait_s is not None:
        result = await context.wait_for_end(task.id, preferences.wait_s)
        task = result.task
    if result is not None and task.state.is_terminal:
        response = await answer_of_task(context, result)
    else:
        response = await task_response(context, task, status=202)
    if preferences.applied:
        response.headers["Preference-Applied"] = preferences.applied
    return _told(response, task, request, "Prefer")


def _told(response: Response, task: Task, request: CallRequest, header: str) -> Response:
    """``response`` with where the task is, and by which header the caller chose this answer."""
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    response.headers["X-Request-Id"] = request.request_id
    response.headers["Vary"] = header
    failpoint("gateway.answering")
    return response


async def _accept(
    context: Context,
    spec: FunctionSpec,
    body: bytes,
    request: CallRequest,
    preferences: Preferences,
) -> Task:
    """The task that the call has become, or was already under the same key."""
    submission = Submission(
        spec=spec,
        body=body,
        request_id=request.request_id,
        idempotency_key=_key(request),
        priority=preferences.priority,
        delay_s=preferences.delay_s or 0.0,
        expires_s=preferences.expires_s,
    )
    try:
        accepted = await context.intake.accept(submission)
    except SkipperError as error:
        raise Problem(problems.UNAVAILABLE, f"the task was not accepted: {error}") from None
    if not accepted.matches:
        detail = "this Idempotency-Key came with another function or body before"
        raise Problem(problems.KEY_REUSED, detail)
    # Under a known key it may be a training that has ended.
    await context.announcements.before_telling([accepted.task])
    return accepted.task


def _key(request: CallRequest) -> str | None:
    if not request.idempotency_key:
        return None
    key = prefer.idempotency_key(request.idempotency_key.decode("latin-1"))
    if key is None:
        raise Problem(problems.BAD_REQUEST, "Idempotency-Key is 1 to 255 visible ASCII characters")
    return key


class _GoneError(Exception):
    """The caller left before its request was complete."""


async def _read_body(request: CallRequest, receive: Receive, limit: int) -> bytes:
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
