"""What a thread of an instance is at: told of one that keeps calls from beginning."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

from skipper.instance import faults

_LONGEST = 500
"""Characters of such a place."""


def held_by(thread: int) -> str:
    """The function and line that a thread runs: ``spin, functions/f.py:12``.

    The innermost of the project's own files, or of all where it runs none of those; empty for a
    thread that has ended.
    """
    stack = list(_outwards(sys._current_frames().get(thread)))
    places = [(frame, faults.in_project(frame.f_code.co_filename)) for frame in stack]
    own = [
        (frame, file)
        for frame, file in places
        if file != frame.f_code.co_filename and "site-packages" not in file
    ]
    for frame, file in (own or places)[:1]:
        return f"{frame.f_code.co_name}, {file}:{frame.f_lineno}"[:_LONGEST]
    return ""


def _outwards(frame: types.FrameType | None) -> Iterator[types.FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back
