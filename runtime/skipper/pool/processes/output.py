"""What instances print: read so that they do not wait, cut into lines, and of a flood the last."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from skipper.pace import Pace
from skipper.pool.processes.marked import LineReader, MarkedLine
from skipper.pool.processes.plain_text import last_state
from skipper.pool.tracebacks import PRINTED
from skipper.wire.lines import LEVELS, Cause

output = logging.getLogger(PRINTED)
output.setLevel(logging.DEBUG)  # because each function has a level of its own

OVERHEAD = 100
"""Bytes that a line or a point counts beside those of its own: what it costs to keep."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Bytes that are kept of the beginning and of the end, ``OVERHEAD`` for each event included."""

    head: int
    tail: int


LINES = Bounds(head=512 << 10, tail=512 << 10)
POINTS = Bounds(head=1 << 20, tail=1 << 20)
LINE_LIMIT = 16 << 10
"""Bytes; a longer line is cut into several."""
RATE = 64 << 10
"""Bytes a second that are passed on once the first ``LINES.head`` bytes of a stream have been."""
SWEEP_S = 0.01
"""Between two looks at a stream that brings more than is passed on."""
READS = 64
"""Of 64 KiB each, at most so many in one go."""
SHOW_S = 2.0
"""How long a line may stand there without an end until those who watch see it."""
ECHO_BURST, ECHO_RATE = 256 << 10, 16 << 10
"""Bytes of one instance that the tree's log takes at once, and further ones a second."""
_CHUNK = 64 << 10
_PIPE = 1 << 20  # what Linux lets anybody ask for
_MAX_LINES = LINES.tail // OVERHEAD


class Printed(NamedTuple):
    """Lines of one stream as they came, and how many were left out before them."""

    stream: str
    lines: Sequence[MarkedLine]
    left_out: int = 0


class Backlog:
    """Bytes that are to become lines; of more than 1 MiB or 10,000 lines the last half only."""

    def __init__(self, mark: bytes = b"\x1e") -> None:
        self._mark = mark
        self._data = bytearray()
        self._ends = 0
        self.left_out = 0
        """Lines that were dropped before those that are left."""

    @property
    def has_line(self) -> bool:
        """Whether there is a whole line."""
        return bool(self._ends) or len(self._data) > LINE_LIMIT

    @property
    def begun(self) -> bytes:
        """The line whose end has not come, if it stands alone; else nothing."""
        return b"" if self._ends else bytes(self._data)

    def feed(self, data: bytes) -> None:
        if b"\r" in data:  # a progress bar would soon be too long a line
            begun = self._data.rfind(b"\n") + 1
            lines = (bytes(self._data[begun:]) + data).split(b"\n")
            del self._data[begun:]
            data = b"\n".join(last_state(line, self._mark) for line in lines)
        self._data += data
        self._ends += data.count(b"\n")
        if self._ends > 2 * _MAX_LINES or len(self._data) > 2 * LINES.tail:
            self._shorten()

    def _shorten(self) -> None:
        kept = self._data[-LINES.tail :]
        if kept.count(b"\n") > _MAX_LINES:
            kept = kept[len(kept.rsplit(b"\n", _MAX_LINES + 1)[0]) + 1 :]
        elif (end := kept.find(b"\n", 0, LINE_LIMIT)) >= 0:
            del kept[: end + 1]  # of a line whose beginning is gone
        ends = kept.count(b"\n")
        # Pieces count as lines where a line was too long to be one.
        pieces = (len(self._data) - len(kept)) // LINE_LIMIT
        self.left_out += max(self._ends - ends, pieces)
        self._data, self._ends = kept, ends

    def take(self, budget: int) -> list[bytes]:
        """The next lines, as long as the budget in bytes lasts, with ``OVERHEAD`` for each."""
        lines, at, data = [], 0, self._data
        while budget > 0:
            end = data.find(b"\n", at, at + LINE_LIMIT + 1)
            if end >= 0:
                self._ends -= 1
                following = end + 1
            elif len(data) - at > LINE_LIMIT:
                end = following = at + _whole(data[at : at + LINE_LIMIT])
            else:
                break
            lines.append(bytes(data[at:end]))
            budget -= end - at + OVERHEAD
            at = following
        del data[:at]
        return lines

    def rest(self) -> list[bytes]:
        """All that is left, the line that has no end yet included."""
        if self._ends > _MAX_LINES or len(self._data) > LINES.tail:
            self._shorten()
        lines = self.take(sys.maxsize)
        if self._data:
            lines.append(bytes(self._data))
            self._data.clear()
        return lines


def _whole(piece: bytearray) -> int:
    """The length of ``piece`` without a character of UTF-8 that it cuts in two."""
    for back in range(1, 4):
        byte = piece[-back]
        if byte >= 0xC0:
            return len(piece) - back
        if byte < 0x80:
            break
    return len(piece)


