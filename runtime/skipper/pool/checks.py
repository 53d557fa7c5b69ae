"""Has the inputs of tasks judged before they are accepted, by processes that serve nothing.

One process a file of functions, started when the first input comes and stopped soon after the last.
It has no model, no device and no slot, so a function gets no second serving process by it. Nobody
waits long: where a process is not there in time, the answer is that nobody can tell.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from skipper.errors import SkipperError
from skipper.instance.jobs import Job, JobKind, SourceInfo
from skipper.outcomes import Outcome
from skipper.pool.background import Background
from skipper.pool.catalogue import FunctionAssignment
from skipper.pool.processes import devices
from skipper.pool.processes.instance import Instance, JobRunner, SlotlessOwner
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.wire import calls
from skipper.wire.frames import Frame, FrameKind

log = logging.getLogger(__name__)

IDLE_S = 30.0
"""A process that has judged nothing for this long is stopped."""
MOST = 8
"""Processes of a pool that are kept for further inputs; of more, those used longest ago go."""
PATIENCE_S = 1.0
"""A process that has been starting for longer keeps no further caller waiting."""
HANG_S = 5.0
"""A validator of an author's that takes longer is ended together with its process."""
RETRY_S = 5.0
"""The pause after a start that has failed."""


@dataclass(frozen=True, kw_only=True)
class CheckBounds:
    """How much may wait to be judged: inputs of one file, and their bytes."""

    inputs: int = 1000
    size: int = 64 << 20


class CheckOrigin(Protocol):
    """Whoever wants to know."""

    def answer(self, id_: int, payload: bytes) -> None: ...


class Check(NamedTuple):
    """One input to be judged: a call's payload, and where the reply goes."""

    origin: CheckOrigin
    id: int
    payload: bytes
    since: float

    def answer(self, payload: bytes) -> None:
        self.origin.answer(self.id, payload)

    def unknown(self, detail: str) -> None:
        """Nobody can tell whether it matches."""
        self.answer(calls.problem(Outcome.UNAVAILABLE, detail))


class _Judge:
    """The process for one text of one file: it is starting, is there, or has failed to start."""

    def __init__(self, source: SourceInfo, now: float) -> None:
        self.source, self.began, self.used = source, now, now
        self.instance: Instance[Check] | None = None
        self.waiting: list[Check] = []
        self.failed_at: float | None = None


