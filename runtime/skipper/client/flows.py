"""Each verb of the clients, once: its requests, and what it makes of the replies. No I/O.

A *flow* is a generator that yields a :class:`Request` and is sent its :class:`Reply`, or yields a
:class:`Pause`, and returns the verb's value. The clients carry flows out, one blocking, one on
asyncio. A connection that fails is thrown into the flow as :class:`LostError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import quote

from skipper import problems
from skipper.client import contents
from skipper.client.bodies import FormBody, StreamedBody
from skipper.client.contents import Answer
from skipper.client.messages import (
    ANSWER_S,
    AS_VALUE,
    NO_TERMS,
    Deadline,
    Flow,
    LostError,
    Outlet,
    Pause,
    Reply,
    Request,
    Terms,
    WantedValue,
    to_body,
)
from skipper.client.packing import Upload, pack
from skipper.client.problems import checked, slug_of, task_error
from skipper.client.sources import BodySource, has_sources
from skipper.errors import CallError, SkipperError, UnavailableError
from skipper.function.mapping import Arguments
from skipper.spec import Mode
from skipper.task import State
from skipper.values import forms
from skipper.values.value import JSON

T = TypeVar("T")
Content: TypeAlias = bytes | FormBody | StreamedBody
Preferences: TypeAlias = tuple[str, Terms]
"""A ``Prefer`` header as RFC 7240 writes it, and the terms of a task."""
NO_PREFERENCES: Preferences = ("", NO_TERMS)

_LASTING = (problems.BROKEN.slug,)
"""Problems that a second try will not find gone."""
LONG_POLL_S = 20
"""How long one request may wait for a task's end; proxies commonly cut at 60 s."""
MAX_RETRY_AFTER_S = 10.0
"""A gateway that names a longer time is not waited for: its answer is the caller's."""
RETRIES = 3
"""How often a request that ran nothing is sent again after the time that the gateway names."""
RECONNECTS_S = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 3.0, 3.0)
"""Pauses between tries of a request that is safe to repeat; together they outlast a restart."""


def exchange(request: Request, deadline: Deadline | None = None) -> Flow[Reply]:
    """The reply to ``request``, which is sent again only where that cannot run anything twice.

    Raises what a problem stands for, LostError once the tries are used up.
    """
    deadline, attempts = deadline or Deadline(None), _Attempts(request)
    while True:
        try:
            reply = yield deadline.bound(request)
        except LostError as lost:
            pause_s = attempts.after_loss(was_sent=lost.was_sent)
            if pause_s is None:
                raise
        else:
            assert reply is not None
            pause_s = attempts.after_reply(reply)
            if pause_s is None or pause_s > deadline.within(pause_s):
                return checked(reply)
        yield Pause(pause_s)


