"""Writes what becomes of attempts: at an end models first, large values aside, retries set."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from functools import partial
from typing import Any, TypeVar

from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger import tasks
from skipper.ledger.records import Ending, Finishing, Started
from skipper.outcomes import MEANINGS, Outcome, parse_error, stored_error
from skipper.pool.backoff import pause_s
from skipper.pool.durable.attempt import LaneContext, RunningAttempt
from skipper.pool.durable.publications import AGAIN_S, Publications, written
from skipper.pool.processes.process import Lane
from skipper.pool.tracebacks import failure
from skipper.spec import BACKOFF_S, Kind
from skipper.task import State
from skipper.values.store import reason_of
from skipper.wire import calls

log = logging.getLogger(__name__)
T = TypeVar("T")

_TASKS = Lane.TASKS.value


class Recorder:
    """Records the attempts of one host."""

    def __init__(
        self, context: LaneContext, publications: Publications, again_s: float = AGAIN_S
    ) -> None:
        self._context, self._again_s = context, again_s
        self.publications = publications

    async def record_start(self, attempt: RunningAttempt, started_at: float) -> None:
        """Record what runs an attempt, and its deadline, in case that its host is lost."""
        task = attempt.claim.task
        started = Started(
            id=task.id,
            attempt=attempt.claim.attempt,
            host=self._context.host_id,
            instance=attempt.instance.name if attempt.instance else None,
            code=attempt.code,
            model=attempt.model,
            deadline_at=None if task.timeout_s is None else started_at + task.timeout_s,
        )
        try:
            await self._context.ledger.write(partial(tasks.started, started=started), durable=False)
        except SkipperError as error:
            log.debug("what runs an attempt was not recorded: %s", error, extra={"task": task.id})

    async def finish(self, attempt: RunningAttempt, reply: bytes) -> bool:
        """Write the end that a reply stands for, if the task is still this attempt's.

        Whether it is the task's end, too.
        """
        outcome, served, body = calls.parse_reply(reply)
        task, ledger = attempt.claim.task, self._context.ledger
        await self._context.journal.close_attempt(task.id, attempt.claim.attempt)
        failpoint("recorder.journaled")
        if outcome == Outcome.OK and attempt.models:
            body = await self.publications.result(attempt, served, body)
        ending = await self._ending(attempt, outcome, served, body)
        finishing = Finishing(
            id=task.id,
            attempt=attempt.claim.attempt,
            host=self._context.host_id,
            ending=ending,
            now=time.time(),
        )
        failpoint("recorder.ending")
        state = await written(lambda: ledger.merge(tasks.finish_all, finishing), self._again_s)
        failpoint("recorder.ended")
        if state is None:
            log.warning("a task was taken from this host before it ended", extra={"task": task.id})
        else:
            if ending.error is not None:  # storing what it has returned may have failed
                outcome, _ = parse_error(ending.error)
            self._context.metrics.attempted(task.function, _TASKS, outcome)
            self._log_end(attempt, state, outcome, ending)
        self._context.publish([task.id])
        return state is not None and state.is_terminal

    def _log_end(self, attempt: RunningAttempt, state: State, outcome: int, ending: Ending) -> None:
        task = attempt.claim.task
        extra: dict[str, Any] = {
            "function": task.function,
            "task": task.id,
            "attempt": attempt.claim.attempt,
        }
        if state is State.SUCCEEDED:
            level = logging.INFO if task.kind == Kind.TRAINING else logging.DEBUG
            log.log(level, "%s succeeded", task.function, extra=extra)
        else:
            error = ending.error or {}
            extra |= {"request": task.request_id} | _failure_of(attempt, outcome, error)
            log.warning("%s %s: %s", task.function, state, error.get("detail", ""), extra=extra)

    async def _ending(
        self, attempt: RunningAttempt, outcome: int, served: bytes, body: bytes
    ) -> Ending:
        code, _, used = served.decode().partition(" ")
        facts: dict[str, Any] = {
            "code": code or attempt.code,
            "model": used or (None if code else attempt.model),
            "instance": attempt.instance.name if attempt.instance else None,
        }
        if outcome == Outcome.OK:
            try:
                value = await self._context.values.store_when_there_is_room(body)
            except OSError as reason:  # running it again would store it no better
                problem = {"detail": f"its result could not be stored: {reason_of(reason)}"}
                error = stored_error(Outcome.FAILED, problem)
                return Ending(state=State.FAILED, error=error, **facts)
            if value.ref is not None:
                failpoint("recorder.stored")
            return Ending(state=State.SUCCEEDED, result=value, **facts)
        meaning, problem = MEANINGS[outcome], json.loads(body)
        is_retried = problem.get("retryable", meaning.is_retried)
        retry_at = self._retry_at(attempt) if is_retried else None
        rescue: tuple[str, ...] = ()
        if retry_at is None and meaning.state is not State.CANCELLED:
            rescue = await self._rescued(attempt)
        if rescue:
            kept = f"What there is of it is kept: skipper models rescue {attempt.claim.task.id}"
            problem |= {"detail": f"{problem.get('detail', '')}. {kept}", "rescue": True}
        error = stored_error(outcome, problem)
        return Ending(state=meaning.state, error=error, retry_at=retry_at, rescue=rescue, **facts)

    async def _rescued(self, attempt: RunningAttempt) -> tuple[str, ...]:
        """The blobs of what was trained in vain; the first lists the others."""
        folders = {model.name: model.digest for model in attempt.models}
        folders |= {model.name: model.digest for model in attempt.rescued}
        if not folders:
            return ()
        blobs = self._context.values.blobs
        try:
            root = await asyncio.to_thread(blobs.join, folders)
            members = await asyncio.to_thread(blobs.members, root)
        except (OSError, ValueError) as error:
            log.error("nothing of a model can be kept: %s", error)
            return ()
        return (root, *sorted(members - {root}))

    def _retry_at(self, attempt: RunningAttempt) -> float | None:
        claim, first_s = attempt.claim, BACKOFF_S[0]
        if claim.spent + 1 >= claim.task.max_attempts:
            return None
        if attempt.version is not None:
            first_s = attempt.version.spec.backoff_s
        return time.time() + pause_s(first_s, claim.spent + 1)


def _failure_of(attempt: RunningAttempt, outcome: int, error: dict[str, Any]) -> dict[str, Any]:
    if outcome == Outcome.CANCELLED:
        return {}
    if attempt.version is None:
        return failure(outcome, error)
    return failure(outcome, error, attempt.version.spec.file, attempt.version.spec.line)