class InputChecks(SlotlessOwner[Check]):
    """Owns the processes that judge inputs, by the versions of functions that are ``assigned``."""

    def __init__(
        self,
        settings: Settings,
        assigned: Mapping[str, FunctionAssignment],
        runner: JobRunner,
        *,
        backlog: CheckBounds = CheckBounds(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._assigned, self._runner = settings, assigned, runner
        self._backlog, self._clock = backlog, clock
        self._judges: dict[str, _Judge] = {}
        """By the name of the source."""
        self._background = Background()

    def submit(self, origin: CheckOrigin, id_: int, payload: bytes) -> None:
        """Answer whether the body of this call matches its function: OK, or the refusal.

        UNAVAILABLE where nobody can tell now, NOT_FOUND for a function that is not served here.
        """
        now = self._clock()
        name = calls.call_key(payload).name.decode("utf-8", "replace")
        check = Check(origin, id_, payload, now)
        if (assignment := self._assigned.get(name)) is None:
            check.answer(calls.problem(Outcome.NOT_FOUND, f"{name} is not served here"))
            return
        judge = self._judge_of(assignment.version, now)
        judge.used = now
        if self._is_full(judge, len(payload)):
            check.unknown("too many inputs wait to be checked")
        elif judge.instance is not None:
            judge.instance.check(payload, check)
        elif judge.failed_at is not None:
            check.unknown("its file could not be loaded to check the input")
        elif now - judge.began > PATIENCE_S:
            check.unknown("its file is still being loaded")
        else:
            judge.waiting.append(check)

    def _is_full(self, judge: _Judge, size: int) -> bool:
        """Whether there is no place for one more input of this size; for one alone there is."""
        waiting = judge.waiting if judge.instance is None else judge.instance.calls.values()
        if len(waiting) >= self._backlog.inputs:
            return True
        return bool(waiting) and size + sum(len(c.payload) for c in waiting) > self._backlog.size

    def _judge_of(self, version: FunctionVersion, now: float) -> _Judge:
        name = version.source.name
        judge = self._judges.get(name)
        if judge is not None:
            is_due = judge.failed_at is not None and now - judge.failed_at >= RETRY_S
            if judge.source == version.source and not is_due:
                return judge
            self._dismiss(judge)
        judge = self._judges[name] = _Judge(version.source, now)
        self._background.spawn(self._start(judge, version))
        return judge

    async def _start(self, judge: _Judge, version: FunctionVersion) -> None:
        job = Job(
            kind=JobKind.CHECK,
            project_dir=self._settings.project_dir,
            source=version.source,
            texts=version.texts,
            storage_url=self._settings.storage_url,
            spool_dir=self._settings.spool_dir,
            settings=self._settings.table_of(version.source.plugin),
            environment=version.source.environment | devices.NONE,
        )
        try:
            instance, report = await self._runner.run(job, self)
        except (OSError, TimeoutError, SkipperError) as error:
            self._fail(judge, str(error) or type(error).__name__)
            return
        if report.broken or not instance.takes_calls:
            instance.stop()
            self._fail(judge, report.broken[0].error if report.broken else instance.death_reason)
        elif self._judges.get(judge.source.name) is not judge:  # newer code has come meanwhile
            instance.stop()
            self._dismiss(judge)
        else:
            judge.instance = instance
            for check in judge.waiting:
                instance.check(check.payload, check)
            judge.waiting.clear()

    def _fail(self, judge: _Judge, reason: str) -> None:
        log.warning("inputs for %s cannot be checked: %s", judge.source.name, reason)
        judge.failed_at = self._clock()
        self._answer_waiting(judge)

    def _dismiss(self, judge: _Judge) -> None:
        """Stop its process, once that is there; what waits is answered."""
        if judge.instance is not None:
            judge.instance.stop()
        self._answer_waiting(judge)

    def _answer_waiting(self, judge: _Judge) -> None:
        waiting, judge.waiting = judge.waiting, []
        for check in waiting:
            check.unknown("its file could not be loaded in time to check the input")

    def sweep(self, now: float) -> None:
        """Stop processes that nobody needs, and end those that hang."""
        for judge in list(self._judges.values()):
            if judge.instance is None:
                if judge.failed_at is not None and now - judge.used > IDLE_S:
                    del self._judges[judge.source.name]
            elif any(now - check.since > HANG_S for check in judge.instance.calls.values()):
                judge.instance.kill()
            elif now - judge.used > IDLE_S:
                self._remove(judge)
        self._trim()

    def _trim(self) -> None:
        idle = [j for j in self._judges.values() if j.instance and not j.instance.calls]
        idle.sort(key=lambda judge: judge.used)
        for judge in idle[: max(0, len(idle) - MOST)]:
            self._remove(judge)

    def _remove(self, judge: _Judge) -> None:
        del self._judges[judge.source.name]
        self._dismiss(judge)

    # --- what comes of its processes ---

    def on_frame(self, instance: Instance[Check], frame: Frame) -> None:
        if frame.kind == FrameKind.REPLY and (check := instance.done(frame.id)) is not None:
            check.answer(frame.payload)

    def on_gone(self, instance: Instance[Check]) -> None:
        for check in instance.end_calls():
            check.unknown(f"the process that checked the input ended: {instance.death_reason}")
        judge = next((j for j in self._judges.values() if j.instance is instance), None)
        if judge is not None:
            del self._judges[judge.source.name]
