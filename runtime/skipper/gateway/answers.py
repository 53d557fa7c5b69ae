"""Answers that several routes give: a task's document, what a direct call would have answered."""

from __future__ import annotations

from fastapi.responses import JSONResponse, Response

from skipper.gateway.context import Context
from skipper.gateway.problems import RETRY_AFTER_S, from_outcome
from skipper.ledger.records import Result
from skipper.outcomes import Outcome
from skipper.task import Task
from skipper.tasks.results import reply_of


async def task_response(context: Context, task: Task, status: int = 200) -> Response:
    """A task's document; Retry-After while it has not ended."""
    headers = {} if task.state.is_terminal else {"Retry-After": RETRY_AFTER_S}
    return JSONResponse(await context.shown(task), status, headers)


async def accepted_response(context: Context, task: Task) -> Response:
    """202 with the document of a task that has just been accepted, and where it is."""
    response = await task_response(context, task, status=202)
    response.headers["Location"] = f"/v1/tasks/{task.id}"
    return response


async def answer_of_task(context: Context, result: Result) -> Response:
    """What a direct call would have answered."""
    reply = await reply_of(result, context.values)
    code, _, model = reply.served.decode().partition(" ")
    headers = {"X-Skipper-Code": code} if code else {}
    if model:
        headers["X-Skipper-Model"] = model.replace(" ", ", ")
    if reply.outcome is Outcome.OK:
        return Response(reply.body, 200, headers, reply.media_type)
    problem = from_outcome(
        reply.outcome,
        reply.body,
        with_traceback=context.shows_tracebacks,
        function=result.task.function,
        task_id=result.task.id,
    )
    response = problem.response()
    response.headers.update(headers)
    return response