class OutputStream:
    """One stream of an instance. The process does not wait: what it writes is read at once.

    ``on_printed`` is given it line by line at no more than a bounded pace; what is too much for
    that stays in a backlog, of which the oldest lines are dropped.
    """

    def __init__(
        self,
        stream: str,
        descriptor: int,
        on_printed: Callable[[Printed], None],
        mark: bytes,
        show_s: float = SHOW_S,
    ) -> None:
        self._stream, self._descriptor, self._on_printed = stream, descriptor, on_printed
        self._show_s = show_s
        self._backlog, self._pace = Backlog(mark), Pace(LINES.head, RATE)
        self._reader = LineReader(mark)
        self._next_look: asyncio.TimerHandle | None = None
        self._next_show: asyncio.TimerHandle | None = None
        self._shown = b""
        """What was passed on last of a line that had not ended."""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._readable)

    def _readable(self) -> None:
        self._read(1)
        self._pass_on(self._pace.left())
        if self._backlog.has_line and self._descriptor >= 0:
            self._begin_sweeping()
        elif self._next_show is None and self._backlog.begun:
            self._next_show = asyncio.get_running_loop().call_later(self._show_s, self._show)

    def _show(self) -> None:
        """Pass on what stands in the line that has no end yet, and look again if it changes."""
        self._next_show = None
        begun = self._backlog.begun
        if not begun or begun == self._shown or self._descriptor < 0:
            return
        self._shown = begun
        if (present := self._reader.present(begun)) is not None:
            self._on_printed(Printed(self._stream, [present]))

    def _begin_sweeping(self) -> None:
        """Look now and then from here on: a notice of every write would cost more than the data."""
        asyncio.get_running_loop().remove_reader(self._descriptor)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # this user's pipes are too large in sum already
                fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _PIPE)
        self._sweep()

    def _sweep(self) -> None:
        self._read(READS)
        self._pass_on(self._pace.left())
        if self._descriptor < 0:
            return
        loop = asyncio.get_running_loop()
        if self._backlog.has_line:
            self._next_look = loop.call_later(SWEEP_S, self._sweep)
        else:
            self._next_look = None
            loop.add_reader(self._descriptor, self._readable)

    def _read(self, times: int) -> None:
        """Take in what has been written by now; closes the stream at its end."""
        for _ in range(times):
            if self._descriptor < 0:
                return
            try:
                data = os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            self._backlog.feed(data)

    def _pass_on(self, budget: int) -> None:
        self._emit(self._backlog.take(budget))

    def _emit(self, lines: list[bytes]) -> None:
        left_out = self._backlog.left_out
        if not lines and not left_out:
            return
        self._backlog.left_out, self._shown = 0, b""
        self._pace.spend(sum(map(len, lines)) + OVERHEAD * len(lines))
        said = self._reader.read(lines, left_out)
        if said or left_out:
            self._on_printed(Printed(self._stream, said, left_out))

    def drain(self) -> None:
        """Pass on all that was written by now: what comes next is another call's."""
        self._read(READS)
        self._emit(self._backlog.rest())
        self._pace.renew()

    def close(self) -> None:
        if self._descriptor < 0:
            return
        for timer in (self._next_look, self._next_show):
            if timer is not None:
                timer.cancel()
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._emit(self._backlog.rest())


class Echo:
    """What one instance prints, in the tree's log: all of it, unless it is too much for that.

    Text counts as information: it is not there where the log begins at a higher level.
    """

    def __init__(self, level: str = "info", pace: Pace | None = None) -> None:
        self._least = LEVELS[level]
        self._pace = pace or Pace(ECHO_BURST, ECHO_RATE)
        self._left_out = 0
        self._extra: Mapping[str, object] = {}

    def write(self, printed: Printed, extra: Mapping[str, object], cause: Cause | None) -> None:
        """Log lines; they are due to ``cause`` unless they say themselves what caused them."""
        self._left_out += printed.left_out
        self._extra = extra
        for line in printed.lines:
            if self._pace.left() <= 0:
                self._left_out += 1
                continue
            self.end()
            self._pace.spend(len(line.text) + OVERHEAD)
            self._log(line, {**extra, **_caused_by(line.cause or cause)})

    def _log(self, line: MarkedLine, extra: dict[str, object]) -> None:
        level, message = LEVELS["info"], line.text
        if line.is_unfinished:
            extra |= {"unfinished": True}
        if (record := line.record) is not None:
            level, message = LEVELS[record.level], record.message
            extra |= {"logger": record.logger}
            if record.traceback:
                extra |= {"traceback": record.traceback}
        if level >= self._least:
            output.log(level, "%s", message, extra=extra)

    def end(self) -> None:
        """Log what has been left out by now."""
        if self._left_out and LEVELS["info"] >= self._least:
            output.info("… %d lines of output are left out here", self._left_out, extra=self._extra)
        self._left_out = 0


def _caused_by(cause: Cause | None) -> dict[str, object]:
    return {name: id_ for name, id_ in cause._asdict().items() if id_} if cause else {}
