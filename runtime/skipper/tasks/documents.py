"""A task as others are shown it: over REST, and in the events of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from skipper.outcomes import error_document
from skipper.task import State, Task


def task_document(
    task: Task, progress: dict[str, Any] | None, *, with_traceback: bool
) -> dict[str, Any]:
    """A task as callers see it."""
    return {
        "id": task.id,
        "function": task.function,
        "kind": task.kind,
        "pool": task.pool,
        "state": task.state,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "priority": task.priority,
        "created_at": timestamp(task.created_at),
        "available_at": timestamp(task.available_at),
        "expires_at": timestamp(task.expires_at),
        "started_at": timestamp(task.started_at),
        "finished_at": timestamp(task.finished_at),
        "deadline_at": timestamp(task.deadline_at),
        "progress": progress,
        "error": error_document(task.error, with_traceback=with_traceback) if task.error else None,
        "result": f"/v1/tasks/{task.id}/result" if task.state is State.SUCCEEDED else None,
        "model": task.model,
        "code": task.code,
        "parent_id": task.parent_id,
        "request_id": task.request_id,
        "schedule": task.schedule,
    }


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if seconds is None:
        return None
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
