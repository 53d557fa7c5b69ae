"""What those who asked for a task are answered once it has ended."""

from __future__ import annotations

import json
from dataclasses import dataclass

from skipper.ledger.records import Result
from skipper.outcomes import Outcome, of_state, parse_error
from skipper.task import State
from skipper.values.envelope import MEDIA_TYPE, Part, unpack
from skipper.values.store import LostValueError, ValueStore
from skipper.values.value import JSON, Value
from skipper.wire import calls


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskReply:
    """What a direct call would have been answered: a value or, in JSON, what went wrong.

    ``served`` names the code and the models, as :func:`~skipper.wire.calls.served_by` does.
    """

    outcome: Outcome
    served: bytes
    body: bytes
    media_type: str = JSON


async def reply_of(result: Result, values: ValueStore) -> TaskReply:
    """The reply of a task that has ended, whose value may be lost."""
    task = result.task
    served = calls.served_by(task.code or "", (task.model or "").split())
    if task.state is not State.SUCCEEDED:
        error = task.error or {"detail": f"the task ended {task.state}"}
        outcome, problem = parse_error(error, of_state(task.state))
        return TaskReply(outcome=outcome, served=served, body=_json(problem))
    if result.value is None:
        return TaskReply(outcome=Outcome.OK, served=served, body=b"null")
    try:
        body = await values.load(result.value)
    except LostValueError as lost:
        problem = {"detail": f"the result {lost}"}
        return TaskReply(outcome=Outcome.UNAVAILABLE, served=served, body=_json(problem))
    media_type = result.value.media_type
    return TaskReply(outcome=Outcome.OK, served=served, body=body, media_type=media_type)


def file_of(value: Value) -> Part | None:
    """The stored file that a result is, as far as its row tells; None where there is none.

    What is of a function's own types, and crosses to other functions only, is none.
    """
    if value.media_type != MEDIA_TYPE:
        size = value.size or 0
        return None if value.ref is None else Part(media_type=JSON, size=size, ref=value.ref)
    part = unpack(value.inline).sole if value.inline is not None else None
    return part if part is not None and part.ref is not None else None


def _json(problem: dict[str, object]) -> bytes:
    return json.dumps(problem).encode()
