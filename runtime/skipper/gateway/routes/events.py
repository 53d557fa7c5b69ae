"""A task's life: ``/v1/tasks/{id}/events`` as it goes on and afterwards, and ``/logs``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query

from skipper.gateway.answers import Json
from skipper.gateway.context import Context
from skipper.gateway.routes.parameters import AttemptNumber, Sequence, TaskId
from skipper.gateway.task_stream import gaps_after, life_of_task
from skipper.gateway.timeline import Cursor, event_document
from skipper.ledger import events

MAX_LINES = 5000
"""Lines on a page of ``/logs``."""


def add_routes(router: APIRouter, context: Context) -> None:
    """Add the routes to those of ``/v1/tasks``."""

    @router.get("/{id}/logs", summary="What a task has printed and logged")
    async def logs(
        id: TaskId,
        attempt: AttemptNumber | None = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LINES)] = MAX_LINES,
        cursor: Sequence = 0,
    ) -> Any:
        await context.tasks.get(id)
        return Json(await _lines(context, id, attempt, cursor, limit))

    @router.get(
        "/{id}/events", summary="A task's life as server-sent events; resumes after Last-Event-ID"
    )
    async def follow(id: TaskId, last_event_id: Annotated[str, Header()] = "") -> Any:
        return await life_of_task(context, id, Cursor.parse(last_event_id))


async def _lines(
    context: Context, task_id: str, attempt: int | None, since: int, limit: int
) -> dict[str, Any]:
    """A page of a task's log. ``dropped`` counts the lines that are missing on it."""
    gaps = await gaps_after(context.ledger, task_id, since)
    found = await context.ledger.read_events(
        lambda conn: events.lines(conn, task_id, since, limit + 1, attempt)
    )
    items = [event_document(event, gaps.before(event)) for event in found[:limit]]
    return {
        "items": items,
        "next": found[limit - 1].seq if len(found) > limit else None,
        "dropped": sum(item.get("dropped", 0) for item in items),
    }
