"""Exit codes of ``skipper`` and of each part of the tree, and which error ends with which.

A part of the tree that cannot start ends with one of them, and the launcher with the same one. The
table in docs/cli.md is this one.
"""

from __future__ import annotations

from enum import IntEnum

from skipper.errors import (
    DeadlineError,
    DefinitionError,
    InvalidInputError,
    NotFoundError,
    SettingsError,
    SkipperError,
    StartError,
    UnavailableError,
)


class Exit(IntEnum):
    """How a process of Skipper's ended, for scripts and for the launcher."""

    OK = 0
    FAILED = 1
    """It did not work, or the function raised."""
    USAGE = 2
    """The command line or the input is wrong."""
    INVALID = 3
    """The settings are invalid or a function file is broken (``up --strict``, ``check``).

    For ``check --against`` also: callers would break.
    """
    NOT_RUNNING = 4
    """Nothing runs there, or it cannot answer now."""
    NOT_FOUND = 5
    TIMED_OUT = 6
    TAKEN = 7
    """The port or the project's lock is taken."""
    UNAUTHORISED = 8
    UNREACHABLE = 9
    """The broker or the database cannot be reached or started."""
    NOT_WRITABLE = 10
    """A folder cannot be written."""
    INTERRUPTED = 130


_BY_KIND: tuple[tuple[type[SkipperError], Exit], ...] = (
    (SettingsError, Exit.INVALID),
    (DefinitionError, Exit.INVALID),
    (InvalidInputError, Exit.USAGE),
    (NotFoundError, Exit.NOT_FOUND),
    (DeadlineError, Exit.TIMED_OUT),
    (UnavailableError, Exit.NOT_RUNNING),
)


def exit_code(error: SkipperError) -> int:
    """The exit code for ``error``."""
    if isinstance(error, StartError):
        return error.code
    if error.problem.get("status") in (401, 403):
        return Exit.UNAUTHORISED
    return next((code for kind, code in _BY_KIND if isinstance(error, kind)), Exit.FAILED)
