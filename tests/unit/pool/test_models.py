import asyncio
import time
from collections.abc import Iterator
from typing import Never

import pytest

from skipper.instance.jobs import ModelRef, Report
from skipper.ledger import Connection, deployments, models, tasks, transitions
from skipper.ledger.records import ModelVersionNew, NewTask
from skipper.pool.models import ServedModels
from skipper.pool.processes.version import FunctionVersion
from skipper.task import new_id
from skipper.values.value import Value
from skipper.wire.frames import FrameKind
from tests.blocking import BlockingLedger
from tests.unit.pool.played import Nobody, Played, job_of, version_of


@pytest.fixture
def own_ledger(ledger_url: str) -> Iterator[BlockingLedger]:
    with BlockingLedger.open(ledger_url) as opened:
        yield opened


def publish(ledger: BlockingLedger, name: str, digest: str = "d" * 64) -> None:
    """Train a version of a model, as far as the ledger sees it."""
    task_id, now = new_id(), time.time()
    new = NewTask(
        id=task_id,
        function="boston.train",
        kind="training",
        pool="cpu",
        created_at=now,
        available_at=now,
        input=Value(inline=b"{}"),
        max_attempts=1,
    )
    made = ModelVersionNew(
        name=name,
        digest=digest,
        format="tiny",
        task_id=task_id,
        attempt=1,
        host="host",
        function="boston.train",
        created_at=now,
    )
    ledger.write_now(lambda conn: tasks.accept(conn, new))
    ledger.write_now(lambda conn: tasks.claim(conn, [task_id], "host", now))
    assert ledger.write_now(lambda conn: models.publish(conn, made)) is not None


def promote(ledger: BlockingLedger, name: str, version: int) -> None:
    """Have a version serve, whichever does now."""

    def promote_next(conn: Connection) -> object:
        held = deployments.get(conn, name)
        assert held is not None
        return deployments.put(conn, transitions.promoted(held, version))

    assert ledger.write_now(promote_next) is not None


def ref(name: str, version: int, seq: int, digest: str = "d" * 64) -> ModelRef:
    return ModelRef(name=name, version=version, digest=digest, format="tiny", seq=seq)


def serving(version: FunctionVersion, *held: ModelRef) -> Played[Never]:
    """An instance that holds these versions."""
    return Played(job_of(version).model_copy(update={"models": held}), Nobody())


def sent(instance: Played[Never]) -> list[ModelRef]:
    frames = [frame for frame in instance.transport.frames if frame.kind == FrameKind.MODEL]
    return [ModelRef.model_validate_json(frame.payload) for frame in frames]


async def test_the_version_in_production_of_each_model_is_what_instances_start_with(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger)
    for name in ("boston", "iris", "boston"):
        publish(own_ledger, name)
    await served_models.refresh()
    assert served_models.refs(["boston", "iris", "none"]) == (
        ref("boston", 2, 3),
        ref("iris", 1, 2),
    )
    promote(own_ledger, "boston", 1)
    await served_models.refresh()
    assert served_models.refs(["boston"]) == (ref("boston", 1, 4),)


async def test_what_has_been_deployed_is_taken_in_once_whatever_the_version(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger)
    for name in ("boston", "iris"):
        publish(own_ledger, name)
    assert await served_models.refresh() == [ref("boston", 1, 1), ref("iris", 1, 2)]
    publish(own_ledger, "boston")
    publish(own_ledger, "boston", "e" * 64)
    assert await served_models.refresh() == [ref("boston", 3, 4, "e" * 64)]
    assert await served_models.refresh() == []
    promote(own_ledger, "boston", 1)
    assert await served_models.refresh() == [ref("boston", 1, 5)]
    assert await served_models.refresh() == []


async def test_looks_beside_each_other_take_in_a_deployment_once(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger)
    publish(own_ledger, "boston")
    found = await asyncio.gather(*(served_models.refresh() for _ in range(3)))
    assert [each for refs in found for each in refs] == [ref("boston", 1, 1)]


async def test_an_instance_is_sent_once_what_was_deployed_after_what_it_holds() -> None:
    version = version_of()
    old, other, new = (
        serving(version, *held) for held in ((ref("boston", 2, 5),), (ref("iris", 1, 1),), ())
    )
    for instance in (old, old, other, new):
        instance.take_model(ref("boston", 3, 4))
        instance.take_model(ref("boston", 1, 6))
    assert sent(old) == [ref("boston", 1, 6)]
    assert old.versions == "boston@1"
    assert sent(other) == sent(new) == []


async def test_an_instance_has_loaded_what_it_was_sent_when_it_has_answered_each() -> None:
    instance = serving(version_of(), ref("boston", 1, 1), ref("iris", 1, 2))
    instance._report.set_result(Report())
    assert instance.loaded.is_set()
    for name in ("boston", "iris"):
        instance.take_model(ref(name, 2, 3))
    for has_loaded in (False, True):
        assert not instance.loaded.is_set()
        instance.says(FrameKind.REPORT, 0, b"{}")
        assert instance.loaded.is_set() is has_loaded
    instance.take_model(ref("iris", 3, 5))
    instance.dies()
    assert instance.loaded.is_set(), "nobody waits for one that is gone"


@pytest.mark.parametrize(
    ("trainers", "call"),
    [
        (["boston.train", "iris.train"], "boston.train"),
        (["boston.train", "boston.tune"], "boston.train or boston.tune"),
        (["iris.train"], "iris.train"),
        ([], "a training function"),
    ],
)
async def test_a_function_without_its_model_is_told_with_what_trains_it(
    own_ledger: BlockingLedger, trainers: list[str], call: str
) -> None:
    predict = version_of("boston.predict", models=("net", "scaler"))
    functions = [predict, *(version_of(name, kind="training") for name in trainers)]
    served_models = ServedModels(own_ledger)
    publish(own_ledger, "scaler")
    await served_models.refresh()
    assert (
        served_models.untrained(predict, functions)
        == f"model 'net' has no version yet; call {call} first"
    )
    publish(own_ledger, "net")
    await served_models.refresh()
    assert served_models.untrained(predict, functions) == ""
