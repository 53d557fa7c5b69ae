"""Answers that several routes give: a task's document, what a direct call would have answered."""

from __future__ import annotations

from fastapi.responses import JSONResponse, Response

from skipper.gateway.context import Context
from skipper.gateway.problems import RETRY_AFTER_S, from_outcome
from skipper.ledger.records import Result
from skipper.task import Outcome, Task
from skipper.tasks.intake import reply_of
from skipper.wire import calls


async def task_response(context: Context, task: Task, status: int = 200) -> Response:
    """A task's document; Retry-After while it has not ended."""
    headers = {} if task.state.is_terminal else {"Retry-After": RETRY_AFTER_S}
    return JSONResponse(await context.shown(task), status, headers)


async def answer_of_task(context: Context, result: Result) -> Response:
    """What a direct call would have answered."""
    outcome, served, body = calls.parse_reply(await reply_of(result, context.blobs))
    code, _, model = served.decode().partition(" ")
    headers = {"X-Skipper-Code": code} if code else {}
    if model:
        headers["X-Skipper-Model"] = model.replace(" ", ", ")
    if outcome == Outcome.OK:
        return Response(body, 200, headers, "application/json")
    problem = from_outcome(
        outcome,
        body,
        with_traceback=context.shows_tracebacks,
        function=result.task.function,
        task_id=result.task.id,
    )
    response = problem.response()
    response.headers.update(headers)
    return response
