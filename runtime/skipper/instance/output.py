"""What a function prints and logs, on its way to the host: with the call that has caused it.

Python's logging goes to standard error unless the function configures it, in its own way: that
is kept, and the host is told level, logger and traceback of whatever leaves on a standard stream.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from typing import TextIO, cast

from skipper.instance import caller
from skipper.wire.lines import (
    Cause,
    LoggedRecord,
    cause_line,
    level_name,
    mark_of,
    record_lines,
)

_NOBODY = Cause()
_plain = logging.Formatter()
_as_usual: Callable[[logging.StreamHandler[TextIO], logging.LogRecord], None] = (
    logging.StreamHandler.emit
)
_taken: list[CallStream] = []
"""Kept, because a stream that is forgotten closes its descriptor."""


class CallStream(io.TextIOWrapper):
    """A standard stream that tells the host, before what a call prints, which one it is."""

    def __init__(self, stream: io.TextIOWrapper, mark: bytes) -> None:
        # A writer of its own, because a fork's descriptor leads elsewhere than its template's did,
        # of which the old one still knows whether it can be sought in.
        raw = io.FileIO(stream.fileno(), "wb", closefd=False)
        # Line by line, because whoever follows a task sees its output while it runs.
        super().__init__(
            io.BufferedWriter(raw),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=True,
        )
        self.stands_for = stream
        self._mark, self._told = mark, _NOBODY

    def write(self, text: str, /) -> int:
        """Write a text as every stream does."""
        self._tell(cause())
        return super().write(text)

    def put(self, record: LoggedRecord) -> None:
        """Say a record of the log."""
        self.flush()
        self.buffer.write(record_lines(self._mark, record, cause()))
        self.buffer.flush()

    def end_call(self) -> None:
        """What is written from now on, by a library in C perhaps, is no longer this call's."""
        if self._told != _NOBODY:
            self._tell(_NOBODY)
            self.flush()

    def _tell(self, whose: Cause) -> None:
        if whose != self._told:
            self._told = whose
            super().write(cause_line(self._mark, whose).decode())


def cause() -> Cause:
    """What this thread, or this asyncio task, does its work for."""
    context = caller.current.get()
    return Cause(context.parent, context.request_id)


def end_call() -> None:
    """Have the host know that what the present call has printed is over."""
    for stream in _taken:
        if not stream.closed:
            stream.end_call()


def take(mark: str, level: str) -> None:
    """From here on, tell the host what this process prints and logs from ``level`` upwards."""
    _taken[:] = [
        CallStream(cast(io.TextIOWrapper, stream), mark_of(mark))
        for stream in (sys.stdout, sys.stderr)
    ]
    sys.stdout, sys.stderr = _taken
    logging.root.setLevel(level.upper())
    # In force as long as no handler is there: a function's own basicConfig() still counts, which
    # does nothing where the root has one.
    assert logging.lastResort is not None
    logging.lastResort.setLevel(logging.NOTSET)
    logging.StreamHandler.emit = _emit  # type: ignore[method-assign,assignment] # no other way keeps what a function configures


def _emit(handler: logging.StreamHandler[TextIO], record: logging.LogRecord) -> None:
    """Do what ``StreamHandler.emit`` does, with level, logger and traceback for the host."""
    if (ours := _ours(handler.stream)) is None:
        _as_usual(handler, record)
        return
    try:
        ours.put(_logged(handler, record))
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - as logging does: a bad format string fails no function
        handler.handleError(record)


def _ours(stream: object) -> CallStream | None:
    for each in _taken:
        if stream is each or stream is each.stands_for:
            return each
    return None


def _logged(handler: logging.Handler, record: logging.LogRecord) -> LoggedRecord:
    own = handler.format(record) if handler.formatter is not None else ""
    told = [record.exc_text or ""]
    if record.exc_info and not record.exc_text:
        told = [_plain.formatException(record.exc_info)]
    if record.stack_info:
        told.append(record.stack_info)
    return LoggedRecord(
        level=level_name(record.levelno),
        logger=record.name,
        message=record.getMessage(),
        traceback="\n".join(filter(None, told)),
        formatted=own,
    )
