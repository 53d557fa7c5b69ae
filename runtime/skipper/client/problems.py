"""Which error of Python's an answer without a value is: by its problem, or a task's end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from skipper.client.messages import Reply
from skipper.errors import CallError, InvalidInputError, SkipperError, UnavailableError
from skipper.outcomes import kind_of, of_state
from skipper.problems import KINDS
from skipper.task import State

_BY_SLUG = {kind.slug: kind.error for kind in KINDS}
# What a gateway of another version answers, or a proxy, may have only its status in common.
_BY_STATUS = {kind.status: kind.error for kind in reversed(KINDS)} | {429: UnavailableError}


def checked(reply: Reply) -> Reply:
    """``reply``, or the error that its problem document stands for."""
    if reply.status < 400:
        return reply
    problem = _problem(reply)
    if problem is None:
        raise _foreign(reply)
    problem.setdefault("status", reply.status)
    kind = _BY_SLUG.get(slug_of(reply)) or _BY_STATUS.get(reply.status, CallError)
    raise _with_problem(kind, problem)


def slug_of(reply: Reply) -> str:
    """The last part of a problem's type: ``queue-full``; empty where there is no problem."""
    return str((_problem(reply) or {}).get("type", "")).rpartition("/")[2]


def _problem(reply: Reply) -> dict[str, Any] | None:
    try:
        problem = json.loads(reply.content)
    except ValueError:
        return None
    is_problem = isinstance(problem, dict) and problem.keys() & {"title", "detail", "type"}
    return problem if is_problem else None


def _foreign(reply: Reply) -> SkipperError:
    """The error for an answer that no Skipper gateway gave: a proxy's, or another server's."""
    shown = reply.content[:120].decode(errors="replace").strip()
    message = f"Status {reply.status} without a problem document: {shown!r}. Is this Skipper's URL?"
    is_server = reply.status >= 500
    kind = UnavailableError if is_server else _BY_STATUS.get(reply.status, CallError)
    return _with_problem(kind, {"status": reply.status}, message)


def task_error(task: Mapping[str, Any]) -> SkipperError:
    """The error that an ended task without a value stands for."""
    state = State(task["state"])
    problem = {"title": f"Task {task['id']} ended {state}.", **(task.get("error") or {})}
    problem |= {"task_id": task["id"], "state": str(state)}
    kind = kind_of(of_state(state)).error
    if state is State.FAILED and problem.get("status") in (400, 422):
        kind = InvalidInputError
    return _with_problem(kind, problem)


def _with_problem(
    kind: type[SkipperError], problem: dict[str, Any], message: str | None = None
) -> SkipperError:
    error = kind(message or _message(problem))
    error.problem = problem
    return error


def _message(problem: Mapping[str, Any]) -> str:
    text = str(problem.get("detail") or problem.get("title") or "The call failed.")
    wrong = [f"{item.get('pointer') or '/'}: {item.get('detail')}" for item in _errors(problem)[:3]]
    wrong = [each for each in wrong if each not in text]
    return f"{text} ({'; '.join(wrong)})" if wrong else text


def _errors(problem: Mapping[str, Any]) -> list[dict[str, Any]]:
    errors = problem.get("errors")
    return [item for item in errors if isinstance(item, dict)] if isinstance(errors, list) else []
