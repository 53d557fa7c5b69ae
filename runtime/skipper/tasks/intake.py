"""The one way in which tasks come to be: calls, retries, schedules, webhooks.

Each is written into the ledger, in the transaction that it needs, and announced once that is
committed. Nobody else accepts or announces a new task.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from skipper.errors import UnavailableError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, endings, schedules, tasks
from skipper.ledger.records import Accepted, Firing, NewTask
from skipper.settings.webhooks import Webhook
from skipper.spec import FunctionSpec
from skipper.task import State, Task, new_id
from skipper.tasks.announcer import Announcer
from skipper.tasks.deliveries import trial
from skipper.values.store import ValueStore, reason_of
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
    """The caller's, in place of the function's; so is ``expires_s``."""
    delay_s: float = 0.0
    expires_s: float | None = None
    """Counted from the end of the delay."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """The task that a submission has become, or had become under the same idempotency key before.

    ``matches``: it was asked for with the same function and body.
    """

    task: Task
    is_new: bool = True
    matches: bool = True


class Intake:
    """Accepts tasks. All methods raise SkipperError where the ledger does not take them."""

    def __init__(self, ledger: Ledger, values: ValueStore, announcer: Announcer) -> None:
        self._ledger, self._values, self._announcer = ledger, values, announcer

    async def accept(self, submission: Submission) -> Acceptance:
        """Make a call a task, once that is certain to be run."""
        failpoint("intake.begun")
        value = await self._stored(submission.body)
        failpoint("intake.stored")
        new = _new_task(submission, value, time.time())
        accepted = await self._committed(new)
        if accepted.earlier is not None:
            return Acceptance(task=accepted.earlier, is_new=False, matches=accepted.matches)
        return Acceptance(task=_as_accepted(new))

    async def ping(self, name: str, webhook: Webhook) -> Task:
        """Have the webhook ``name`` sent a ping, once."""
        new = trial(name, webhook, time.time())
        await self._committed(new)
        return _as_accepted(new)

    async def retry(self, task_id: str) -> Task | None:
        """Run an ended task's function again on the same input; None where there is none such."""
        requeue = partial(tasks.requeue, task_id=task_id, now=time.time())
        fresh = await self._ledger.write(requeue)
        if fresh is not None:
            failpoint("intake.requeued")
            self._announcer.announce([(fresh.id, fresh.pool)])
        return fresh

    async def run_schedule(self, name: str) -> Task | None:
        """Run a schedule's function now, whatever its ticks; None where there is no such one."""
        new = await self._ledger.write(partial(schedules.run_now, name=name, now=time.time()))
        if new is None:
            return None
        failpoint("intake.scheduled")
        self._announcer.announce([(new.id, new.pool)])
        return _as_accepted(new)

    async def tick(self, firing: Firing) -> list[str]:
        """Move a schedule on, with the tasks of its ticks; the ids of those that are new.

        None are where the schedule has changed meanwhile, or another scheduler was faster.
        """
        accepted = await self._ledger.write(partial(schedules.fire, firing=firing))
        ids = [each.id for each in accepted if each.is_new]
        if ids:
            failpoint("intake.ticked")
            self._announcer.announce((id_, firing.schedule.declared.pool) for id_ in ids)
        return ids

    async def deliver(self, deliveries: Mapping[str, Sequence[NewTask]]) -> list[str]:
        """Accept the deliveries of each ended task; the ended ones that this has settled."""
        settled = await self._ledger.write(partial(endings.settle, deliveries=deliveries))
        failpoint("intake.delivering")
        self._announcer.announce((n.id, n.pool) for id_ in settled for n in deliveries[id_])
        return settled

    async def _committed(self, new: NewTask) -> Accepted:
        """What became of ``new``, which waits for the disk together with others."""
        accepted = await self._ledger.merge(tasks.accept_all, new)
        failpoint("intake.committed")
        if accepted.is_new and new.available_at <= new.created_at:
            self._announcer.announce([(new.id, new.pool)])
            failpoint("intake.published")
        return accepted

    async def _stored(self, body: bytes) -> Value:
        try:
            return await self._values.store(body)
        except OSError as error:
            raise UnavailableError(f"Its input cannot be stored: {reason_of(error)}.") from None


def _new_task(submission: Submission, value: Value, now: float) -> NewTask:
    spec, due = submission.spec, now + submission.delay_s
    expires_s, key = submission.expires_s or spec.expires_s, submission.idempotency_key
    return NewTask(
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
        idempotency_key=key,
        idempotency_hash=_fingerprint(spec.name, submission.body) if key else None,
    )


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
        schedule=new.schedule,
    )


def _fingerprint(function: str, body: bytes) -> str:
    return hashlib.sha256(function.encode() + b"\0" + body).hexdigest()
