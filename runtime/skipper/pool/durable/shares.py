"""How many threads each task that runs computes on: the cores, parted among those that run. Pure.

A task alone has all cores. What waits for a call of its own computes nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from skipper.pool.durable.ahead import ClaimedAhead
from skipper.pool.durable.attempt import RunningAttempt, RunningAttempts
from skipper.pool.processes.version import FunctionVersion

SETTLED_S = 0.5
"""Shares change under what runs once they have been due for so long, and it has run for so long:
not for tasks that take milliseconds, nor between the end of one and the start of the next."""


class Shares:
    """Parts ``cores`` among the attempts in ``running``, those that wait in ``ahead`` included."""

    def __init__(self, cores: int, running: RunningAttempts, ahead: ClaimedAhead) -> None:
        self._cores, self._running, self._ahead = cores, running, ahead
        self._seen, self._seen_at = cores, 0.0

    def of(self, version: FunctionVersion) -> int:
        """The share of an attempt that runs or is about to: its function's ``threads=``, if any."""
        return version.spec.threads or self._rest()

    def _rest(self) -> int:
        declared = [
            attempt.version.spec.threads
            for attempt in self._running.values()
            if attempt.version is not None and attempt.version.spec.threads
        ]
        slots = self._ahead.slots
        others = min(slots.capacity, slots.busy + len(self._ahead)) - len(declared)
        return max(1, (self._cores - sum(declared)) // max(1, others))

    def settled(self, now: float) -> Iterator[tuple[RunningAttempt, int]]:
        """Attempts that compute on another number of threads than they should by now."""
        if (share := self._rest()) != self._seen:
            self._seen, self._seen_at = share, now
        if now - self._seen_at < SETTLED_S:
            return
        for attempt in self._running.values():
            instance, version = attempt.instance, attempt.version
            if instance is None or version is None or now - attempt.called_at < SETTLED_S:
                continue
            is_due = instance.threads_told != (share := self.of(version)) or instance.is_telling
            if is_due and now - instance.told_at >= SETTLED_S:
                yield attempt, share
