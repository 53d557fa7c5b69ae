"""What several routes answer with: a problem, a task, what a direct call would have answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from starlette.responses import JSONResponse, Response

from skipper import problems
from skipper.gateway.browsers import FOR_BROWSERS
from skipper.gateway.contents import Wanted, content_response
from skipper.gateway.context import Context
from skipper.gateway.http.exchange import Exchange
from skipper.gateway.links import link
from skipper.gateway.problems import Problem, from_outcome
from skipper.ledger.records import Result
from skipper.outcomes import Outcome
from skipper.task import Task
from skipper.tasks.results import reply_of
from skipper.values.envelope import is_envelope, unpack

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = "1"
"""How soon a caller is to come back, in seconds, where nothing better is known."""

Headers = list[tuple[bytes, bytes]]


def json_bytes(value: Any) -> bytes:
    """``value`` as JSON in UTF-8. A lone surrogate, which UTF-8 has not, becomes a question mark.

    What functions raise and log is text of theirs: one such letter must not hide a list of tasks.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


class Json(JSONResponse):
    """A JSON document, whatever text of functions it holds."""

    def render(self, content: Any) -> bytes:
        return json_bytes(content)


@lru_cache(maxsize=1000)  # because every direct call asks for one of a few
def served_headers(served: bytes) -> Headers:
    """The headers that name the code and the models of a reply. Not to be changed."""
    code, _, models = served.partition(b" ")
    headers = [(b"x-skipper-code", code)] if code else []
    if models:
        headers.append((b"x-skipper-model", models.replace(b" ", b", ")))
    return headers


def problem_response(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """The problem as an answer to a request, with further ``headers``."""
    status, own = problem.kind.status, dict(headers or {})
    if problem.retry_after_s is not None:
        own["Retry-After"] = str(problem.retry_after_s)
    elif status == 503:
        own["Retry-After"] = RETRY_AFTER_S
    elif status == 401:
        own["WWW-Authenticate"] = "Bearer"
    response = Response(json_bytes(problem.document()), status, own, PROBLEM_TYPE)
    response.raw_headers.extend(served_headers(problem.served))
    return response


def respond(exchange: Exchange, response: Response) -> None:
    """Answer an exchange with a whole ``response``, and with what browsers are told."""
    own = [header for header in response.raw_headers if header[0] != b"content-length"]
    names = {name for name, _ in own}
    more = [header for header in FOR_BROWSERS if header[0] not in names]
    exchange.respond(response.status_code, own + more, bytes(response.body))


async def task_response(
    context: Context, task: Task, status: int = 200, **members: object
) -> Response:
    """A task's document with further ``members``; Retry-After while it has not ended."""
    headers = {} if task.state.is_terminal else {"Retry-After": RETRY_AFTER_S}
    return Json(await context.tasks.document(task) | members, status, headers)


async def accepted_response(context: Context, task: Task) -> Response:
    """202 with the document of a task that has just been accepted, and where it is."""
    response = await task_response(context, task, 202)
    response.headers["Location"] = link(f"/v1/tasks/{task.id}")
    return response


async def answer_of_task(context: Context, result: Result, wanted: Wanted) -> Response:
    """What a direct call would have answered, as far as it is wanted.

    Raises Problem for a value of a type that is not accepted, and for a Range of nothing.
    """
    reply = await reply_of(result, context.values)
    if reply.outcome is Outcome.OK and is_envelope(reply.body):
        part = unpack(reply.body).sole
        if part is None:
            detail = "the value was made for the function that asked for it; it is no caller's type"
            raise Problem(problems.NOT_ACCEPTABLE, detail)
        content = content_response(part, context.values, wanted)
        content.raw_headers.extend(served_headers(reply.served))
        return content
    if reply.outcome is Outcome.OK:
        response = Response(reply.body, 200, media_type=reply.media_type)
        response.raw_headers.extend(served_headers(reply.served))
        return response
    task = result.task
    return problem_response(
        from_outcome(
            reply.outcome,
            reply.body,
            served=reply.served,
            with_traceback=context.shows_tracebacks,
            function=task.function,
            task_id=task.id,
        )
    )
