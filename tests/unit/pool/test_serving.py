"""Instances that serve functions, and the versions of models that they are started with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Never, cast

import pytest

from skipper.errors import UnavailableError
from skipper.instance.jobs import ModelRef, Report, Turn, UnfitModel
from skipper.ledger import Ledger
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.processes.instance import C, Instance, InstanceOwner
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.process import ModelEndedError
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.version import Edition
from skipper.pool.serving import ANNOUNCE_S, Serving, UnfitError
from skipper.settings.model import Settings
from skipper.wire.link import Link
from skipper.wire.messages import A, ModelsRenewed, Question, RenewModels
from tests.unit.pool.played import Nobody, Played, job_of, version_of

PREDICT = version_of(models=("net",))


def ref(version: int) -> ModelRef:
    return ModelRef(name="net", version=version, digest="d" * 64, format="tiny")


class Models(ServedModels):
    """The versions of one model, as a test deploys them: the last is in production."""

    def __init__(self) -> None:
        super().__init__(cast(Ledger, None), {})
        self.deployed = [1]
        self.error: Exception | None = None
        self.looks = 0

    async def refresh(self) -> None:
        if self.error is not None:
            raise self.error
        self.looks += 1

    def refs(self, names: Iterable[str], user: str = "") -> tuple[ModelRef, ...]:
        line = [ref(number) for number in reversed(self.deployed)]
        fit = (each for each in line if not self.reason(each, user))
        return (next(fit, line[0]),) if "net" in names else ()


class Started(Instances):
    """Instances that are there at once, and what becomes of them as they load a model."""

    def __init__(self) -> None:
        self.fault: Callable[[ModelRef], Report] | None = None
        self.started: list[Played[Never]] = []

    async def serve(
        self, edition: Edition, owner: InstanceOwner[C], *, gives_way: bool = False
    ) -> tuple[Instance[C], Report]:
        report = self.fault(edition.models[0]) if self.fault else Report()
        job = job_of(edition.version).model_copy(update={"models": edition.models})
        instance: Played[C] = Played(job, owner)
        self.started.append(cast(Played[Never], instance))
        return instance, report


def damaged(held: ModelRef) -> Report:
    return Report(unfit=(UnfitModel(ref=held, reason="it is damaged"),))


def deadly(held: ModelRef) -> Report:
    raise ModelEndedError(Turn(model=held), "its process was killed by SIGSEGV")


def endless(held: ModelRef) -> Report:
    raise ModelEndedError(Turn(model=held), "it did not come back within 9 s", is_late=True)


class Other(Link):
    """The link to another host of the machine."""

    def __init__(self, *, is_up: bool, fails: bool = False) -> None:
        self._is_up, self._fails = is_up, fails
        self.asked: list[float] = []

    @property
    def is_up(self) -> bool:
        return self._is_up

    async def ask(self, question: Question[A], limit_s: float = 0.0) -> A:
        assert isinstance(question, RenewModels)
        assert limit_s > question.limit_s
        self.asked.append(question.limit_s)
        if self._fails:
            raise UnavailableError("it has just gone")
        return cast(A, ModelsRenewed())


class Following:
    """Whoever has calls go to what serves."""

    def __init__(self) -> None:
        self.settled: list[float] = []

    def follow(self) -> None: ...

    async def settle(self, limit_s: float) -> None:
        self.settled.append(limit_s)


class Stage:
    """What serves functions, the models that it follows, and the instances that it starts."""

    def __init__(self, *others: Other) -> None:
        self.models, self.instances, self.metrics = Models(), Started(), PoolMetrics()
        self.follower = Following()
        catalogue = Catalogue(Settings(project_dir=Path("/project")), "cpu", Quarantine())
        named: Any = self
        self.serving = Serving(
            self.instances, catalogue, self.models, others, self.metrics, named=named
        )
        self.serving.tell(self.follower)

    async def refresh(self) -> None:
        """As the models that are asked for by name."""

    async def start(self) -> Played[Never]:
        owner: InstanceOwner[Never] = Nobody()
        instance, _ = await self.serving.start(self.serving.edition(PREDICT), owner)
        return cast(Played[Never], instance)


async def test_an_instance_starts_with_the_version_in_production() -> None:
    stage = Stage()
    stage.models.deployed.append(2)
    instance = await stage.start()
    assert instance.job.models == (ref(2),)
    assert instance.versions == "net@2"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(damaged, "it is damaged"), (deadly, "SIGSEGV"), (endless, "within 9 s")],
)
async def test_a_version_that_does_not_load_is_unfit_and_the_one_before_serves_on(
    fault: Callable[[ModelRef], Report], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage()
    stage.models.deployed.append(2)
    stage.instances.fault = fault
    with pytest.raises(UnfitError, match=f"net@2 does not load: .*{reason}"):
        await stage.start()
    assert reason in stage.models.reason(ref(2))
    stage.instances.fault = None
    assert (await stage.start()).job.models == (ref(1),)
    (told,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert "net@2" in told.getMessage()


async def test_what_serves_well_is_not_taken_away_by_one_more_instance_that_fails() -> None:
    stage = Stage()
    running = await stage.start()
    stage.instances.fault = damaged
    for is_unfit in (False, True):
        with pytest.raises(UnfitError):
            await stage.start()
        assert bool(stage.models.reason(ref(1))) is is_unfit
        running.dies()
        await asyncio.sleep(0)


async def test_a_version_that_loads_after_all_is_fit_again() -> None:
    stage = Stage()
    stage.models.deployed.append(2)
    unfit = stage.serving.edition(PREDICT)
    stage.serving.condemn(PREDICT, [ref(2)], "the store was away")
    assert stage.serving.edition(PREDICT) == Edition(PREDICT, (ref(1),))
    owner: InstanceOwner[Never] = Nobody()
    await stage.serving.start(unfit, owner)
    assert stage.serving.edition(PREDICT) == unfit


async def test_new_versions_are_announced_to_every_other_host_that_is_there() -> None:
    up, down, going = Other(is_up=True), Other(is_up=False), Other(is_up=True, fails=True)
    stage = Stage(going, up, down)
    await stage.serving.announce()
    assert (up.asked, going.asked, down.asked) == ([ANNOUNCE_S], [ANNOUNCE_S], [])
    assert stage.follower.settled == [ANNOUNCE_S]


async def test_a_look_that_fails_is_its_callers_matter_and_the_next_finds_all() -> None:
    stage = Stage()
    stage.models.error = UnavailableError("The database cannot be reached")
    with pytest.raises(UnavailableError):
        await stage.serving.renew()
    stage.models.error = None
    await stage.serving.renew(1.5)
    assert stage.follower.settled == [1.5]
