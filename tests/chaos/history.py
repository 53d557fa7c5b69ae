"""What the driver saw, and what the functions did: two files of lines that only ever grow."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self


class History:
    """The driver's own record: one JSON object a line, on the disk before the next thing happens.

    ``what`` is ``invoke`` (about to ask), then ``ok``, ``fail`` (refused: nothing was done) or
    ``info`` (unknown: the connection broke, or no answer came); the nemesis adds ``fault`` and
    ``recovery``, the webhook's receiver ``event``. ``t`` is this process's monotonic clock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, what: str, **facts: Any) -> None:
        line = json.dumps({"t": time.monotonic(), "what": what, **facts})
        os.write(self._fd, line.encode() + b"\n")

    def entries(self) -> list[dict[str, Any]]:
        """Everything so far."""
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


class Effect(NamedTuple):
    """One line that a function wrote. ``id`` is ``-`` in a direct call."""

    id: str
    attempt: int
    pid: int
    nonce: str
    what: str


@dataclass(frozen=True, kw_only=True)
class Effects:
    """The effect log, in the order in which things happened."""

    by_task: dict[str, list[Effect]]
    direct: dict[str, list[Effect]]
    """By nonce."""

    @classmethod
    def read(cls, path: Path) -> Self:
        by_task: defaultdict[str, list[Effect]] = defaultdict(list)
        direct: defaultdict[str, list[Effect]] = defaultdict(list)
        for line in path.read_text().splitlines() if path.exists() else ():
            id_, attempt, pid, nonce, what = line.split(" ")
            effect = Effect(id_, int(attempt), int(pid), nonce, what)
            if id_ == "-":
                direct[nonce].append(effect)
            else:
                by_task[id_].append(effect)
        return cls(by_task=dict(by_task), direct=dict(direct))
