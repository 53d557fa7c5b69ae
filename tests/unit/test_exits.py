from __future__ import annotations

import pytest

from skipper import errors
from skipper.errors import CallError, SkipperError, StartError
from skipper.exits import Exit, exit_code


def problem_error(status: int) -> CallError:
    return CallError("x", {"status": status})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SettingsError("x"), Exit.INVALID),
        (errors.DefinitionError("x"), Exit.INVALID),
        (StartError("x", code=9), Exit.UNREACHABLE),
        (errors.NotFoundError(), Exit.NOT_FOUND),
        (errors.UnavailableError(), Exit.NOT_RUNNING),
        (errors.InvalidInputError(), Exit.USAGE),
        (errors.FunctionError(), Exit.FAILED),
        (errors.InstanceDiedError(), Exit.FAILED),
        (errors.DeadlineError(), Exit.TIMED_OUT),
        (errors.CancelledError(), Exit.FAILED),
        (problem_error(401), Exit.UNAUTHORISED),
        (problem_error(409), Exit.FAILED),
        (SkipperError(), Exit.FAILED),
    ],
)
def test_every_error_has_its_exit_code(error: SkipperError, code: Exit) -> None:
    assert exit_code(error) == code
