"""What the direct lane answers callers itself, where no function does. Pure, but for the log."""

from __future__ import annotations

import json
import logging
import math
import time

from skipper.outcomes import Outcome
from skipper.pool.direct.queue import DirectCall, EditionQueue
from skipper.pool.tracebacks import failure
from skipper.spec import BrokenFile
from skipper.wire import calls

log = logging.getLogger(__name__)


def not_served(name: bytes) -> bytes:
    """The reply where no function of this name is served here."""
    return calls.problem(Outcome.NOT_FOUND, f"{name.decode(errors='replace')} is no longer served")


def removed(queue: EditionQueue) -> bytes:
    """The reply to what waited for a function that has gone meanwhile."""
    return calls.problem(Outcome.NOT_FOUND, f"{queue.version.name} was removed")


def broken(queue: EditionQueue, problem: BrokenFile) -> bytes:
    """The reply of a function whose instances do not start, with when that is tried again."""
    retry_after_s = max(1, math.ceil(queue.retry_at - time.monotonic()))
    detail = f"{queue.version.name} cannot be loaded: {problem.tried}"
    return calls.problem(Outcome.BROKEN, detail, retry_after_s=retry_after_s)


def died(queue: EditionQueue, reason: str) -> bytes:
    """The reply to a call that had begun in a process which has ended."""
    detail = f"the process that ran {queue.version.name} died: {reason}"
    return calls.problem(Outcome.DIED, detail)


def expired(call: DirectCall, *, has_begun: bool) -> bytes:
    """The reply to a call whose deadline has passed."""
    seconds = call.deadline - call.received
    where = "while it ran" if has_begun else "while it waited for a free instance"
    after = f"{round(seconds, 2):g} s after the call had come"
    detail = f"the deadline passed {where}, {after} (timeout= of the function or of its caller)"
    return calls.problem(Outcome.TIMED_OUT, detail)


def waited_in_vain(queue: EditionQueue, seconds: float) -> bytes:
    """The reply to a call that has waited for as long as any may."""
    detail = (
        f"no instance of {queue.version.name} came free within {seconds:g} s "
        f"(pools.{queue.spec.pool}.queue_wait_s)"
    )
    return calls.problem(Outcome.BUSY, detail)


def log_failure(call: DirectCall, payload: bytes, then: str = "") -> None:
    """Log a run of a call that ended badly through the function's own doing, and what follows."""
    outcome, _, body = calls.parse_reply(payload)
    problem, cause, spec = json.loads(body), calls.cause_of(call.payload), call.queue.spec
    extra = {"function": spec.name} | ({"task": cause.task} if cause.task else {})
    extra |= {"request": cause.request}
    extra |= failure(outcome, problem, spec.file, spec.line)
    log.warning("%s%s: %s", spec.name, then, problem.get("detail", ""), extra=extra)
