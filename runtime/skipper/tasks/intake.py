"""Accepts tasks, and answers for those that have ended.

What the gateway does for its clients, and a host for its instances.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from skipper.blobs import BlobStore
from skipper.errors import UnavailableError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, tasks
from skipper.ledger.records import Accepted, NewTask, Result
from skipper.spec import FunctionSpec
from skipper.task import Outcome, State, Task, new_id
from skipper.wire import calls

_OUTCOMES = {
    State.FAILED: Outcome.FAILED,
    State.TIMED_OUT: Outcome.TIMED_OUT,
    State.CANCELLED: Outcome.CANCELLED,
    State.CRASHED: Outcome.DIED,
    State.EXPIRED: Outcome.TIMED_OUT,
}


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A call to be made a task."""

    spec: FunctionSpec
    body: bytes
    request_id: str | None = None
    parent_id: str | None = None
    depth: int = 0
    idempotency_key: str | None = None
    priority: int | None = None
    """What the caller says in place of the function, as in ``expires_s``."""
    delay_s: float = 0.0
    expires_s: float | None = None
    """Counted from the end of the delay."""


class Intake:
    """Writes tasks into the ledger, durably, and only then has them published.

    ``publish(pool, id)`` makes an accepted task known where it can run; it may fail or do nothing,
    since hosts look into the ledger themselves.
    """

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        inline_bytes: int,
        publish: Callable[[str, str], None],
    ) -> None:
        self._ledger, self._blobs = ledger, blobs
        self._inline_bytes, self._publish = inline_bytes, publish

    async def accept(self, submission: Submission) -> tuple[Accepted, Task]:
        """What became of it, and the task as it was accepted, once it is certain to be run.

        Raises SkipperError where it is not. Under an idempotency key that was known the task of the
        answer is not the one that was accepted then; only the id is.
        """
        failpoint("intake.begun")
        spec, body, now = submission.spec, submission.body, time.time()
        ref = await self._stored(body) if len(body) > self._inline_bytes else None
        failpoint("intake.stored")
        due, expires_s = now + submission.delay_s, submission.expires_s or spec.expires_s
        new = NewTask(
            id=new_id(),
            function=spec.name,
            kind=spec.kind,
            pool=spec.pool,
            body=None if ref else body,
            body_ref=ref,
            max_attempts=spec.max_attempts,
            priority=spec.priority if submission.priority is None else submission.priority,
            timeout_s=spec.timeout_s,
            created_at=now,
            available_at=due,
            expires_at=None if expires_s is None else due + expires_s,
            parent_id=submission.parent_id,
            depth=submission.depth,
            request_id=submission.request_id,
            idempotency_key=submission.idempotency_key,
            idempotency_hash=_fingerprint(spec.name, body) if submission.idempotency_key else None,
        )
        accepted = await self._ledger.merge(tasks.accept_all, new)
        failpoint("intake.committed")
        if accepted.is_new and not submission.delay_s:
            self._publish(spec.pool, accepted.id)
            failpoint("intake.published")
        return accepted, _as_accepted(new)

    async def _stored(self, body: bytes) -> str:
        try:
            return await asyncio.to_thread(self._blobs.put, body)
        except OSError as error:
            raise UnavailableError(f"Its input cannot be stored: {error}.") from None


def _as_accepted(new: NewTask) -> Task:
    """The record that was written, without reading it back."""
    return Task(
        id=new.id,
        function=new.function,
        kind=new.kind,
        pool=new.pool,
        state=State.QUEUED,
        max_attempts=new.max_attempts,
        priority=new.priority,
        timeout_s=new.timeout_s,
        created_at=new.created_at,
        available_at=new.available_at,
        expires_at=new.expires_at,
        parent_id=new.parent_id,
        request_id=new.request_id,
    )


async def value_of(result: Result, blobs: BlobStore) -> bytes:
    """The JSON of a succeeded task's value. Raises FileNotFoundError where it has expired."""
    if result.ref is not None:
        return await asyncio.to_thread(blobs.get, result.ref)
    return result.value or b"null"


async def reply_of(result: Result, blobs: BlobStore) -> bytes:
    """What a direct call would have answered, for a task that has ended."""
    task = result.task
    served = calls.served_by(task.code or "", (task.model or "").split())
    if task.state is State.SUCCEEDED:
        try:
            return calls.reply(Outcome.OK, served, await value_of(result, blobs))
        except FileNotFoundError:
            return calls.problem(Outcome.UNAVAILABLE, "the result is no longer stored", served)
    error = dict(task.error or {"detail": f"the task ended {task.state}"})
    outcome = Outcome[str(error.pop("outcome", _OUTCOMES[task.state].name)).upper()]
    return calls.reply(outcome, served, json.dumps(error).encode())


def _fingerprint(function: str, body: bytes) -> str:
    return hashlib.sha256(function.encode() + b"\0" + body).hexdigest()
