"""Lines of log: cut from a child's output, read into records, written for people or as JSON. Pure.

A *record* is a dict as :mod:`skipper.role` writes it: ``ts``, ``level``, ``name``, ``message`` and
any more. Whatever is no such JSON object becomes the message of a record of its own.
"""

from __future__ import annotations

import json
import re
import time
from typing import Any
from zlib import crc32

from skipper.outcomes import FAILURE
from skipper.settings.model import LogSettings
from skipper.wire.lines import LEVELS

Record = dict[str, Any]

MAX_LINE = 256 * 1024
"""A longer line is cut there."""

_SHOWN = {
    "debug": "DEBUG",
    "info": "INFO ",
    "warning": "WARN ",
    "error": "ERROR",
    "critical": "FATAL",
}
_LEVEL_COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "1;31"}
_NAME_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
_NOT_FIELDS = frozenset({"ts", "level", "name", "logger", "message"})
_TOLD = _NOT_FIELDS | {"event", "function", "outcome"}
"""What the message of a record about a function's failure says."""
_OF_FUNCTIONS = frozenset({FAILURE, "broken"})
_OF_REQUESTS = _NOT_FIELDS | {"event"}
# control characters of ASCII and Latin-1, and those that turn the direction of text
_UNSAFE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_VALKEY = re.compile(
    r"\d+:(?:signal-handler \(\d+\)|[A-Z] \d+ \w+ \d+ [\d:.]+) (?:([#*.-]) )?(.*)", re.DOTALL
)
_VALKEY_HARMLESS = ("overcommit", "ready to exit")


class LineSplitter:
    """Cuts a stream of bytes into lines, in bounded memory."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._lost = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes."""
        *ends, begun = data.split(b"\n")
        lines = []
        for end in ends:
            self._add(end)
            lines.append(self.rest())
        self._add(begun)
        return lines

    def rest(self) -> bytes:
        """The line that has begun and not ended; it is taken out."""
        line = bytes(self._begun).removesuffix(b"\r")
        if self._lost:
            line += b" [and %d bytes more]" % self._lost
        self._begun.clear()
        self._lost = 0
        return line

    def _add(self, piece: bytes) -> None:
        kept = piece[: MAX_LINE - len(self._begun)]
        self._begun += kept
        self._lost += len(piece) - len(kept)


def parse(line: bytes, name: str, now: float) -> Record:
    """The record of one line that the child ``name`` wrote."""
    if line.startswith(b"{"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict) and isinstance(record.get("message"), str):
            return {"ts": now, "level": "info", "name": name} | record
    text = neutral(line.decode("utf-8", "replace"))
    if found := _VALKEY.fullmatch(text):
        return {
            "ts": now,
            "level": _valkey_level(*found.groups()),
            "name": name,
            "message": found[2],
        }
    return {"ts": now, "level": "info", "name": name, "message": text}


def _valkey_level(sign: str | None, message: str) -> str:
    if sign != "#" or any(text in message for text in _VALKEY_HARMLESS):
        return "debug"
    return "warning"


def neutral(text: str) -> str:
    """``text`` with every character that could drive a terminal shown as its escape."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def rank(record: Record) -> int:
    """The weight of a record's level, to compare."""
    return LEVELS.get(str(record.get("level")), 20)


def is_shown(record: Record, settings: LogSettings) -> bool:
    """Whether the settings let it be shown, those of its function included."""
    levels = (settings.level, settings.level_of(str(record.get("function", ""))))
    return rank(record) >= min(LEVELS[level] for level in levels)


def is_error(record: Record) -> bool:
    """Whether it tells of something that failed: a run of a function, a file, Skipper itself."""
    return record.get("event") in _OF_FUNCTIONS or rank(record) >= LEVELS["error"]


def as_json(record: Record) -> bytes:
    """A record as one line of JSON that is safe to print."""
    text = json.dumps(record, default=str, ensure_ascii=False)
    text = _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return text.encode("utf-8", "backslashreplace") + b"\n"


class LogFormatter:
    """Records as lines for people: ``10:31:02 gateway │ INFO  message key=value``.

    ``names`` are the components whose colours are fixed by their place; others have one by name.
    Without ``tracebacks`` those of failures are left out, since callers are answered them.
    """

    def __init__(self, names: tuple[str, ...], *, colour: bool, tracebacks: bool = True) -> None:
        self._width = max(map(len, names), default=0)
        self._palette = {
            name: _NAME_COLOURS[n % len(_NAME_COLOURS)] for n, name in enumerate(names)
        }
        self._colour = colour
        self._tracebacks = tracebacks

    def __call__(self, record: Record) -> str:
        head = self._head(record)
        level = str(record.get("level"))
        first, *more = str(record["message"]).split("\n")
        parts = [neutral(first)]
        not_shown = self._not_shown(record)
        for key, value in record.items():
            if key in not_shown:
                continue
            if isinstance(value, str) and "\n" in value:
                more += value.strip("\n").split("\n")
            else:
                parts.append(self._paint("2", neutral(f"{key}={_plain(value)}")))
        shown = self._paint(_LEVEL_COLOURS.get(level, ""), _SHOWN.get(level, "INFO "))
        lines = [
            f"{head} {shown} {' '.join(parts)}",
            *(f"{head}   {neutral(line)}" for line in more),
        ]
        return "\n".join(lines) + "\n"

    def _not_shown(self, record: Record) -> frozenset[str]:
        event = record.get("event")
        if event not in _OF_FUNCTIONS:
            return _OF_REQUESTS if event == "access" else _NOT_FIELDS
        return _TOLD if self._tracebacks else _TOLD | {"traceback", "same_as"}

    def _head(self, record: Record) -> str:
        name = neutral(str(record.get("name")))
        colour = self._palette.get(name) or _NAME_COLOURS[crc32(name.encode()) % len(_NAME_COLOURS)]
        clock = self._paint("2", _clock(record.get("ts")))
        return f"{clock} {self._paint(colour, f'{name:{self._width}} │')}"

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text


def _clock(ts: object) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(float(ts)))  # type: ignore[arg-type] # what is no number raises
    except (TypeError, ValueError, OverflowError, OSError):
        return "--:--:--"


def _plain(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if not value or " " in value else value
    return json.dumps(value, default=str, ensure_ascii=False)
