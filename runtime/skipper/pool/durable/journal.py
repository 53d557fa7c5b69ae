"""What running tasks say, on its way to the event store in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

from skipper.errors import SkipperError
from skipper.ledger import Ledger, events
from skipper.ledger.connection import Connection
from skipper.ledger.records import Cut
from skipper.pool.durable.transcript import SLACK, Entry, Transcript
from skipper.pool.processes.output import LINES, POINTS, Bounds, Printed
from skipper.pool.processes.plain_text import plain
from skipper.wire.events import LINE, LOG, EmittedEvent, LeftOut

log = logging.getLogger(__name__)

FLUSH_S = 0.1
QUOTA = 8 << 10
"""Bytes of an attempt that one flush may write once its head is full: 80 KiB a second."""
MAX_WAITING = 32 << 20
"""Bytes, of all tasks, that are kept while they cannot be written."""


@dataclass(frozen=True, kw_only=True)
class JournalLimits:
    """How much is kept, in bytes, as described at the defaults."""

    lines: Bounds = LINES
    points: Bounds = POINTS
    quota: int = QUOTA
    slack: int = SLACK
    waiting: int = MAX_WAITING


class Journal:
    """Collects events and writes them together; ``on_written`` is given the tasks with new ones."""

    def __init__(
        self,
        ledger: Ledger,
        on_written: Callable[[set[str]], None],
        limits: JournalLimits = JournalLimits(),
    ) -> None:
        self._ledger, self._on_written, self._limits = ledger, on_written, limits
        self._transcripts: dict[tuple[str, int, bool], Transcript] = {}
        self._unwritten: list[Entry] = []
        self._cuts: list[Cut] = []
        self._turn = asyncio.Lock()
        self._is_well = True

    def transcript(self, task_id: str, attempt: int, *, is_log: bool) -> Transcript:
        """Where the lines of an attempt go, or its points."""
        key = (task_id, attempt, is_log)
        if (transcript := self._transcripts.get(key)) is None:
            bounds = self._limits.lines if is_log else self._limits.points
            transcript = self._transcripts[key] = Transcript(
                task_id, attempt, is_log=is_log, bounds=bounds
            )
        return transcript

    def add(self, task_id: str, attempt: int, event: EmittedEvent) -> None:
        """Take in what a function has emitted."""
        is_log, data = event.type == LOG, event.data
        if is_log:
            data = data | {"text": plain(str(data.get("text", "")))}
        self.transcript(task_id, attempt, is_log=is_log).add(event.type, data, event.at)

    def print(self, task_id: str, attempt: int, printed: Printed) -> None:
        """Take in what a function has printed just now."""
        transcript, now = self.transcript(task_id, attempt, is_log=True), time.time()
        transcript.skip(printed.left_out)
        for line in printed.lines:
            if line.is_unfinished:  # no line of the log, which has its last state alone
                self.transcript(task_id, attempt, is_log=False).add(
                    LINE, {"stream": printed.stream, "text": line.text}, now
                )
                continue
            data: dict[str, Any] = {"stream": printed.stream, "text": line.text}
            if (record := line.record) is not None:
                data |= {"level": record.level, "logger": record.logger}
                data |= {"formatted": True} if record.formatted else {}
            transcript.add(LOG, data, now)

    def skip(self, task_id: str, attempt: int, left_out: LeftOut) -> None:
        """Count what an instance has left out on its side."""
        for is_log, count in ((True, left_out.lines), (False, left_out.points)):
            if count:
                self.transcript(task_id, attempt, is_log=is_log).skip(count)

    async def flush(self) -> None:
        """Write what is waiting."""
        async with self._turn:
            if self._is_well or not self._unwritten:
                taken = [
                    entry
                    for transcript in self._transcripts.values()
                    for entry in transcript.take(self._limits.quota)
                ]
                self._unwritten += sorted(taken, key=attrgetter("order"))
            entries, self._unwritten = self._unwritten, []
            cuts, self._cuts = self._cuts, []
            if not entries and not cuts:
                return
            try:
                seqs = await self._ledger.record(partial(_write, entries=entries, cuts=cuts))
            except SkipperError as error:
                self._keep(entries, cuts, error)
                return
            self._is_well = True
            self._record_stored(entries, seqs)
            self._on_written({entry.row.task_id for entry in entries})

    def _keep(self, entries: list[Entry], cuts: list[Cut], error: SkipperError) -> None:
        """Have the next flush try again, with the newest where they are too many."""
        self._cuts = cuts + self._cuts
        both = entries + self._unwritten
        size, first = 0, len(both)
        while first and size + both[first - 1].size <= self._limits.waiting:
            first -= 1
            size += both[first].size
        self._unwritten = both[first:]
        if self._is_well or first:
            log.warning("events cannot be stored, %d are dropped: %s", first, error)
        self._is_well = False

    def _record_stored(self, entries: Sequence[Entry], seqs: Sequence[int]) -> None:
        written: dict[Transcript, list[tuple[Entry, int]]] = {}
        for entry, seq in zip(entries, seqs, strict=True):
            written.setdefault(entry.transcript, []).append((entry, seq))
        for transcript, own in written.items():
            transcript.stored(own)
            is_open = (
                transcript.task_id,
                transcript.attempt,
                transcript.is_log,
            ) in self._transcripts
            if (cut := transcript.cut(self._limits.slack if is_open else 0)) is not None:
                self._cuts.append(cut)

    async def close_attempt(self, task_id: str, attempt: int) -> None:
        """Write everything that an attempt has emitted, before its end is recorded."""
        await self._close([(task_id, attempt, is_log) for is_log in (True, False)])

    async def close(self) -> None:
        """Write everything that any attempt has emitted: the host ends."""
        await self._close(list(self._transcripts))

    async def _close(self, keys: Sequence[tuple[str, int, bool]]) -> None:
        transcripts = [
            transcript
            for key in keys
            if (transcript := self._transcripts.pop(key, None)) is not None
        ]
        if not transcripts:
            return
        rest = [entry for transcript in transcripts for entry in transcript.rest()]
        self._unwritten += sorted(rest, key=attrgetter("order"))
        await self.flush()
        if self._is_well and self._cuts:  # of what the first has written
            await self.flush()

    async def run(self) -> None:
        """Flush from time to time, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()


def _write(conn: Connection, entries: Sequence[Entry], cuts: Sequence[Cut]) -> list[int]:
    seqs = events.append(conn, [entry.row for entry in entries])
    events.cut(conn, cuts)
    return seqs
