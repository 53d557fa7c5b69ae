"""Failures of functions in the log: what failed, for which request or task, where, and how.

A function that always raises is called as often as anybody likes, so the same traceback is written
once a minute; a record in between names the request or the task whose record has it.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from skipper.outcomes import FAILURE, MEANINGS

TRACEBACK = "traceback"
"""The member of a log record that holds one; empty where nothing was raised."""
PLACE = "at"
"""The member with file and line: where it was raised, else where its function stands."""
SAME_AS = "same_as"
"""The member with the request or the task that the same traceback is logged of."""
PRINTED = "skipper.function"
"""The logger of what functions print and log themselves, which is left as it is."""
INTERVAL_S = 60.0
MAX_REMEMBERED = 1000
"""Tracebacks whose time is remembered; of more different ones a minute, some are written again."""
_FRAME = re.compile(r'^ *File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)
_NOT_OURS = ("/site-packages/", "/.venv/")


def failure(
    outcome: int, problem: Mapping[str, Any], file: str = "", line: int | None = None
) -> dict[str, Any]:
    """What the record of a run that failed has besides its function and its request or task.

    ``file`` and ``line`` are those of the function.
    """
    return {
        "event": FAILURE,
        "outcome": MEANINGS[outcome].name,
        PLACE: f"{file}:{line}" if file else "",
        TRACEBACK: str(problem.get("traceback", "")),
    }


def place_in(text: str, project: Path) -> str:
    """``functions/prices.py:7``: the innermost line of the project's own that a traceback shows.

    The innermost of all where none is the project's; empty where there is none at all.
    """
    frames = [(found["file"], found["line"]) for found in _FRAME.finditer(text)]
    own = [frame for frame in frames if _is_own(frame[0], project)]
    file, line = (own or frames or [("", "")])[-1]
    return f"{in_project(file, project)}:{line}" if file else ""


def in_project(path: str, project: Path) -> str:
    """A path as one in the project, where it lies there."""
    return path.removeprefix(f"{project}/")


def _is_own(file: str, project: Path) -> bool:
    is_inside = file.startswith(f"{project}/") or not file.startswith(("/", "<"))
    return is_inside and not any(part in file for part in _NOT_OURS)


class Tracebacks(logging.Filter):
    """Leaves a traceback in a record, or says in its place which record has the same one."""

    def __init__(self, project: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._project, self._clock = project, clock
        self._written: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        members = vars(record)
        if record.name == PRINTED or TRACEBACK not in members:
            return True
        text = str(members[TRACEBACK])
        is_placed = members.get("event") == "broken"  # its message begins with file and line
        place = "" if is_placed else place_in(text, self._project)
        members[PLACE] = place or in_project(str(members.get(PLACE, "")), self._project)
        if not members[PLACE]:
            del members[PLACE]
        if (same := self._written_of(text, _id_of(members))) is not None:
            del members[TRACEBACK]
            if same:
                members[SAME_AS] = same
        return True

    def _written_of(self, text: str, id_: str) -> str | None:
        """What the same was written of within the last minute; None where it is to be written."""
        if not text:
            return ""
        digest = blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()
        now = self._clock()
        written_at, same = self._written.get(digest, (-INTERVAL_S, ""))
        if now - written_at < INTERVAL_S:
            return same
        self._written[digest] = (now, id_)
        self._written.move_to_end(digest)
        if len(self._written) > MAX_REMEMBERED:
            self._written.popitem(last=False)
        return None


def _id_of(members: Mapping[str, Any]) -> str:
    return str(members.get("task") or members.get("request") or "")


def log_tracebacks(project: Path) -> None:
    """Have this process's log say of failures where they were raised, and how it came to that."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(Tracebacks(project))