class _Attempts:
    """Counts what went wrong with one request: how long to wait before the next try, if any."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._losses = self._refusals = 0

    def after_loss(self, *, was_sent: bool) -> float | None:
        if not self._request.can_be_sent:
            return None
        is_first_contact = not was_sent and not self._losses
        may = self._request.is_patient if is_first_contact else self._request.is_repeatable
        if not may or self._losses == len(RECONNECTS_S):
            return None
        self._losses += 1
        return RECONNECTS_S[self._losses - 1]

    def after_reply(self, reply: Reply) -> float | None:
        wait_s = retry_after_s(reply)
        if wait_s is not None and self._refusals < RETRIES and self._request.can_be_sent:
            self._refusals += 1
            return wait_s
        is_outage = reply.status >= 500
        return self.after_loss(was_sent=True) if self._request.is_patient and is_outage else None


def retry_after_s(reply: Reply) -> float | None:
    """When to try again what a gateway did not run, in seconds; None where that is of no use."""
    text = reply.headers.get("retry-after", "")
    if reply.status not in (429, 503) or not text.isdigit() or slug_of(reply) in _LASTING:
        return None
    return float(text) if float(text) <= MAX_RETRY_AFTER_S else None


def get(path: str, *, is_patient: bool = False, **query: Any) -> Flow[Any]:
    """The JSON at ``path``; query members that are None are left out."""
    given = {name: str(value) for name, value in query.items() if value is not None}
    request = Request(method="GET", path=path, query=given, is_patient=is_patient)
    reply = yield from exchange(request)
    return reply.json()


def peek(path: str, **query: str) -> Flow[Reply]:
    """The answer at ``path``, whatever its status, asked for once."""
    reply = yield Request(method="GET", path=path, query=query)
    assert reply is not None
    return reply


def get_items(path: str, **query: Any) -> Flow[list[Any]]:
    """All items of a list, page by page."""
    items: list[Any] = []
    cursor = None
    while True:
        page = yield from get(path, cursor=cursor, **query)
        items += page["items"]
        cursor = page.get("next")
        if not cursor:
            return items


def invoke(
    name: str,
    body: Any,
    deadline: Deadline,
    *,
    preferences: Preferences = NO_PREFERENCES,
    wanted: WantedValue = AS_VALUE,
) -> Flow[Answer]:
    """One run of a function: its value, or a task."""
    reply = yield from sent(
        name, body, lambda content: _invoked(name, content, deadline, preferences, wanted)
    )
    return _answer(reply)


def _invoked(
    name: str, body: Content, deadline: Deadline, preferences: Preferences, wanted: WantedValue
) -> Flow[Reply]:
    prefer, terms = preferences
    headers = _headers_of(body, wanted) | ({"prefer": prefer} if prefer else {}) | terms.headers()
    request = Request(
        method="POST",
        path=function_path(name) + "/invoke",
        headers=headers,
        content=body,
        timeout_s=None,  # because the gateway enforces the function's deadline
        is_repeatable=False,
        to=wanted.to,
    )
    return (yield from exchange(request, deadline))


def _headers_of(body: Content, wanted: WantedValue = AS_VALUE) -> dict[str, str]:
    kind = JSON if isinstance(body, bytes) else body.media_type
    return {"content-type": kind, "accept": wanted.accept or contents.accept()}


def _answer(reply: Reply) -> Answer:
    is_task = reply.status == 202
    return Answer(
        reply=reply,
        task=reply.json() if is_task else None,
        code=reply.headers.get("x-skipper-code"),
        model=reply.headers.get("x-skipper-model"),
        deployment=reply.headers.get("x-skipper-deployment"),
    )


def sent(name: str, body: Any, send: Callable[[Content], Flow[T]]) -> Flow[T]:
    """What ``send`` makes of the body that ``body`` is to the function, values and all.

    What has been uploaded for it is removed again: a task that was given it keeps it.
    """
    if isinstance(body, bytes):
        return (yield from send(body))
    if not has_sources(body):
        return (yield from send(to_body(body)))
    document = yield from get(function_path(name))
    content, uploads = yield from _content_of(body, document)
    try:
        answer = yield from send(content)
    except SkipperError:
        yield from forget(uploads)
        raise
    yield from forget(uploads)
    return answer


def stream(name: str, body: Any) -> Flow[tuple[Request, list[Upload]]]:
    """The request for a generator's items, and what has been uploaded for it.

    Raises TypeError for a function that is no generator, or is answered with a task.
    """
    document = yield from get(function_path(name))
    if not document.get("streams"):
        raise TypeError(f"{name} is no generator, so it has no items to stream: call it.")
    if document.get("mode") == Mode.TASK:
        raise TypeError(f"{name} is answered with a task: spawn it, and follow its events().")
    content, uploads = yield from _content_of(body, document)
    request = Request(
        method="POST",
        path=function_path(name) + "/invoke",
        headers=_headers_of(content, WantedValue(accept="text/event-stream")),
        content=content,
        timeout_s=None,  # because the gateway enforces the function's deadline
        is_repeatable=False,
    )
    return request, uploads


def _content_of(body: Any, document: Mapping[str, Any]) -> Flow[tuple[Content, list[Upload]]]:
    """What is sent for ``body``, once what has to be is uploaded."""
    if isinstance(body, bytes):
        return body, []
    packed = pack(body, document)
    try:
        for each in packed.uploads:
            each.id = (yield from upload(each.source))["id"]
    except SkipperError:
        yield from forget(packed.uploads)
        raise
    return packed.content(), packed.uploads


def forget(uploads: Iterable[Upload]) -> Flow[None]:
    """Remove what has been uploaded for a call."""
    for each in uploads:
        if each.id:
            with contextlib.suppress(SkipperError):  # it expires by itself
                yield from delete_file(each.id)


def upload(source: BodySource) -> Flow[dict[str, Any]]:
    """The record of a file that is uploaded. Sent again where it can be: it is stored once."""
    query = {"name": source.name} if source.name else {}
    request = Request(
        method="POST",
        path="/v1/files",
        query=query,
        headers={"content-type": source.media_type},
        content=StreamedBody(source),
        timeout_s=None,
    )
    reply = yield from exchange(request)
    record: dict[str, Any] = reply.json()
    return record


def download(file_id: str, to: Path | Outlet) -> Flow[Reply]:
    """An uploaded file's content, written ``to`` somewhere."""
    return (yield from exchange(Request(method="GET", path=file_path(file_id), to=to)))


