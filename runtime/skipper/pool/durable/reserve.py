"""What an attempt of a task needs before its function can be called: code, input, a process."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from weakref import WeakSet

from skipper.errors import SkipperError
from skipper.failpoints import failpoint
from skipper.ledger.records import Claim
from skipper.outcomes import Outcome
from skipper.pool.catalogue import Catalogue
from skipper.pool.durable.attempt import LaneContext, RunningAttempt
from skipper.pool.durable.shares import Shares
from skipper.pool.processes.instance import Instance, InstanceOwner
from skipper.pool.processes.version import Edition, FunctionVersion
from skipper.pool.serving import Serving, UnfitError
from skipper.spec import Mode
from skipper.values.store import LostValueError
from skipper.wire import calls

IDLE_S = 60.0
TOLD_S = 1.0
"""How long an idle instance may take to say how many threads it computes on."""


class NotRunError(Exception):
    """An attempt that ends before its function is called; ``reply`` says how."""

    def __init__(self, outcome: Outcome, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.reply = calls.problem(outcome, detail, **members)


class Reserve:
    """The instances of a pool's task lane that run nothing now; more are started when needed."""

    def __init__(
        self, context: LaneContext, catalogue: Catalogue, serving: Serving, shares: Shares
    ) -> None:
        self._context, self._catalogue, self._serving = context, catalogue, serving
        self.shares = shares
        self._idle: list[Instance[RunningAttempt]] = []
        self._editions: dict[Instance[RunningAttempt], Edition] = {}
        self._retired: WeakSet[FunctionVersion] = WeakSet()

    async def prepare(
        self, attempt: RunningAttempt, owner: InstanceOwner[RunningAttempt]
    ) -> tuple[Instance[RunningAttempt], bytes]:
        """An instance of ``owner`` that can run the attempt, and its input. Raises NotRunError.

        Cancelled, it leaves no process behind that was only starting.
        """
        name = attempt.claim.task.function
        version = attempt.version = await self._catalogue.find(name)
        if version is None:
            detail = f"{name} is no longer served by pool {self._context.pool}"
            raise NotRunError(Outcome.NOT_FOUND, detail)
        if reason := self._serving.untrained(version):
            raise NotRunError(Outcome.UNAVAILABLE, reason, retryable=True)
        body = await self._body(attempt.claim)
        try:
            return await self._fit_instance(version, owner), body
        except ConnectionError as error:
            raise NotRunError(Outcome.DIED, f"{name} cannot be loaded: {error}") from None
        except TimeoutError as error:
            raise NotRunError(Outcome.TIMED_OUT, f"{name} did not start: {error}") from None
        except (OSError, SkipperError) as error:
            raise NotRunError(Outcome.FAILED, f"{name} cannot be loaded: {error}") from None

    async def _body(self, claim: Claim) -> bytes:
        try:
            return await self._context.values.load(claim.input)
        except LostValueError as lost:
            outcome = Outcome.FAILED if lost.is_passing else Outcome.UNAVAILABLE
            raise NotRunError(outcome, f"its input {lost}") from None

    async def _fit_instance(
        self, version: FunctionVersion, owner: InstanceOwner[RunningAttempt]
    ) -> Instance[RunningAttempt]:
        """One with the versions of models that serve, of those that load."""
        while True:
            edition = self._serving.edition(version)
            try:
                return await self._instance(edition, owner)
            except UnfitError:
                if self._serving.edition(version) == edition:
                    raise

    async def _instance(
        self, edition: Edition, owner: InstanceOwner[RunningAttempt]
    ) -> Instance[RunningAttempt]:
        if (idle := await self._idle_one(edition)) is not None:
            return idle
        failpoint("tasks.starting")
        instance, report = await self._serving.start(edition, owner)
        failpoint("tasks.reported")
        if edition.version.spec.mode is Mode.TASK:  # else direct calls tell how it is
            edition.version.problem = report.broken[0].now() if report.broken else None
        if report.broken:
            instance.stop()
            broken = report.broken[0]
            raise SkipperError(f"{broken.file}:{broken.line or 1}: {broken.reason}")
        if not instance.is_alive:  # it died right after its report
            raise ConnectionError(instance.death_reason or "its process ended")
        self._editions[instance] = edition
        return instance

    async def _idle_one(self, edition: Edition) -> Instance[RunningAttempt] | None:
        """An instance of the edition that can compute on its share of the cores."""
        for instance in list(self._idle):
            is_fit = instance.is_alive and not instance.is_worn
            if not is_fit or self._editions[instance] != edition:
                continue
            self._idle.remove(instance)
            try:
                if await self._takes_share(instance, self.shares.of(edition.version)):
                    return instance
            except asyncio.CancelledError:
                self.keep(instance)
                raise
            instance.stop()  # a library of its has made its threads, and cannot make more
        return None

    async def _takes_share(self, instance: Instance[RunningAttempt], share: int) -> bool:
        if instance.threads_told != share:
            instance.tell_threads(share, time.monotonic())
            await instance.until_told(TOLD_S)
        return instance.is_alive and instance.threads >= share

    def keep(self, instance: Instance[RunningAttempt]) -> None:
        """Have it run another task of its function, unless its version has been retired."""
        if not instance.is_alive:
            return
        if self._editions[instance].version in self._retired:
            instance.stop()
        else:
            self._idle.append(instance)

    def forget(self, instance: Instance[RunningAttempt]) -> None:
        """Its process has ended."""
        if instance in self._idle:
            self._idle.remove(instance)
        self._editions.pop(instance, None)

    def sweep(self, now: float) -> None:
        """Stop instances that nobody has needed for a while, or whose models serve no more."""
        for instance in list(self._idle):
            edition = self._editions[instance]
            idle_s = edition.version.spec.idle_s or IDLE_S
            is_current = self._serving.edition(edition.version) == edition
            if not is_current or now - instance.idle_since > idle_s:
                self._idle.remove(instance)
                instance.stop()

    def retire(self, version: FunctionVersion) -> None:
        """Stop the instances of a version that is no longer current, busy ones when done."""
        self._retired.add(version)
        for instance in [idle for idle in self._idle if self._editions[idle].version is version]:
            self._idle.remove(instance)
            instance.stop()
