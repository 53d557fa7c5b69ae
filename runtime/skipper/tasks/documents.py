"""A task as others are shown it, over REST and in the events of webhooks; and its schema."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from skipper.ledger.records import Checkpoint
from skipper.outcomes import error_document
from skipper.spec import Kind
from skipper.task import State, Task
from skipper.values.envelope import Part


def task_document(
    task: Task,
    progress: dict[str, Any] | None,
    checkpoint: Checkpoint | None = None,
    *,
    file: Part | None = None,
    with_traceback: bool,
) -> dict[str, Any]:
    """A task as callers see it, with its latest ``progress`` and its last ``checkpoint``.

    ``file`` is what its result is stored as, where that is large.
    Its members are ``TASK_SCHEMA``'s.
    """
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
        "checkpoint": None if checkpoint is None else checkpoint_document(checkpoint),
        "error": error_document(task.error, with_traceback=with_traceback) if task.error else None,
        "result": f"/v1/tasks/{task.id}/result" if task.state is State.SUCCEEDED else None,
        "file": None if file is None else stored_document(file),
        "model": task.model,
        "code": task.code,
        "parent_id": task.parent_id,
        "request_id": task.request_id,
        "schedule": task.schedule,
    }


def checkpoint_document(checkpoint: Checkpoint) -> dict[str, Any]:
    """What is shown of where a task has come to; ``attempt`` 0 is of the task that it repeats."""
    return {
        "number": checkpoint.number,
        "attempt": checkpoint.attempt,
        "at": timestamp(checkpoint.at),
        "size": checkpoint.size,
    }


def stored_document(part: Part) -> dict[str, Any]:
    """What is shown of the file that a large result is stored as."""
    return {
        "size": part.size,
        "media_type": part.media_type,
        "name": part.name,
        "sha256": part.ref,
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


_TEXT, _COUNT = {"type": "string"}, {"type": "integer"}
_TIME = {"type": "string", "format": "date-time"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_TASK_MEMBERS = {
    "id": _TEXT,
    "function": _TEXT,
    "kind": {"type": "string", "enum": list(Kind)},
    "pool": _TEXT,
    "state": {"type": "string", "enum": list(State)},
    "attempt": _COUNT,
    "max_attempts": _COUNT,
    "priority": _COUNT,
    "created_at": _TIME,
    "available_at": _TIME,
    "expires_at": _or_null(_TIME),
    "started_at": _or_null(_TIME),
    "finished_at": _or_null(_TIME),
    "deadline_at": _or_null(_TIME),
    "progress": _or_null({"type": "object"}),
    "checkpoint": _or_null(
        {
            "type": "object",
            "description": "The last one that the next attempt would go on from.",
            "properties": {"number": _COUNT, "attempt": _COUNT, "at": _TIME, "size": _COUNT},
            "required": ["number", "attempt", "at", "size"],
        }
    ),
    "error": _or_null({"$ref": "#/components/schemas/Problem"}),
    "result": _or_null(_TEXT | {"description": "Where its value is, once it has succeeded"}),
    "file": _or_null(
        {
            "type": "object",
            "description": "What a large result is stored as: under its hash, and for as long as "
            "the task. GET result with Prefer: return=minimal gives it an id.",
            "properties": {
                "size": _COUNT,
                "media_type": _TEXT,
                "name": _or_null(_TEXT),
                "sha256": _TEXT,
            },
            "required": ["size", "media_type", "name", "sha256"],
        }
    ),
    "model": _or_null(_TEXT),
    "code": _or_null(_TEXT),
    "parent_id": _or_null(_TEXT),
    "request_id": _or_null(_TEXT),
    "schedule": _or_null(_TEXT),
}
ACCEPTED_SCHEMA: dict[str, Any] = {
    "title": "Accepted task",
    "description": "A task as it is accepted, and whether its input is known to match.",
    "allOf": [
        {"$ref": "#/components/schemas/Task"},
        {"type": "object", "properties": {"checked": {"type": "boolean"}}, "required": ["checked"]},
    ],
}
TASK_SCHEMA: dict[str, Any] = {
    "title": "Task",
    "type": "object",
    "properties": _TASK_MEMBERS,
    "required": list(_TASK_MEMBERS),
}
"""The JSON Schema of :func:`task_document`, which refers to OpenAPI's component ``Problem``."""