def delete_file(file_id: str) -> Flow[None]:
    """Forget an uploaded file."""
    yield from exchange(Request(method="DELETE", path=file_path(file_id)))


def call(name: str, body: Any, timeout_s: float | None, to: Path | None = None) -> Flow[Any]:
    """The value of one run, waiting for the task where the function is answered with one.

    With ``to`` it is written there.
    """
    reply = yield from called(name, body, timeout_s, WantedValue(to=to))
    return contents.value_of(reply)


def called(
    name: str, body: Any, timeout_s: float | None, wanted: WantedValue = AS_VALUE
) -> Flow[Reply]:
    """The answer that has the value of one run."""
    deadline = Deadline(timeout_s)
    answer = yield from invoke(name, body, deadline, wanted=wanted)
    if answer.task is None:
        assert answer.reply is not None
        return answer.reply
    task = yield from ended(answer.task["id"], deadline)
    return (yield from reply_with_result(task, wanted))


def parameters(name: str) -> Flow[list[str] | None]:
    """What a function calls its parameters, in their order; None where its body is one value."""
    schema = (yield from get(function_path(name))).get("input_schema") or {}
    members = list(forms.properties(schema))
    return members or ([] if schema.get("type") == "object" else None)


def body_of_item(names: Sequence[str] | None, call: Arguments) -> Any:
    """The body of one call of a map. Raises TypeError for more arguments than it has parameters."""
    if not call.args:
        return dict(call.kwargs)
    first = call.args[0]
    if len(call.args) == 1 and (names is None or _is_body(names, first)):
        return first
    known = names or ()
    if len(call.args) > len(known):
        what = f"at most {len(known)} arguments ({', '.join(known)})"
        raise TypeError(f"{what}, not {len(call.args)}")
    return dict(zip(known, call.args, strict=False))


def _is_body(names: Sequence[str], item: Any) -> bool:
    """Whether an item is a whole body: a model, or a dict with the parameters in it."""
    is_model = hasattr(type(item), "model_dump") or dataclasses.is_dataclass(item)
    is_named = isinstance(item, Mapping) and (len(names) != 1 or set(item) == set(names))
    return is_model or is_named


def spawn(name: str, body: Any, terms: Terms = NO_TERMS) -> Flow[dict[str, Any]]:
    """The task that runs a function. Its idempotency key makes the request safe to repeat."""
    return (yield from sent(name, body, lambda content: _spawned(name, content, terms)))


def _spawned(name: str, body: Content, terms: Terms) -> Flow[dict[str, Any]]:
    headers = {
        **_headers_of(body),
        "prefer": "respond-async",
        "idempotency-key": f'"{uuid.uuid4()}"',
        **terms.headers(),
    }
    path = function_path(name) + "/invoke"
    timeout_s = ANSWER_S if isinstance(body, bytes) else None  # a large one takes its time
    request = Request(method="POST", path=path, headers=headers, content=body, timeout_s=timeout_s)
    reply = yield from exchange(request)
    return _task_of(reply)


def _task_of(reply: Reply) -> dict[str, Any]:
    task = reply.json()
    if not isinstance(task, dict) or "id" not in task:
        raise UnavailableError("A task was asked for and something else answered; is this Skipper?")
    return task


