"""The one way in which tasks come to be: calls, retries, schedules, webhooks.

Each is written into the ledger, in the transaction that it needs, and announced once that is
committed. Nobody else accepts or announces a new task.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from skipper.errors import FullError, NoRoomError, UnavailableError
from skipper.failpoints import failpoint
from skipper.ledger import Ledger, endings, schedules
from skipper.ledger.admission import Admission
from skipper.ledger.records import Accepted, Firing, NewTask, Refusal, TaskBounds
from skipper.settings.model import TaskSettings
from skipper.settings.webhooks import Webhook
from skipper.spec import FunctionSpec
from skipper.task import State, Task, new_id
from skipper.tasks.announcer import Announcer
from skipper.tasks.bound import key_of
from skipper.tasks.deliveries import trial
from skipper.values.envelope import FILE_ID, as_body, as_envelope, is_envelope, unpack
from skipper.values.store import ValueStore, is_for_want_of_room, reason_of
from skipper.values.value import Value

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A call to be made a task."""

    spec: FunctionSpec
    body: bytes
    request_id: str | None = None
    parent_id: str | None = None
    is_detached: bool = False
    """Whether it goes on where its parent is cancelled."""
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


def bounds_of(settings: TaskSettings) -> TaskBounds:
    """What ``[tasks]`` lets in."""
    return TaskBounds(waiting=settings.waiting, stored=int(settings.stored_gb * 1e9))


class Intake:
    """Accepts tasks. All methods raise SkipperError where the ledger does not take them.

    Where ``bounds`` leave no room it is a FullError, and nothing has been written.
    """

    def __init__(
        self, ledger: Ledger, values: ValueStore, announcer: Announcer, bounds: TaskBounds
    ) -> None:
        self._ledger, self._values, self._announcer = ledger, values, announcer
        self._admission = Admission(bounds)
        self._on_their_way: Counter[str] = Counter()

    async def accept(self, submission: Submission) -> Acceptance:
        """Make a call a task, once that is certain to be run."""
        failpoint("intake.begun")
        function = submission.spec.name
        before = self._on_their_way[function]
        self._on_their_way[function] += 1
        try:
            if not self._values.is_inline(submission.body):
                await self._check_room(submission, before)
            value, body = await self._stored(submission.body)
            failpoint("intake.stored")
            new = _new_task(replace(submission, body=body), value, time.time())
            accepted = await self._committed(new)
        finally:
            self._on_their_way[function] -= 1
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
        requeue = partial(self._admission.requeue, task_id=task_id, now=time.time())
        fresh = await self._ledger.write(requeue)
        if isinstance(fresh, Refusal):
            raise self._full(fresh, "its function")
        if fresh is not None:
            failpoint("intake.requeued")
            self._announcer.announce([(fresh.id, fresh.pool)])
        return fresh

    async def run_schedule(self, name: str) -> Task | None:
        """Run a schedule's function now, whatever its ticks; None where there is no such one."""
        run_now = partial(
            schedules.run_now, name=name, now=time.time(), accept_all=self._admission.accept_all
        )
        new = await self._ledger.write(run_now)
        if new is None:
            return None
        if isinstance(new, Refusal):
            raise self._full(new, "its function")
        failpoint("intake.scheduled")
        self._announcer.announce([(new.id, new.pool)])
        return _as_accepted(new)

    async def tick(self, firing: Firing) -> list[str]:
        """Move a schedule on, with the tasks of its ticks; the ids of those that are new.

        None are where the schedule has changed meanwhile, or another scheduler was faster. Ticks
        for which there is no room are left out, and the log is told.
        """
        fire = partial(schedules.fire, firing=firing, accept_all=self._admission.accept_all)
        accepted = await self._ledger.write(fire)
        declared = firing.schedule.declared
        for refusal in {each.refusal for each in accepted if each.refusal is not None}:
            if refusal is Refusal.OVERLAP:
                log.info("schedule %s: its last run goes on, this one is left out", declared.name)
                continue
            reason = self._full(refusal, declared.function)
            log.warning("schedule %s: a run is left out. %s", declared.name, reason)
        ids = [each.id for each in accepted if each.is_new]
        if ids:
            failpoint("intake.ticked")
            self._announcer.announce((id_, declared.pool) for id_ in ids)
        return ids

    async def deliver(self, deliveries: Mapping[str, Sequence[NewTask]]) -> list[str]:
        """Accept the deliveries of each ended task; the ended ones that this has settled."""
        settled = await self._ledger.write(partial(endings.settle, deliveries=deliveries))
        failpoint("intake.delivering")
        self._announcer.announce((n.id, n.pool) for id_ in settled for n in deliveries[id_])
        return settled

    async def _committed(self, new: NewTask) -> Accepted:
        """What became of ``new``, which waits for the disk together with others."""
        accepted = await self._ledger.merge(self._admission.accept_all, new)
        if accepted.refusal is not None:
            raise self._full(accepted.refusal, new.function)
        failpoint("intake.committed")
        if accepted.is_new and new.available_at <= new.created_at:
            self._announcer.announce([(new.id, new.pool)])
            failpoint("intake.published")
        return accepted

    async def _check_room(self, submission: Submission, before: int) -> None:
        """Raise FullError for what may be refused once ``before`` others have been accepted.

        So nothing is stored for a task that does not come to be.
        """
        foresee = partial(
            self._admission.foresee,
            function=submission.spec.name,
            size=as_envelope(submission.body).size,
            key=submission.idempotency_key,
            on_their_way=before,
        )
        if (refusal := await self._ledger.read(foresee)) is not None:
            raise self._full(refusal, submission.spec.name)

    def _full(self, refusal: Refusal, function: str) -> FullError:
        bounds = self._admission.bounds
        if refusal is Refusal.WAITING:
            return FullError(f"{bounds.waiting} tasks of {function} wait already (tasks.waiting).")
        return FullError(
            f"Tasks keep {bounds.stored / 1e9:g} GB of inputs and results already "
            "(tasks.stored_gb); the oldest go after retention.results_days."
        )

    async def _stored(self, body: bytes) -> tuple[Value, bytes]:
        """The value of an input, and its body as it is stored: the same one for the same input."""
        try:
            settled = await self._values.settle(body)
            return await self._values.store(settled), settled
        except OSError as error:
            kind = NoRoomError if is_for_want_of_room(error) else UnavailableError
            raise kind(f"Its input cannot be stored: {reason_of(error)}.") from None


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
        detached=int(submission.is_detached),
        concurrency=spec.concurrency,
        concurrency_key=key_of(spec, submission.body),
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
    """Of what was asked. Uploaded files count by their ids in the JSON: they may expire."""
    if is_envelope(body):
        envelope = unpack(body)
        own = (part for part in envelope.parts if not FILE_ID.fullmatch(part.key.encode()))
        body = as_body(replace(envelope, parts=tuple(own)))
    return hashlib.sha256(function.encode() + b"\0" + body).hexdigest()
