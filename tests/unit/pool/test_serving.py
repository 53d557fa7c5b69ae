"""Instances that serve functions, and the versions of models that they come to hold."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Never, cast

import pytest

from skipper.errors import UnavailableError
from skipper.instance.jobs import ModelRef, Report
from skipper.pool.catalogue import Catalogue
from skipper.pool.metrics import PoolMetrics
from skipper.pool.models import ServedModels
from skipper.pool.processes.instance import C, Instance, InstanceOwner
from skipper.pool.processes.instances import Instances
from skipper.pool.processes.quarantine import Quarantine
from skipper.pool.processes.version import FunctionVersion
from skipper.pool.serving import Serving
from skipper.settings.model import Settings
from skipper.wire.frames import FrameKind
from skipper.wire.link import Link
from skipper.wire.messages import A, ModelsRenewed, Question, RenewModels
from tests.unit.pool.played import Nobody, Played, job_of, version_of


def ref(version: int) -> ModelRef:
    return ModelRef(name="net", version=version, digest="d" * 64, format="tiny", seq=version)


class Models(ServedModels):
    """The versions of one model, as a test assigns them."""

    def __init__(self) -> None:
        self.assigned = ref(1)
        self.news: list[ModelRef] = []
        self.error: Exception | None = None

    def assign(self, version: int) -> None:
        self.assigned = ref(version)
        self.news.append(self.assigned)

    async def refresh(self) -> list[ModelRef]:
        if self.error is not None:
            raise self.error
        found, self.news = self.news, []
        await asyncio.sleep(0)
        return found

    def refs(self, names: Iterable[str]) -> tuple[ModelRef, ...]:
        return (self.assigned,) if "net" in names else ()


class Started(Instances):
    """Instances that are there when a test lets them."""

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.may_start.set()

    async def serve(
        self, version: FunctionVersion, owner: InstanceOwner[C], models: Collection[ModelRef]
    ) -> tuple[Instance[C], Report]:
        job = job_of(version).model_copy(update={"models": tuple(models)})
        await self.may_start.wait()
        return Played(job, owner), Report()


class Owner(Nobody):
    """Keeps which versions its instances are to take."""

    def __init__(self) -> None:
        self.taken: list[ModelRef] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def take_models(self, refs: object) -> None:
        assert isinstance(refs, list)
        await self.may_end.wait()
        self.taken += refs


class Other(Link):
    """The link to another host of the machine."""

    def __init__(self, *, is_up: bool, fails: bool = False) -> None:
        self._is_up, self._fails = is_up, fails
        self.asked = 0

    @property
    def is_up(self) -> bool:
        return self._is_up

    async def ask(self, question: Question[A], limit_s: float = 0.0) -> A:
        assert isinstance(question, RenewModels)
        self.asked += 1
        if self._fails:
            raise UnavailableError("it has just gone")
        return cast(A, ModelsRenewed())


class Stage:
    """What serves functions, the models that it follows, and the instances that it starts."""

    def __init__(self, *others: Other) -> None:
        self.models, self.instances, self.metrics = Models(), Started(), PoolMetrics()
        catalogue = Catalogue(Settings(project_dir=Path("/project")), "cpu", Quarantine())
        named: Any = self
        self.serving = Serving(
            self.instances, catalogue, self.models, others, self.metrics, named=named
        )

    async def refresh(self) -> None:
        """As the models that are asked for by name."""

    async def start(self, owner: InstanceOwner[Never]) -> Played[Never]:
        instance, _ = await self.serving.start(version_of(models=("net",)), owner)
        assert isinstance(instance, Played)
        return instance


def sent(instance: Played[Never]) -> list[int]:
    """The versions of the model that an instance was sent after its start."""
    frames = [frame for frame in instance.transport.frames if frame.kind == FrameKind.MODEL]
    return [ModelRef.model_validate_json(frame.payload).version for frame in frames]


async def test_an_instance_starts_with_the_version_that_is_assigned() -> None:
    instance = await Stage().start(Owner())
    assert instance.job.models == (ref(1),)
    assert sent(instance) == []


async def test_what_is_assigned_while_an_instance_loads_it_takes_before_its_first_call() -> None:
    stage = Stage()
    stage.instances.may_start.clear()
    starting = asyncio.create_task(stage.start(Owner()))
    await asyncio.sleep(0)
    stage.models.assign(2)
    await stage.serving.renew()
    stage.instances.may_start.set()
    assert sent(await starting) == [2]


async def test_each_owner_of_instances_takes_a_new_version_once() -> None:
    stage, owners = Stage(), [Owner(), Owner()]
    for owner in (*owners, owners[0]):
        await stage.start(owner)
    stage.models.assign(2)
    for _ in range(2):
        await stage.serving.renew()
    assert [owner.taken for owner in owners] == [[ref(2)], [ref(2)]]


async def test_who_looks_second_waits_for_what_the_first_has_found() -> None:
    stage, owner = Stage(), Owner()
    await stage.start(owner)
    stage.models.assign(2)
    owner.may_end.clear()
    first, second = (asyncio.create_task(stage.serving.renew()) for _ in range(2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not second.done()
    owner.may_end.set()
    await asyncio.gather(first, second)
    assert owner.taken == [ref(2)]


async def test_new_versions_are_announced_to_every_other_host_that_is_there() -> None:
    up, down, going = Other(is_up=True), Other(is_up=False), Other(is_up=True, fails=True)
    stage, owner = Stage(going, up, down), Owner()
    await stage.start(owner)
    stage.models.assign(2)
    await stage.serving.announce()
    assert (up.asked, going.asked, down.asked) == (1, 1, 0)
    assert owner.taken == [ref(2)]


async def test_a_look_that_fails_is_its_callers_matter_and_the_next_finds_all() -> None:
    stage, owner = Stage(), Owner()
    await stage.start(owner)
    stage.models.assign(2)
    stage.models.error = UnavailableError("The database cannot be reached")
    with pytest.raises(UnavailableError):
        await stage.serving.renew()
    stage.models.error = None
    await stage.serving.renew()
    assert owner.taken == [ref(2)]