def result_of(task: Mapping[str, Any], to: Path | None = None) -> Flow[Any]:
    """The value of a task that has ended; with ``to`` it is written there."""
    reply = yield from reply_with_result(task, WantedValue(to=to))
    return contents.value_of(reply)


def reply_with_result(task: Mapping[str, Any], wanted: WantedValue = AS_VALUE) -> Flow[Reply]:
    """The answer that has the value of a task that has ended. Raises what else it ended with."""
    if task["state"] != State.SUCCEEDED:
        raise task_error(task)
    request = Request(
        method="GET",
        path=task_path(task["id"]) + "/result",
        headers={"accept": wanted.accept or contents.accept()},
        is_patient=True,
        to=wanted.to,
    )
    return (yield from exchange(request))


def ended(task_id: str, deadline: Deadline) -> Flow[dict[str, Any]]:
    """The task, once it has ended: by long polls, or short ones where the gateway does not wait."""
    pause_s = 0.05
    while True:
        wait_s = int(deadline.within(LONG_POLL_S))
        began = time.monotonic()
        task: dict[str, Any] = yield from get(
            task_path(task_id), is_patient=True, wait=wait_s or None
        )
        if State(task["state"]).is_terminal:
            return task
        deadline.check(f"Task {task_id} goes on.")
        # Answered too soon: a gateway that ends, or one that does not wait. Without a pause this
        # would be a loop at full speed.
        if time.monotonic() - began < wait_s / 2 or not wait_s:
            yield Pause(deadline.within(pause_s))
            pause_s = min(pause_s * 1.5, 2.0)


def logs(task_id: str, attempt: int | None) -> Flow[list[dict[str, Any]]]:
    """The lines that a task, or one attempt of it, has printed."""
    return get_items(task_path(task_id) + "/logs", attempt=attempt)


def cancel(task_id: str) -> Flow[bool]:
    """Cancel a task. False where it had already ended."""
    request = Request(method="POST", path=task_path(task_id) + "/cancel")
    try:
        yield from exchange(request)
    except CallError as error:
        if error.problem.get("status") == 409:
            return False
        raise
    return True


def retry(task_id: str) -> Flow[dict[str, Any]]:
    """A new task that runs an ended one's function on the same input."""
    path = task_path(task_id) + "/retry"
    reply = yield from exchange(Request(method="POST", path=path, is_repeatable=False))
    return _task_of(reply)


def run_schedule(name: str) -> Flow[dict[str, Any]]:
    """The task that a schedule makes now. Not repeatable, because each request makes one."""
    path = schedule_path(name) + "/run"
    reply = yield from exchange(Request(method="POST", path=path, is_repeatable=False))
    task: dict[str, Any] = reply.json()
    return task


def test_webhook(name: str) -> Flow[dict[str, Any]]:
    """The task that sends a webhook a ping."""
    path = f"/v1/webhooks/{quote(name, safe='')}/test"
    reply = yield from exchange(Request(method="POST", path=path, is_repeatable=False))
    task: dict[str, Any] = reply.json()
    return task


def set_schedule(name: str, *, is_paused: bool) -> Flow[dict[str, Any]]:
    """Pause or resume a schedule; the schedule as it is then."""
    path = f"{schedule_path(name)}/{'pause' if is_paused else 'resume'}"
    reply = yield from exchange(Request(method="POST", path=path))
    schedule: dict[str, Any] = reply.json()
    return schedule


def file_path(file_id: str) -> str:
    """Where an uploaded file stands."""
    return f"/v1/files/{quote(file_id, safe='')}"


def function_path(name: str) -> str:
    """Where a function stands."""
    return f"/v1/functions/{quote(name, safe='')}"


def task_path(task_id: str) -> str:
    """Where a task stands."""
    return f"/v1/tasks/{quote(task_id, safe='')}"


def schedule_path(name: str) -> str:
    """Where a schedule stands."""
    return f"/v1/schedules/{quote(name, safe='')}"


def model_path(name: str) -> str:
    """Where a model stands."""
    return f"/v1/models/{quote(name, safe='')}"
