"""Publishes what attempts have trained: tried first, then numbered, then known to every host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from skipper.errors import ConflictError, FormatError, UnavailableError
from skipper.failpoints import failpoint
from skipper.instance.wishes import PublishModel
from skipper.ledger import models
from skipper.ledger.connection import Connection
from skipper.ledger.records import Admit, Fitness, ModelVersionNew
from skipper.outcomes import Outcome
from skipper.pool.durable.attempt import LaneContext, RunningAttempt
from skipper.pool.durable.gatekeeper import Gatekeeper, kept_out
from skipper.pool.serving import Serving
from skipper.pool.trials import Trials
from skipper.wire import calls
from skipper.wire.events import LOG, EmittedEvent, RescuedModel, SavedModel

log = logging.getLogger(__name__)
T = TypeVar("T")

GATE_TRIES = 5
"""A gate is asked again so often where something else has been put in production meanwhile."""
AGAIN_S = 1.0
"""Pause between tries to write while the ledger is away."""


class Publications:
    """Publishes the models of one host's attempts."""

    def __init__(
        self,
        context: LaneContext,
        serving: Serving,
        gatekeeper: Gatekeeper,
        trials: Trials,
        again_s: float = AGAIN_S,
    ) -> None:
        self._context, self._serving, self._again_s = context, serving, again_s
        self._gatekeeper, self._trials = gatekeeper, trials

    async def tried(self, attempt: RunningAttempt, reply: bytes) -> bytes:
        """``reply``, or what it becomes where its models cannot be served: a failure for good.

        The same training would give the same. While this runs it can be cancelled, and does not
        count against the task's timeout.
        """
        if not attempt.models or reply[0] != Outcome.OK:
            return reply
        trying = attempt.trying = asyncio.ensure_future(self._complaint(attempt, attempt.models))
        try:
            reason = await trying
        except asyncio.CancelledError:
            if attempt.verdict is None:
                raise
            return attempt.verdict
        finally:
            attempt.trying = None
        if reason:
            served = calls.parse_reply(reply)[1]
            return calls.problem(Outcome.FAILED, reason, served, retryable=False)
        return reply

    async def _complaint(self, attempt: RunningAttempt, trained: Sequence[SavedModel]) -> str:
        """What is wrong with models that cannot be served, which the task's log tells, too."""
        assert attempt.version is not None, "it has run"
        began, names = time.monotonic(), ", ".join(model.name for model in trained)
        self._add_line(attempt, f"{names}: saved, is tried in a fresh process before it serves")
        reason = await self._trials.complaint(trained, attempt.version)
        failpoint("recorder.tried")
        seconds = time.monotonic() - began
        self._add_line(attempt, reason or f"{names}: loaded and tried in {seconds:.1f} s")
        return reason

    def _add_line(self, attempt: RunningAttempt, text: str) -> None:
        event = EmittedEvent(LOG, {"stream": "info", "text": text}, time.time())
        self._context.journal.add(attempt.claim.task.id, attempt.claim.attempt, event)

    # --- at the end of a training ---

    async def result(self, attempt: RunningAttempt, served: bytes, outline: bytes) -> bytes:
        """Number and announce the models of a training task; the task's result.

        ``outline`` is what the function has returned, with the number of a model in its place.
        """
        code = served.decode().partition(" ")[0]
        records = [
            await self._published(attempt, model, code, models.RETURNED) for model in attempt.models
        ]
        # Before the task is seen to have succeeded, whoever serves these models must know of them.
        await self._serving.announce()
        failpoint("recorder.announced")
        return json.dumps(_filled(json.loads(outline), records)).encode()

    # --- while it goes on ---

    async def publish(self, attempt: RunningAttempt, wish: PublishModel) -> bytes:
        """Publish a model of a training that goes on; the JSON of its record.

        Raises FormatError for one that cannot be served, and UnavailableError where the task is not
        this attempt's any more.
        """
        model = SavedModel(
            name=wish.name,
            format=wish.format,
            digest=wish.digest,
            metrics=wish.metrics,
            params=wish.params,
        )
        if reason := await self._complaint(attempt, [model]):
            attempt.rescued.append(RescuedModel(model.name, model.digest))
            raise FormatError(reason)
        made = await self._published(attempt, model, attempt.code or "", wish.step)
        if made is None:
            raise UnavailableError(f"the task {wish.task_id} is not this attempt's any more")
        await self._serving.announce()
        return json.dumps(made).encode()

    async def _published(
        self, attempt: RunningAttempt, model: SavedModel, code: str, step: int
    ) -> dict[str, Any] | None:
        task = attempt.claim.task
        new = ModelVersionNew(
            name=model.name,
            digest=model.digest,
            format=model.format,
            metrics=model.metrics,
            params=model.params,
            size=await self._size_of(model),
            state=Fitness.FIT,
            code=code,
            task_id=task.id,
            attempt=attempt.claim.attempt,
            host=self._context.host_id,
            function=task.function,
            created_at=time.time(),
            step=step,
        )
        made = await self._admitted(new)
        failpoint("recorder.published")
        return made

    async def _admitted(self, new: ModelVersionNew) -> dict[str, Any] | None:
        """Publish a version, to serve if its gate lets it; what is told of it.

        None where the task is not this attempt's any more.
        """
        ledger = self._context.ledger
        for _ in range(GATE_TRIES):
            look = partial(ledger.read, partial(models.in_production, name=new.name))
            admit = await self._gatekeeper.admit(new, await self._written(look))
            with contextlib.suppress(ConflictError):
                return await self._written(self._publishing(new, admit))
        return await self._written(self._publishing(new, kept_out))

    def _publishing(
        self, new: ModelVersionNew, admit: Admit
    ) -> Callable[[], Awaitable[dict[str, Any] | None]]:
        return partial(self._context.ledger.write, partial(_publish, new=new, admit=admit))

    async def _size_of(self, model: SavedModel) -> int | None:
        try:
            folder = await asyncio.to_thread(self._context.values.blobs.folder, model.digest)
        except (OSError, ValueError):
            return None
        return folder.size

    async def _written(self, write: Callable[[], Awaitable[T]]) -> T:
        return await written(write, self._again_s)


async def written(write: Callable[[], Awaitable[T]], again_s: float) -> T:
    """What ``write`` returns once the ledger is there: what has run is not run again for it."""
    while True:
        try:
            return await write()
        except UnavailableError as error:
            log.warning("the end of a task waits for the ledger: %s", error)
            await asyncio.sleep(again_s)


def _filled(outline: Any, records: list[dict[str, Any] | None]) -> Any:
    """What a training returned, with the records of its models in their places."""
    if isinstance(outline, list):
        return [_filled(each, records) for each in outline]
    if isinstance(outline, dict):
        return {name: _filled(each, records) for name, each in outline.items()}
    return records[outline]


def _publish(conn: Connection, new: ModelVersionNew, admit: Admit) -> dict[str, Any] | None:
    version = models.publish(conn, new, admit)
    made = None if version is None else models.get(conn, new.name, version)
    if made is None:
        return None
    standing = models.standing(conn, made)
    told = {"name": made.name, "version": made.version, "metrics": made.metrics}
    told |= {"promoted": standing.serves}
    return told if standing.serves else told | {"why": standing.why}
