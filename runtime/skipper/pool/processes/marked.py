"""Lines of an instance's output, read: text, and records of its function's logging. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from skipper.pool.processes.plain_text import plain
from skipper.wire.lines import Cause, LoggedRecord, parse_cause, parse_record

_MOST = 1 << 20
"""Bytes of one record: its instance says fewer."""


class MarkedLine(NamedTuple):
    """A line that a function has printed, or a record that it has logged."""

    text: str
    record: LoggedRecord | None = None
    cause: Cause | None = None
    """What it is due to; None where the instance does not say so."""
    is_unfinished: bool = False
    """Whether its end has not come: a progress bar, as it stands there now."""


class LineReader:
    """Turns the lines of one stream into what they say. Lines with ``mark`` are not text."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark
        self._cause: Cause | None = None
        self._begun = bytearray()

    def read(self, raw: Sequence[bytes], left_out: int = 0) -> list[MarkedLine]:
        """What these lines say, of which so many are missing at the beginning."""
        if left_out:  # and with them perhaps whose the others are
            self._cause = None
            self._begun.clear()
        return [line for each in raw for line in self._lines(each)]

    def present(self, begun: bytes) -> MarkedLine | None:
        """What stands in the line that has begun; None for nothing that anybody would read."""
        text = plain(begun.partition(self._mark)[0].decode(errors="replace"))
        return MarkedLine(text, cause=self._cause, is_unfinished=True) if text.strip() else None

    def _lines(self, raw: bytes) -> Iterator[MarkedLine]:
        text, mark, said = raw.partition(self._mark)
        if text or not mark:
            yield MarkedLine(plain(text.decode(errors="replace")), cause=self._cause)
        if mark and (line := self._said(said[:1], said[1:])) is not None:
            yield line

    def _said(self, what: bytes, data: bytes) -> MarkedLine | None:
        try:
            if what == b"@":
                whose = parse_cause(data)
                self._cause = whose if any(whose) else None
            elif what in (b"+", b"=") and len(self._begun) < _MOST:
                self._begun += data
                if what == b"=":
                    return self._record()
        except (ValueError, TypeError):  # cut off: its writer was killed, or its middle was lost
            self._begun.clear()
        return None

    def _record(self) -> MarkedLine:
        logged, cause = parse_record(bytes(self._begun))
        self._begun.clear()
        _, _, *texts = logged
        record = LoggedRecord(logged.level, logged.logger, *map(plain, texts))
        return MarkedLine(record.text, record, cause if any(cause) else None)
