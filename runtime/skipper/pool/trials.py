"""Tries trained models before anybody is served by them: each in a fresh process, as serving does.

The process has no device, because what trains may hold that; it loads for as long as an instance
may, within the memory of one, at the priority of tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Never, Protocol

from skipper import selectors
from skipper.errors import SkipperError
from skipper.instance.jobs import Job, JobKind, ModelRef, Report
from skipper.pool.processes import devices
from skipper.pool.processes.instance import C, Instance, InstanceOwner, SlotlessOwner
from skipper.pool.processes.instances import TASK_NICENESS
from skipper.pool.processes.version import FunctionVersion
from skipper.settings.model import Settings
from skipper.wire.events import SavedModel
from skipper.wire.frames import Frame

DEATHS = 3
"""How many processes may end in trying a model: one may be killed for what is not the model's."""


class TrialRunner(Protocol):
    """What starts instances: :class:`~skipper.pool.processes.instances.Instances`."""

    async def run(
        self, job: Job, owner: InstanceOwner[C], *, timeout_s: float | None = None
    ) -> tuple[Instance[C], Report]:
        """Start an instance; it, with its report. Raises OSError or TimeoutError if none comes."""


class KnownFunctions(Protocol):
    """What is served: :class:`~skipper.pool.catalogue.Catalogue`."""

    @property
    def versions(self) -> Iterable[FunctionVersion]: ...


class _Trying(SlotlessOwner[Never]):
    """Owns the instances that try models: they are given no calls."""

    def on_frame(self, instance: Instance[Never], frame: Frame) -> None: ...

    def on_gone(self, instance: Instance[Never]) -> None: ...


class Trials:
    """Has models loaded by processes that load what the functions which take them are made of."""

    def __init__(self, settings: Settings, functions: KnownFunctions, runner: TrialRunner) -> None:
        self._settings, self._functions, self._runner = settings, functions, runner
        self._owner = _Trying()

    async def complaint(self, models: Sequence[SavedModel], trainer: FunctionVersion) -> str:
        """What is wrong with the first of these that cannot be served; empty where all can.

        A model that nobody here takes is loaded beside the code that trained it.
        """
        for model in models:
            for taker in takers(model.name, self._functions.versions) or [trainer]:
                if reason := await self._reason_against(model, taker):
                    return (
                        f"the model {model.name!r} is trained, but as {taker.name} would load it, "
                        f"{reason}"
                    )
        return ""

    async def _reason_against(self, model: SavedModel, taker: FunctionVersion) -> str:
        reason, job = "", self._job(model, taker)
        for _ in range(DEATHS):
            limit_s, began = taker.spec.start_timeout_s, time.monotonic()
            try:
                instance, report = await self._runner.run(job, self._owner, timeout_s=limit_s)
            except TimeoutError:
                return f"it was not there after {time.monotonic() - began:.0f} s"
            except (OSError, SkipperError) as error:
                reason = f"its process ended: {error}"
            else:
                instance.stop()
                return report.broken[0].error if report.broken else ""
        return reason

    def _job(self, model: SavedModel, taker: FunctionVersion) -> Job:
        ref = ModelRef(name=model.name, version=0, digest=model.digest, format=model.format)
        return Job(
            kind=JobKind.TRY,
            project_dir=self._settings.project_dir,
            source=taker.source,
            texts=taker.texts,
            models=(ref,),
            storage_url=self._settings.storage_url,
            tmp_dir=self._settings.state_dir / "tmp",
            models_dir=self._settings.models_dir,
            memory_mb=taker.spec.memory_mb or 0,
            nice=TASK_NICENESS,
            settings=self._settings.table_of(taker.source.plugin),
            environment=taker.source.environment | devices.NONE,
        )


def takers(name: str, versions: Iterable[FunctionVersion]) -> list[FunctionVersion]:
    """Of the functions that take a model, one of each file: the others import the same."""
    return [*dict(_by_source(name, versions)).values()]


def _by_source(
    name: str, versions: Iterable[FunctionVersion]
) -> Iterator[tuple[str, FunctionVersion]]:
    for version in versions:
        if name in {selectors.parse(each).name for each in version.spec.models}:
            yield version.source.name, version
