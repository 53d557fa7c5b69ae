"""What an instance says on its standard streams beside what its function prints. Pure.

A line that begins with the instance's mark, which no caller knows, is not text: ``@`` tells whose
what follows is, ``+`` and ``=`` are parts and the end of a record of Python's logging.
"""

from __future__ import annotations

import json
from typing import NamedTuple

MOST = 64 << 10
"""Characters of a record's message, and of its traceback; of more the middle is left out."""
_PART = 8 << 10
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""The names of levels that logs have, as Python's logging counts them."""


class Cause(NamedTuple):
    """The task and the request that a line is due to; empty where there is none."""

    task: str = ""
    request: str = ""


class LoggedRecord(NamedTuple):
    """A record of Python's logging."""

    level: str
    """One of ``LEVELS``."""
    logger: str
    message: str
    traceback: str = ""
    formatted: str = ""
    """What the function's own logging configuration makes of it; empty where it has none."""

    @property
    def text(self) -> str:
        """What a reader of the task's log sees."""
        return self.formatted or "\n".join(filter(None, (self.message, self.traceback)))


def mark_of(secret: str) -> bytes:
    """How lines of an instance begin that are not text."""
    return b"\x1e" + secret.encode()


def cause_line(mark: bytes, cause: Cause) -> bytes:
    """The line after which everything on the stream is due to ``cause``."""
    return mark + b"@" + json.dumps(cause).encode() + b"\n"


def record_lines(mark: bytes, record: LoggedRecord, cause: Cause) -> bytes:
    """The lines that say a record."""
    level, logger, *texts = record
    data = json.dumps([[level, shortened(logger, 200), *map(shortened, texts)], cause]).encode()
    parts = [data[at : at + _PART] for at in range(0, len(data), _PART)]
    *begun, last = parts
    return b"".join(mark + b"+" + part + b"\n" for part in begun) + mark + b"=" + last + b"\n"


def parse_cause(data: bytes) -> Cause:
    """What :func:`cause_line` has said. Raises ValueError for anything else."""
    task, request = json.loads(data)
    return Cause(str(task), str(request))


def parse_record(data: bytes) -> tuple[LoggedRecord, Cause]:
    """What :func:`record_lines` has said. Raises ValueError for anything else."""
    (level, *texts), cause = json.loads(data)
    logger, message, traceback, formatted = map(str, texts)
    if level not in LEVELS:
        raise ValueError(f"{level!r} is no level")
    return LoggedRecord(level, logger, message, traceback, formatted), Cause(*map(str, cause))


def level_name(number: int) -> str:
    """The highest of ``LEVELS`` that a level of Python's logging reaches."""
    reached = [name for name, least in LEVELS.items() if number >= least]
    return reached[-1] if reached else "debug"


def shortened(text: str, most: int = MOST) -> str:
    """``text``, or its beginning and its end where it has more than ``most`` characters."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters are left out …\n{text[-half:]}"
