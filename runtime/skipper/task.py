"""The task record: one accepted call, from acceptance to its one terminal state."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class State(StrEnum):
    """Where a task stands. Terminal states are final.

    ::

        accepted ─▶ queued ──claim──▶ running ──┬─▶ succeeded
                     │  ▲               │       ├─▶ failed      it raised, its input did not fit,
                     │  │               │       │               or its function is gone
                     │  │               │       ├─▶ timed_out   its start or its run took too long
                     │  │               │       ├─▶ crashed     its process died
                     │  │               │       └─▶ cancelled
                     │  │               │
                     │  ├─ lost ────────┤   its host died or shut down; uses up no attempt
                     │  │               │   (more than 20 dead hosts: crashed; unwanted: cancelled)
                     │  │               ▼
                     │  └── due ── retrying     it may be tried again, and an attempt is left
                     │                  └─▶ cancelled
                     ├─▶ cancelled
                     └─▶ expired       nobody had started it in time

    A task with a delay is queued, too: nobody claims it before it is due. A claim is an attempt.
    """

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING, State.RETRYING)


TERMINAL = tuple(state for state in State if state.is_terminal)


class Task(BaseModel):
    """A task as the ledger has it. Times are epoch seconds; ``timeout_s`` counts per attempt.

    It waits at least until ``available_at``, and at most until ``expires_at`` for its first start.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    function: str
    kind: str
    pool: str
    state: State
    attempt: int = 0
    max_attempts: int = 1
    priority: int = 0
    timeout_s: float | None = None
    created_at: float
    available_at: float
    expires_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    deadline_at: float | None = None
    cancel_requested: bool = False
    progress: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    model: str | None = None
    code: str | None = None
    parent_id: str | None = None
    request_id: str | None = None
    schedule: str | None = None
    host: str | None = None


LOST = "lost"
"""How an attempt ended whose host died or vanished."""
RELEASED = "released"
"""How an attempt ended that its host gave back, as it does when it shuts down."""


class Attempt(BaseModel):
    """One run of a task.

    ``outcome``: None while it runs, the value of a terminal State, ``LOST`` or ``RELEASED``.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    host: str
    instance: str | None = None
    started_at: float
    ended_at: float | None = None
    code: str | None = None
    model: str | None = None
    outcome: str | None = None
    error: dict[str, Any] | None = None


# --- ids -------------------------------------------------------------------------------------

_TICKS_PER_S = 1 << 16
_RANDOM_BITS = 80
_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_PAIRS = tuple(left + right for left in _DIGITS for right in _DIGITS)


_PUT_BACK = 60 * _TICKS_PER_S


class _Clock:
    """Hands out ticks of the wall clock, each later than the one before, to any thread.

    Unless the clock has been put back by more than a minute: an id that is dated ahead would be
    kept for as much longer.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._last = 0
        self._lock = threading.Lock()

    def tick(self) -> int:
        with self._lock:
            now = int(self._now() * _TICKS_PER_S)
            is_put_back = self._last - now > _PUT_BACK
            self._last = now if is_put_back else max(self._last + 1, now)
            return self._last


_clock = _Clock()


def new_id() -> str:
    """A new task id: 26 lower-case letters and digits, the first ten of which are the time.

    Ids made by one process sort by creation, those of several as well as their clocks agree. The
    other 80 bits are random, so nobody guesses an id from its neighbours.
    """
    return _spell(_clock.tick(), secrets.randbits(_RANDOM_BITS))


def first_id(at: float) -> str:
    """The smallest id that can have been made at ``at`` (seconds since the epoch) or later."""
    return _spell(int(at * _TICKS_PER_S), 0)


def _spell(tick: int, random: int) -> str:
    # 50 bits of time last until the year 2514; ten bits make two digits.
    number = tick << _RANDOM_BITS | random
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
