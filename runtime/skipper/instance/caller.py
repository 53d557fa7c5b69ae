"""How a function calls other functions: through its instance's own host."""

from __future__ import annotations

import asyncio
import json
import math
import time
from contextvars import ContextVar
from typing import Any, NamedTuple

from skipper.errors import CallError, DeadlineError, TooLargeError
from skipper.instance.link import HostLink
from skipper.outcomes import Outcome, kind_of
from skipper.wire import calls
from skipper.wire.frames import FrameKind


class CallContext(NamedTuple):
    """What a call passes on to the calls that it makes."""

    depth: int
    """How many calls stand above it."""
    request_id: str
    parent: str
    """Id of the task that it is an attempt of; empty in a direct call."""
    ends: float = math.inf
    """Its deadline, in seconds of this process's monotonic clock."""

    def budget_ms(self) -> int:
        """Milliseconds that are left, 0 where it has no deadline. Raises DeadlineError for none."""
        if self.ends == math.inf:
            return 0
        if (left_ms := int((self.ends - time.monotonic()) * 1000)) <= 0:
            raise DeadlineError("the deadline of the call that makes this one has passed")
        return left_ms


_NO_CALL = CallContext(0, "", "")
current: ContextVar[CallContext] = ContextVar("current", default=_NO_CALL)


def value_of(payload: bytes) -> Any:
    """The value in a REPLY's payload, as plain data. Raises the error it stands for."""
    outcome, _, body = calls.parse_reply(payload)
    if outcome == Outcome.OK:
        return json.loads(body) if body else None
    problem = json.loads(body)
    error = kind_of(outcome).error
    if issubclass(error, CallError):
        raise error(problem["detail"], problem)
    raise error(problem["detail"])


class SpawnedTask:
    """A task that this function started."""

    def __init__(self, link: HostLink, task_id: str) -> None:
        self._link = link
        self.id = task_id

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the task's value.

        Raises CallError where it ends without one, TimeoutError after ``timeout`` seconds.
        """
        budget = current.get().budget_ms()
        if timeout is not None:
            given = max(1, int(timeout * 1000))
            budget = min(budget or given, given)
        started = time.monotonic()
        payload = _payload(self.id, b"", calls.WAIT, budget)
        try:
            return value_of(self._link.wait_for(self._link.ask(payload)).payload)
        except DeadlineError:
            if timeout is not None and time.monotonic() - started >= timeout:
                raise TimeoutError(f"task {self.id} has not ended within {timeout} s") from None
            raise


class HostCaller:
    """Implements :class:`skipper.function.decorators.Caller` on the instance's socket.

    A body may have at most ``max_body`` bytes, 0 for any number.
    """

    def __init__(self, link: HostLink, max_body: int = 0) -> None:
        self._link, self._max_body = link, max_body

    def call(self, name: str, body: bytes) -> Any:
        id_ = self._ask(name, body, 0, current.get().budget_ms())
        return value_of(self._link.wait_for(id_).payload)

    def spawn(self, name: str, body: bytes) -> SpawnedTask:
        id_ = self._ask(name, body, calls.SPAWN)
        return SpawnedTask(self._link, value_of(self._link.wait_for(id_).payload)["id"])

    async def call_async(self, name: str, body: bytes) -> Any:
        id_ = self._ask(name, body, 0, current.get().budget_ms())
        try:
            # In a thread, because waiting for the socket would hold up the loop's other calls.
            return value_of((await asyncio.to_thread(self._link.wait_for, id_)).payload)
        except asyncio.CancelledError:
            # The thread cannot be interrupted; the reply to this, which comes at once, frees it.
            self._link.send(FrameKind.CANCEL, id_)
            raise

    def _ask(self, name: str, body: bytes, flags: int, budget_ms: int = 0) -> int:
        """Send a call; its id. Raises TooLargeError for a body that hosts would not hold."""
        if 0 < self._max_body < len(body):
            raise TooLargeError(
                f"{name} was to be sent {len(body) / (1 << 20):.1f} MiB of JSON; at most "
                f"{self._max_body / (1 << 20):g} MiB are taken (pools.*.max_result_mb)"
            )
        return self._link.ask(_payload(name, body, flags, budget_ms))


def _payload(name: str, body: bytes, flags: int, budget_ms: int = 0) -> bytes:
    context = current.get()
    head = calls.CallHead(
        budget_ms, flags, context.depth + 1, name, f"{context.request_id}/{context.parent}"
    )
    return calls.call_head(head) + body
