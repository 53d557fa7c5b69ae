"""All output of the tree: what the children write and what the launcher logs.

Each line goes as a record to the terminal (standard error) and as JSON to ``.skipper/logs``.
Nothing here waits for either of them, so that children never wait for their output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from types import TracebackType
from typing import Any, Self

from skipper.launcher.lines import (
    LineSplitter,
    LogFormatter,
    Record,
    as_json,
    is_shown,
    parse,
    rank,
)
from skipper.settings.environment import wants_colour
from skipper.settings.masking import secrets_of
from skipper.settings.model import Settings
from skipper.settings.redaction import Redactor
from skipper.sink import LogSink, RotatingFile, to_descriptor

NAME = "launcher"
_TERMINAL_LIMIT = 1 << 20
_FILE_LIMIT = 8 << 20
_CLOSE_S = 1.0
_LAST_READS = 32


class LogOutput:
    """The terminal and the log files of one tree, as a context. With ``quiet``, the files alone."""

    def __init__(
        self, settings: Settings, names: tuple[str, ...], *, quiet: bool = False, terminal: int = 2
    ) -> None:
        self.log_folder = settings.state_dir / "logs"
        self.is_json = settings.log.format == "json"
        self.colour = not self.is_json and wants_colour(os.isatty(terminal))
        self._settings = settings.log
        self.redact = Redactor(secrets_of(settings))
        """Takes this tree's secrets out of whatever is written."""
        self._format = LogFormatter(
            (*names, NAME), colour=self.colour, tracebacks=not settings.gateway.shows_tracebacks
        )
        self._encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        self._files = RotatingFile(self.log_folder, settings.retention.logs_mb << 20)
        limit = min(_FILE_LIMIT, self._files.share)
        self._followed: list[ChildOutput] = []
        self._file = LogSink(self._files.write, limit=limit, dropped=self._missing_in_file)
        self._terminal = (
            None
            if quiet
            else LogSink(to_descriptor(terminal), limit=_TERMINAL_LIMIT, dropped=self._missing)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file.close(_CLOSE_S):
            self._files.close()
        if self._terminal:
            self._terminal.close(_CLOSE_S)

    def log(self, level: str, message: str, **fields: Any) -> None:
        """Log a line of the launcher's own."""
        self.write(self.redact.of_data(_record(level, message, **fields)))

    def log_to_files(self, level: str, message: str, **fields: Any) -> None:
        """A line for the log files alone, where the terminal shows the same in another form."""
        self._file.put(as_json(self.redact.of_data(_record(level, message, **fields))))

    def show(self, text: str) -> None:
        """Text for people, as it is; not part of the log."""
        if self._terminal and not self.is_json:
            self._terminal.put(self._encoded(text))

    def write(self, record: Record) -> None:
        """Write a record without secrets to the files and, if its level is, to the terminal."""
        line = as_json(record)
        self._file.put(line)
        if self._terminal and is_shown(record, self._settings):
            self._terminal.put(line if self.is_json else self._encoded(self._format(record)))

    def follow(self, name: str, fd: int) -> ChildOutput:
        """Take all that the child ``name`` writes to ``fd``, which is closed at its end."""
        self._followed = [each for each in self._followed if not each.ended.is_set()]
        self._followed.append(ChildOutput(self, name, fd))
        return self._followed[-1]

    def stop_following(self) -> None:
        """Take what is still in the pipes and let go of them, before the loop ends."""
        for each in self._followed:
            each.close()

    def _encoded(self, text: str) -> bytes:
        return text.encode(self._encoding, "replace")

    def _missing(self, count: int) -> bytes:
        record = _record(
            "warning", f"{count} lines are not shown here: the terminal reads too slowly"
        )
        return as_json(record) if self.is_json else self._encoded(self._format(record))

    def _missing_in_file(self, count: int) -> bytes:
        return as_json(
            _record("warning", f"{count} lines are not in this file: the disk is too slow")
        )


class ChildOutput:
    """One child's output, carried to the :class:`LogOutput` line by line."""

    def __init__(self, output: LogOutput, name: str, fd: int) -> None:
        self._output, self._name, self._fd = output, name, fd
        self._splitter = LineSplitter()
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.last_message = ""
        """The last error the child logged, or else the last line it wrote."""
        self._last_rank = 0
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Take what is there and let go of the pipe."""
        if self.ended.is_set():
            return
        with contextlib.suppress(OSError):
            for _ in range(_LAST_READS):
                self._feed(os.read(self._fd, 65536))
        self._end()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._feed(data)
        else:
            self._end()

    def _feed(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            self._take(line)

    def _end(self) -> None:
        if rest := self._splitter.rest():
            self._take(rest)
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.ended.set()

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        record = self._output.redact.of_data(parse(line, self._name, time.time()))
        if rank(record) >= self._last_rank:
            self.last_message, self._last_rank = _summary(record), rank(record)
        self._output.write(record)


def _summary(record: Record) -> str:
    """A record in one line: its message, and what was raised."""
    message, _, _ = str(record["message"]).partition("\n")
    raised = str(record.get("traceback", "")).strip().rpartition("\n")[2]
    return f"{message}: {raised}" if raised else message


def _record(level: str, message: str, **fields: Any) -> Record:
    return {"ts": round(time.time(), 3), "level": level, "name": NAME, "message": message, **fields}
