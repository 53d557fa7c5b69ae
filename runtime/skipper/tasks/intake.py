"""Accepts tasks.

What the gateway does for its clients, and a host for its instances.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from skipper.errors import UnavailableError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, tasks
from skipper.ledger.records import Accepted, NewTask
from skipper.spec import FunctionSpec
from skipper.task import State, Task, new_id
from skipper.values.store import ValueStore
from skipper.values.value import Value


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
        self, ledger: Ledger, values: ValueStore, publish: Callable[[str, str], None]
    ) -> None:
        self._ledger, self._values, self._publish = ledger, values, publish

    async def accept(self, submission: Submission) -> tuple[Accepted, Task]:
        """What became of it, and the task as it was accepted, once it is certain to be run.

        Raises SkipperError where it is not. Under an idempotency key that was known the task of the
        answer is not the one that was accepted then; only the id is.
        """
        failpoint("intake.begun")
        spec, body, now = submission.spec, submission.body, time.time()
        value = await self._stored(body)
        failpoint("intake.stored")
        due, expires_s = now + submission.delay_s, submission.expires_s or spec.expires_s
        new = NewTask(
            id=new_id(),
            function=spec.name,
            kind=spec.kind,
            pool=spec.pool,
            input=value,
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

    async def _stored(self, body: bytes) -> Value:
        try:
            return await self._values.store(body)
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


def _fingerprint(function: str, body: bytes) -> str:
    return hashlib.sha256(function.encode() + b"\0" + body).hexdigest()
