"""What a terminal would show of a line, without the codes that drive one. Pure.

Progress bars write over their line, move the cursor and colour it; in a log only what stands there
at the end makes sense.
"""

from __future__ import annotations

import re

# Sequences of ECMA-48: with parameters (colours, cursor), with a string (titles, links), short.
_CODES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|\x1b[\]PX^_][^\x07\x1b\r\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)


def plain(text: str) -> str:
    """Each line of ``text`` as it looks when it is complete, without codes and backspaces."""
    if text.isprintable():
        return text
    return "\n".join(map(_plain_line, text.split("\n")))


def _plain_line(line: str) -> str:
    return _overwritten(_CODES.sub("", _states(line)[0]))


def _states(line: str) -> list[str]:
    """What a line was written over with: the last of it that anybody could see, and what follows.

    One that shows nothing wipes a line, and what stood there is worth more.
    """
    states = line.split("\r")
    seen = [at for at, state in enumerate(states) if _CODES.sub("", state).strip(" \t\b")]
    return states[seen[-1] if seen else -1 :]


def _overwritten(text: str) -> str:
    """What is left where backspaces have set the cursor back."""
    if "\b" not in text:
        return text
    shown: list[str] = []
    at = 0
    for char in text:
        if char == "\b":
            at = max(0, at - 1)
        else:
            shown[at : at + 1] = char
            at += 1
    return "".join(shown)


def last_state(line: bytes, mark: bytes) -> bytes:
    """A line of which more may come, without the states that it has written over.

    What follows ``mark`` is no text, and stays.
    """
    text, marked, said = line.partition(mark)
    states = _states(text.decode("latin-1"))  # codes and blanks are ASCII, also amid UTF-8
    return "\r".join(states).encode("latin-1") + marked + said
