"""Replies to calls whose body cannot be read: no JSON, no match, or a validator that breaks."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from skipper.instance.faults import class_of, in_project, shown, user_traceback
from skipper.outcomes import Outcome
from skipper.wire.calls import problem

MAX_ERRORS = 100
"""Places in a body that a problem names; a body may be wrong in as many as it has members."""
MAX_DETAIL = 1000
"""Characters about one place in a body: the names of members in it are the caller's."""


def refusal(error: BaseException, served: bytes) -> bytes:
    """The reply where reading a body raised ``error``; an author's validator may raise any."""
    return invalid(error, served) if isinstance(error, ValidationError) else failure(error, served)


def failure(error: BaseException, served: bytes, **members: Any) -> bytes:
    """The reply for an exception of the author's own code."""
    return problem(
        Outcome.FAILED,
        shown(error),
        served,
        exception=class_of(error),
        traceback=user_traceback(error),
        **members,
    )


def invalid(error: ValidationError, served: bytes) -> bytes:
    """The reply for a body that does not match: where, and what is wrong there.

    What was sent is left out, because a body may hold secrets and problems are logged.
    """
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    if errors and errors[0]["type"] == "json_invalid":
        return problem(Outcome.MALFORMED, f"the body is not JSON: {errors[0]['msg']}", served)
    places = [
        {
            "pointer": _pointer(item["loc"])[:MAX_DETAIL],
            "detail": in_project(item["msg"])[:MAX_DETAIL],
        }
        for item in errors[:MAX_ERRORS]
    ]
    first = f"{places[0]['pointer'] or 'the body'}: {places[0]['detail']}"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return problem(Outcome.INVALID, first + more, served, errors=places)


def _pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)
