"""How a function calls other functions: through its instance's own host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

from skipper.errors import CallError, DeadlineError, TooLargeError
from skipper.instance.link import HostLink
from skipper.outcomes import Outcome, kind_of
from skipper.values.envelope import is_envelope, unpack
from skipper.values.opening import NO_PLACES, Places
from skipper.wire import calls
from skipper.wire.frames import Frame, FrameKind


class CallContext(NamedTuple):
    """What a call passes on to the calls that it makes."""

    depth: int
    """How many calls stand above it."""
    request_id: str
    parent: str
    """Id of the task that it is an attempt of, or a part of; empty for any other direct call."""
    ends: float = math.inf
    """Its deadline, in seconds of this process's monotonic clock."""
    is_task: bool = False
    models: list[str] | None = None
    """Versions of models that it has asked for so far, as replies name them."""
    key: str = ""
    """By what it was sent to a version of a model; empty for its request id."""

    def budget_ms(self) -> int:
        """Milliseconds that are left, 0 where it has no deadline. Raises DeadlineError for none."""
        if self.ends == math.inf:
            return 0
        if (left_ms := int((self.ends - time.monotonic()) * 1000)) <= 0:
            raise DeadlineError("the deadline of the call that makes this one has passed")
        return left_ms


NO_CALL = CallContext(0, "", "")
current: ContextVar[CallContext] = ContextVar("current", default=NO_CALL)


def note_model(label: str) -> None:
    """Have the reply of the present call name a version of a model."""
    used = current.get().models
    if used is not None and label not in used:
        used.append(label)


def body_of(payload: bytes) -> bytes:
    """The value's body in a REPLY's payload. Raises the error that it stands for."""
    outcome, _, body = calls.parse_reply(payload)
    if outcome == Outcome.OK:
        return body
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

    def result(self, timeout: float | None = None) -> bytes:
        """Wait for the body of the task's value.

        Raises CallError where it ends without one, TimeoutError after ``timeout`` seconds.
        """
        budget = current.get().budget_ms()
        if timeout is not None:
            given = max(1, int(timeout * 1000))
            budget = min(budget or given, given)
        started = time.monotonic()
        payload = _payload(self.id, b"", calls.WAIT, budget)
        try:
            return body_of(self._link.wait_for(self._link.ask(payload)).payload)
        except DeadlineError:
            if timeout is not None and time.monotonic() - started >= timeout:
                raise TimeoutError(f"task {self.id} has not ended within {timeout} s") from None
            raise


class HostCaller:
    """Implements :class:`skipper.function.decorators.Caller` on the instance's socket.

    A body may have at most ``max_body`` bytes, 0 for any number; ``places`` is where its large
    parts lie, which belong to this process for as long as the call lasts.
    """

    def __init__(self, link: HostLink, max_body: int = 0, places: Places = NO_PLACES) -> None:
        self._link, self._max_body, self.places = link, max_body, places

    def call(self, name: str, body: bytes) -> bytes:
        with self._sent(body):
            id_ = self._ask(name, body, 0, current.get().budget_ms())
            return body_of(self._link.wait_for(id_).payload)

    def spawn(self, name: str, body: bytes, *, detach: bool = False) -> SpawnedTask:
        flags = calls.SPAWN | (calls.DETACH if detach else 0)
        with self._sent(body):
            id_ = self._ask(name, body, flags)
            reply = json.loads(body_of(self._link.wait_for(id_).payload))
        return SpawnedTask(self._link, reply["id"])

    async def call_async(self, name: str, body: bytes) -> bytes:
        with self._sent(body):
            return await self._called(name, body)

    @contextlib.contextmanager
    def _sent(self, body: bytes) -> Iterator[None]:
        """Forget afterwards what has gone to the spool for ``body``."""
        try:
            yield
        finally:
            if is_envelope(body):
                self.places.spool.remove(unpack(body).spooled)

    async def _called(self, name: str, body: bytes) -> bytes:
        id_ = self._ask(name, body, 0, current.get().budget_ms())
        # In a thread, because waiting for the socket would hold up the loop's other calls.
        reply = asyncio.ensure_future(asyncio.to_thread(self._link.wait_for, id_))
        try:
            return body_of((await asyncio.shield(reply)).payload)
        except asyncio.CancelledError:
            # The thread cannot be interrupted; the reply to this, which comes at once, frees it.
            self._link.send(FrameKind.CANCEL, id_)
            reply.add_done_callback(self._discard)
            raise

    def _discard(self, reply: asyncio.Future[Frame]) -> None:
        """Forget what a reply that came too late has in the spool."""
        if not reply.cancelled() and reply.exception() is None:
            self.places.spool.remove(calls.spooled_in_reply(reply.result().payload))

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
    ids = f"{context.request_id}/{context.parent}"
    head = calls.CallHead(budget_ms, flags, context.depth + 1, name, ids, context.key)
    return calls.call_head(head) + body
