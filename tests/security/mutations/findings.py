"""What came of mutants: counted, and kept with the bytes where it must not be."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

KEPT = 20
"""So many of what is wrong are kept to be shown."""
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class Findings:
    """Of a number of cases: how they were answered, and what must never come of one."""

    cases: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)

    def is_wrong(self, what: str, case: bytes, detail: object = "") -> None:
        """Something went wrong with these bytes."""
        self.wrong[what] += 1
        if len(self.shown) < KEPT:
            self.shown.append(f"{what}: {case[:2000]!r} {detail}")

    def answered(self, case: bytes, out: bytes) -> None:
        """The gateway has sent ``out`` for ``case``."""
        statuses = [found.decode() for found in _STATUS.findall(out)]
        self.answers.update(statuses or ["nothing"])
        if "500" in statuses:
            self.is_wrong("500", case, out[:1000])
        if out and not out.startswith(b"HTTP/1.1 "):
            self.is_wrong("no response", case, out[:1000])

    def __iadd__(self, other: Findings) -> Self:
        self.cases += other.cases
        self.answers += other.answers
        self.wrong += other.wrong
        self.shown = (self.shown + other.shown)[:KEPT]
        return self


def total(parts: Iterable[Findings]) -> Findings:
    whole = Findings()
    for part in parts:
        whole += part
    return whole


class Tracebacks(logging.Handler):
    """Keeps what is logged with a traceback, whoever logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info is not None:
            self.seen.append(self.format(record))

    def take(self) -> list[str]:
        seen, self.seen = self.seen, []
        return seen
