"""How the command line writes: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO

from skipper.errors import SkipperError
from skipper.exits import exit_code

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"

_STATES = {
    **dict.fromkeys(("succeeded", "ready", "live", "serving", "active"), GREEN),
    **dict.fromkeys(("failed", "crashed", "timed_out", "expired"), RED),
    **dict.fromkeys(("broken", "failing", "unserved", "not running"), RED),
    **dict.fromkeys(("queued", "retrying", "starting", "stale", "loading", "paused"), YELLOW),
    "running": CYAN,
}
# Control characters, and those that turn the direction of text: they could drive a terminal.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def info(text: str) -> None:
    """Print a line for the person at the terminal, beside the result."""
    _write(sys.stderr, text)


def show(text: str) -> None:
    """Print a line of the result."""
    _write(sys.stdout, text)


def show_json(value: Any, *, lines: bool = False) -> None:
    """The result as JSON: over several lines for a person, on one for a program or in a stream."""
    indent = 2 if sys.stdout.isatty() and not lines else None
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    _write(sys.stdout, _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def show_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns, aligned. The header in capitals is easy to cut off with ``tail -n +2``."""
    cells = [[neutral(_cell(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    show(paint(_aligned(header, widths), BOLD))
    for row in cells:
        padded = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
        painted = [paint(text, _STATES.get(text.strip(), "")) for text in padded]
        show("  ".join(painted).rstrip())


def show_members(members: Iterable[tuple[str, Any]]) -> None:
    """Names and values, one a line; what is None is left out."""
    known = [(name, _cell(value)) for name, value in members if value is not None]
    width = max((len(name) for name, _ in known), default=0)
    for name, text in known:
        show(f"{paint(f'{name:{width}}', DIM)}  {paint(neutral(text), _STATES.get(text, ''))}")


def local(time: str | None) -> str | None:
    """An RFC 3339 time as a clock here shows it."""
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else None


def span(seconds: float) -> str:
    """A length of time in its largest unit: ``3 h``."""
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """``text`` in a colour, where ``stream`` (standard output) is shown in colour."""
    from skipper.settings.environment import wants_colour

    is_wanted = colour and wants_colour((stream or sys.stdout).isatty())
    return f"\x1b[{colour}m{text}\x1b[0m" if is_wanted else text


def neutral(text: str) -> str:
    """``text`` with every character that could drive a terminal shown as its escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def report(error: SkipperError) -> int:
    """Print what went wrong, where, and what to do next; the exit code."""
    problem = error.problem
    info(f"{paint('error:', RED, sys.stderr)} {neutral(str(error))}")
    if trace := problem.get("traceback"):
        info(neutral(str(trace).rstrip()))
    code = exit_code(error)
    if problem.get("status") == 401:
        info("Put the gateway's key into $SKIPPER_API_KEY.")
    elif task_id := problem.get("task_id"):
        info(f"`skipper logs {neutral(task_id)}` shows what it printed.")
    return code


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, dict):
        return ", ".join(f"{key}={_cell(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:  # a terminal that is not UTF-8
        encoding = stream.encoding or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
