"""Calls at a fixed rate, whatever becomes of those before: a late answer delays nobody's clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from bench.calls import Caller

CONNECTIONS = 16
"""So many calls may be under way; each connection makes every sixteenth."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One call. Times are of ``time.perf_counter``, in seconds."""

    due: float
    ended: float
    status: int
    """0 where there was no answer."""
    headers: dict[str, str]

    @property
    def took_s(self) -> float:
        """From when it was due, so that waiting for its connection counts."""
        return self.ended - self.due


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Calls of one kind to one place, ``per_s`` of them."""

    port: int
    path: str
    body: str
    per_s: float

    @contextmanager
    def kept(self) -> Iterator[list[Timed]]:
        """Make calls for as long as the block lasts; what has come of them, once it is over."""
        stop, began = threading.Event(), time.perf_counter() + 0.05
        found: list[Timed] = []
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            lanes = [pool.submit(self._lane, began, number, stop) for number in range(CONNECTIONS)]
            try:
                yield found
            finally:
                stop.set()
            for lane in lanes:
                found += lane.result()
        found.sort(key=lambda call: call.due)

    def _lane(self, began: float, number: int, stop: threading.Event) -> list[Timed]:
        caller, made = Caller(self.port), []
        while not stop.wait(max(0.0, (due := began + number / self.per_s) - time.perf_counter())):
            made.append(self._call(caller, due))
            number += CONNECTIONS
        caller.close()
        return made

    def _call(self, caller: Caller, due: float) -> Timed:
        try:
            answer = caller.ask("POST", self.path, self.body.encode())
            status, headers = answer.status, answer.headers
        except OSError:
            status, headers = 0, {}
        return Timed(due=due, ended=time.perf_counter(), status=status, headers=headers)
