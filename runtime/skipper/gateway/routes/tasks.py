"""``/v1/tasks``: what became of accepted work. Its events are routed in ``events``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response

from skipper import problems
from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.gateway import prefer
from skipper.gateway.answers import Json, accepted_response, answer_of_task, task_response
from skipper.gateway.archive import ArchiveResponse
from skipper.gateway.contents import lost
from skipper.gateway.context import Context
from skipper.gateway.links import link
from skipper.gateway.problems import Problem
from skipper.gateway.routes import events
from skipper.gateway.routes.parameters import MAX_PAGE, Filter, TaskId, WantedContent
from skipper.gateway.task_reader import MAX_WAIT_S
from skipper.ledger import parts, tasks
from skipper.outcomes import error_document
from skipper.task import Attempt, State
from skipper.tasks.documents import timestamp
from skipper.wire.messages import CancelTask


def routes(context: Context) -> APIRouter:
    """The routes, on what the running gateway has."""
    router = APIRouter(prefix="/v1/tasks", tags=["tasks"])
    _add_reads(router, context)
    events.add_routes(router, context)
    _add_verbs(router, context)
    return router


def _add_reads(router: APIRouter, context: Context) -> None:
    @router.get("", summary="List tasks, newest first")
    async def page(
        function: Filter | None = None,
        state: State | None = None,
        schedule: Filter | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 50,
        cursor: str | None = None,
    ) -> Any:
        try:
            found, following = await context.ledger.read(
                lambda conn: tasks.page(
                    conn,
                    function=function,
                    state=state,
                    schedule=schedule,
                    limit=limit,
                    cursor=cursor,
                )
            )
        except ValueError:
            raise Problem(
                problems.BAD_REQUEST, f"cursor {cursor!r} is not one that a page gave"
            ) from None
        await context.tasks.announce(found)
        return Json(
            {"items": [await context.tasks.document(task) for task in found], "next": following}
        )

    @router.get("/{id}", summary="Look at a task; wait=N waits up to N seconds for its end")
    async def get(id: TaskId, wait: Annotated[float, Query(ge=0, le=MAX_WAIT_S)] = 0) -> Any:
        reader = context.tasks
        task = (await reader.until_ended(id, wait)).task if wait else await reader.get(id)
        return await task_response(context, task)

    @router.head("/{id}/result", include_in_schema=False)
    @router.get("/{id}/result", summary="The value of a succeeded task, alone")
    async def result(
        id: TaskId, wanted: WantedContent, preference: Annotated[str, Header(alias="prefer")] = ""
    ) -> Any:
        found = await context.tasks.result(id)
        if not found.task.state.is_terminal:
            return await task_response(context, found.task, status=202)
        return await answer_of_task(
            context, found, wanted, is_minimal=prefer.parse(preference).is_minimal
        )

    @router.head("/{id}/rescue", include_in_schema=False)
    @router.get("/{id}/rescue", summary="What there is of a model that was trained in vain: a tar")
    async def rescue(id: TaskId) -> Any:
        await context.tasks.get(id)
        return await _rescue(context, id)

    @router.get("/{id}/attempts", summary="Every attempt of a task")
    async def attempts(id: TaskId) -> Any:
        await context.tasks.get(id)
        found = await context.ledger.read(lambda conn: tasks.attempts(conn, id))
        return Json({"items": [_attempt(context, id, item) for item in found]})


def _add_verbs(router: APIRouter, context: Context) -> None:
    @router.post("/{id}/cancel", summary="Stop a task, wherever it is")
    async def cancel(id: TaskId) -> Any:
        return await _cancel(context, id)

    @router.post(
        "/{id}/retry", summary="Run an ended task's function again on the same input, as a new task"
    )
    async def retry(id: TaskId) -> Any:
        return await _retry(context, id)


async def _rescue(context: Context, task_id: str) -> Response:
    digest = await context.ledger.read(lambda conn: parts.rescue(conn, task_id))
    if digest is None:
        detail = "there is nothing to rescue: no model of it was kept unpublished"
        raise Problem(problems.NOT_FOUND, detail)
    blobs = context.values.blobs
    try:
        files = await asyncio.to_thread(blobs.listing, digest)
    except (OSError, ValueError) as error:
        raise lost(f"cannot be listed: {type(error).__name__}") from None
    return ArchiveResponse(files, blobs, tag=digest, name=f"rescue-{task_id}.tar")


def _attempt(context: Context, task_id: str, attempt: Attempt) -> dict[str, Any]:
    error = attempt.error
    return attempt.model_dump() | {
        "started_at": timestamp(attempt.started_at),
        "ended_at": timestamp(attempt.ended_at),
        "error": error and error_document(error, with_traceback=context.shows_tracebacks),
        "logs": link(f"/v1/tasks/{task_id}/logs?attempt={attempt.number}"),
    }


async def _cancel(context: Context, task_id: str) -> Response:
    await context.tasks.get(task_id)
    now = time.time()
    cancelling = await context.ledger.write(lambda conn: tasks.cancel(conn, task_id, now))
    failpoint("gateway.cancelling")
    running = cancelling.running if cancelling is not None else ()
    await _tell_hosts(context, [each for each in running if each[0] != task_id])
    task = await context.tasks.get(task_id)
    if task.state is State.RUNNING:
        await _tell_hosts(context, [(task_id, task.pool)])
        task = await context.tasks.get(task_id)
    context.watchers.changed([task_id, *(each for each, _ in running)])
    is_late = cancelling is None or cancelling.already_ended
    if is_late or (task.state.is_terminal and task.state is not State.CANCELLED):
        detail = f"the task had already ended: {task.state}"
        raise Problem(problems.CONFLICT, detail, {"task": await context.tasks.document(task)})
    return await task_response(context, task, status=200 if task.state.is_terminal else 202)


async def _tell_hosts(context: Context, running: Sequence[tuple[str, str]]) -> None:
    """Have tasks stopped at once that run on this machine, by id and pool.

    Best effort, because their hosts read the cancellation from the ledger, too.
    """
    for task_id, pool in running:
        link = context.directory.links.get(pool)
        if link is not None and link.is_up:
            with contextlib.suppress(SkipperError):
                await link.ask(CancelTask(task_id=task_id))


async def _retry(context: Context, task_id: str) -> Response:
    task = await context.tasks.get(task_id)
    if not task.state.is_terminal:
        raise Problem(
            problems.CONFLICT,
            f"the task has not ended: {task.state}",
            {"task": await context.tasks.document(task)},
        )
    fresh = await context.intake.retry(task_id)
    if fresh is None:
        raise Problem(problems.GONE, "the task's input is no longer stored")
    return await accepted_response(context, fresh)
