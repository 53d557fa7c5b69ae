import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from skipper.errors import UnfitError
from skipper.instance.jobs import ModelRef
from skipper.ledger import Connection, deployments, models, tasks, transitions
from skipper.ledger.records import (
    Fitness,
    Forced,
    ImportedModel,
    ModelVersion,
    ModelVersionNew,
    NewTask,
)
from skipper.pool.models import AGAIN_S, Candidate, ServedModels
from skipper.settings.models import ModelSettings
from skipper.task import new_id
from skipper.values.value import Value
from skipper.wire.messages import UnfitVersion
from tests.blocking import BlockingLedger
from tests.unit.pool.played import version_of


@pytest.fixture
def own_ledger(ledger_url: str) -> Iterator[BlockingLedger]:
    with BlockingLedger.open(ledger_url) as opened:
        yield opened


def publish(
    ledger: BlockingLedger, name: str, digest: str = "d" * 64, state: Fitness = Fitness.FIT
) -> None:
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
        state=state,
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


def ref(name: str, version: int, digest: str = "d" * 64) -> ModelRef:
    return ModelRef(name=name, version=version, digest=digest, format="tiny")


async def test_the_version_in_production_of_each_model_is_what_instances_start_with(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger, {})
    for name in ("boston", "iris", "boston"):
        publish(own_ledger, name)
    await served_models.refresh()
    assert served_models.refs(["boston", "iris", "none"]) == (ref("boston", 2), ref("iris", 1))
    promote(own_ledger, "boston", 1)
    await asyncio.gather(*(served_models.refresh() for _ in range(3)))
    assert served_models.refs(["boston"]) == (ref("boston", 1),)


async def test_the_records_that_a_function_follows_are_known_by_their_revisions(
    own_ledger: BlockingLedger,
) -> None:
    for _ in range(2):
        publish(own_ledger, "boston")
    publish(own_ledger, "iris")
    served = ServedModels(own_ledger, {})
    await served.refresh()
    assert served.deployments(["boston", "iris"]) == ("boston/2", "iris/1")
    assert served.deployments(["boston", "boston@candidate"]) == ("boston/2",)
    assert served.deployments(["boston@1", "none"]) == (), "these follow no record"
    promote(own_ledger, "boston", 1)
    await served.refresh()
    assert served.deployments(["boston@candidate"]) == ("boston/3",)


def try_out(ledger: BlockingLedger, name: str, version: int, percent: float) -> None:
    """Have a version be the candidate, whichever is now."""

    def changed(conn: Connection) -> object:
        held = deployments.get(conn, name)
        assert held is not None
        return deployments.put(conn, replace(held, candidate=version, percent=percent))

    assert ledger.write_now(changed) is not None


async def test_a_candidate_is_served_beside_production_as_its_record_says(
    own_ledger: BlockingLedger,
) -> None:
    for name in ("boston", "boston", "iris"):
        publish(own_ledger, name)
    served, names = ServedModels(own_ledger, {}), ["iris", "boston", "none"]
    await served.refresh()
    assert served.candidate(names, "", 0.0) is None
    for percent, expected in ((10.0, 10.0), (50.0, 50.0), (0.0, None)):
        try_out(own_ledger, "boston", 1, percent)
        await served.refresh()
        found = served.candidate(names, "", 0.0)
        refs = (ref("iris", 1), ref("boston", 1))
        assert found == (None if expected is None else Candidate("boston", expected, refs))
        assert served.refs(names) == (ref("iris", 1), ref("boston", 2)), "production stays"


async def test_a_candidate_that_does_not_load_is_none_until_it_may_be_tried_again(
    own_ledger: BlockingLedger,
) -> None:
    for _ in range(2):
        publish(own_ledger, "boston")
    try_out(own_ledger, "boston", 1, 10)
    served = ServedModels(own_ledger, {})
    await served.refresh()
    served.condemn(ref("boston", 1), "it is damaged")
    now = time.monotonic()
    assert served.candidate(["boston"], "", now) is None
    assert served.candidate(["boston"], "", now + AGAIN_S[1]) is not None


async def test_a_version_that_does_not_load_is_left_out_for_the_last_one_that_does(
    own_ledger: BlockingLedger,
) -> None:
    """keras-team/keras#21046: what started later tried the broken version again, for ever."""
    served_models = ServedModels(own_ledger, {})
    for _ in range(3):
        publish(own_ledger, "boston")
    await served_models.refresh()
    third, second, first = (ref("boston", number) for number in (3, 2, 1))
    served_models.condemn(third, "it is damaged")
    assert served_models.refs(["boston"]) == (second,)
    assert served_models.reason(third) == "it is damaged"
    served_models.condemn(second, "it is damaged, too")
    assert served_models.refs(["boston"]) == (first,)
    assert served_models.approve([third, first]) == [third]
    assert served_models.refs(["boston"]) == (third,)


async def test_what_fails_with_one_function_alone_serves_the_others(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger, {})
    for _ in range(2):
        publish(own_ledger, "boston")
    await served_models.refresh()
    first, second = ref("boston", 1), ref("boston", 2)
    served_models.condemn(second, "its class does not take it", "f.f c0de")
    assert served_models.refs(["boston"], "f.f c0de") == (first,)
    assert served_models.refs(["boston"], "g.g c0de") == (second,)
    assert served_models.refs(["boston"], "f.f beef") == (second,), "other code may take it"
    assert served_models.approve([second], "g.g c0de") == []
    assert served_models.approve([second], "f.f c0de") == [second]
    assert served_models.refs(["boston"], "f.f c0de") == (second,)


async def test_what_a_function_asks_for_beside_production_is_followed(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger, {})
    predict = version_of(models=("boston", "boston@candidate", "boston@1", "boston@9"))
    for _ in range(3):
        publish(own_ledger, "boston")
    await served_models.refresh()
    await served_models.learn(predict.spec.models)
    first = ref("boston", 1).model_copy(update={"asked": "boston@1"})
    assert served_models.refs(["boston@1", "boston@candidate"]) == (first,)
    told = served_models.untrained(version_of(models=("boston@candidate",)), [])
    assert told == "model 'boston' has no candidate version"
    assert "no version 9" in served_models.untrained(version_of(models=("boston@9",)), [])

    def stand(conn: Connection) -> object:
        return deployments.change(
            conn, "boston", lambda held: transitions.with_candidate(held, 2, 10)
        )

    own_ledger.write_now(stand)
    await served_models.refresh()
    (candidate,) = served_models.refs(["boston@candidate"])
    assert (candidate.key, candidate.label) == ("boston@candidate", "boston@2")
    assert served_models.refs(["boston", "boston@candidate"])[0] == ref("boston", 3)


async def test_the_next_version_after_one_that_does_not_load_serves_by_itself(
    own_ledger: BlockingLedger,
) -> None:
    """triton-inference-server/server#6534: later, good versions were never picked up."""
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "boston")
    publish(own_ledger, "boston")
    await served_models.refresh()
    served_models.condemn(ref("boston", 2), "it is damaged")
    publish(own_ledger, "boston")
    await served_models.refresh()
    assert served_models.refs(["boston"]) == (ref("boston", 3),)


async def test_where_no_version_loads_the_one_in_production_is_what_fails(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "boston")
    await served_models.refresh()
    served_models.condemn(ref("boston", 1), "it is damaged")
    assert served_models.refs(["boston"]) == (ref("boston", 1),)


async def test_what_did_not_load_may_be_tried_again_after_longer_and_longer_pauses(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "boston")
    publish(own_ledger, "boston")
    await served_models.refresh()
    pauses = []
    for _ in range(12):
        now = time.monotonic()
        served_models.condemn(ref("boston", 2), "the store is away")
        assert served_models.wanted(["boston"], "", now) == (ref("boston", 1),)
        pauses.append(served_models._unfit["boston@2", ""].again_at - now)
    assert served_models.wanted(["boston"], "", now + AGAIN_S[1] + 1) == (ref("boston", 2),)
    assert pauses[0] <= AGAIN_S[0] + 0.1
    assert max(pauses) <= AGAIN_S[1] + 0.1
    assert pauses[5] > pauses[0]


@pytest.mark.parametrize(
    ("trainers", "call"),
    [
        (["boston.train", "boston.tune"], "boston.train or boston.tune"),
        (["iris.train"], "iris.train"),
        ([], "a training function"),
    ],
)
async def test_a_function_without_its_model_is_told_with_what_trains_it(
    own_ledger: BlockingLedger, trainers: list[str], call: str
) -> None:
    predict = version_of("boston.predict", models=("net", "scaler"))
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "scaler")
    await served_models.refresh()
    assert (
        served_models.untrained(predict, trainers)
        == f"model 'net' has no version yet; call {call} first"
    )
    publish(own_ledger, "net")
    await served_models.refresh()
    assert served_models.untrained(predict, trainers) == ""


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        (["boston"], 3),
        (["iris"], 0),
        (["digits"], 1),
        (["iris", "boston@candidate"], 3),
        (["iris", "digits"], 1),
        ([], 0),
    ],
)
def test_as_many_versions_stay_loaded_as_the_settings_say_of_a_functions_models(
    own_ledger: BlockingLedger, names: list[str], kept: int
) -> None:
    settings = {"boston": ModelSettings(keep=3), "iris": ModelSettings(keep=0)}
    assert ServedModels(own_ledger, settings).keep(names) == kept


async def test_what_is_in_production_and_does_not_load_is_told_until_another_is_or_it_loads(
    own_ledger: BlockingLedger,
) -> None:
    publish(own_ledger, "boston")
    publish(own_ledger, "iris")
    served_models = ServedModels(own_ledger, {})
    await served_models.refresh()
    assert served_models.unfit_versions() == []
    (bad,) = served_models.refs(["boston"])
    served_models.condemn(bad, "a file is damaged")
    told = UnfitVersion(model="boston", version=1, reason="a file is damaged")
    assert served_models.unfit_versions() == [told]
    publish(own_ledger, "boston")
    await served_models.refresh()
    assert served_models.unfit_versions() == []
    promote(own_ledger, "boston", 1)
    await served_models.refresh()
    assert served_models.unfit_versions() == [told]
    served_models.approve([bad])
    assert served_models.unfit_versions() == []


def take_in(ledger: BlockingLedger, name: str) -> ModelVersion:
    """A version that was made elsewhere, and that nobody has loaded."""
    new = ImportedModel(
        name=name,
        digest="d" * 64,
        format="tiny",
        function="boston.train",
        created_at=time.time(),
        metrics=None,
        params=None,
        code=None,
        size=1,
        origin={"name": name, "version": 1},
    )
    return ledger.write_now(lambda conn: models.take_in(conn, new))


def state_of(ledger: BlockingLedger, name: str, version: int) -> tuple[Fitness, str | None]:
    found = ledger.read_now(lambda conn: models.get(conn, name, version))
    assert found is not None
    return found.state, found.reason


async def test_what_nobody_had_loaded_is_judged_by_who_loads_it_first(
    own_ledger: BlockingLedger,
) -> None:
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "boston")
    taken = take_in(own_ledger, "boston")
    assert state_of(own_ledger, "boston", 2) == (Fitness.STORED, None)
    promote(own_ledger, "boston", 2)
    await served_models.refresh()
    served_models.condemn(ref("boston", 2), "no plugin loads it", "one.function 1234")
    await served_models.refresh()
    assert state_of(own_ledger, "boston", 2)[0] is Fitness.STORED, "others may be served with it"
    served_models.condemn(ref("boston", 2), "no plugin loads it")
    await served_models.refresh()
    assert state_of(own_ledger, "boston", 2) == (Fitness.UNFIT, "no plugin loads it")
    promote(own_ledger, "boston", 1)
    with pytest.raises(UnfitError, match="no plugin loads it; promote it with force"):
        promote(own_ledger, "boston", taken.version)
    again = Forced(by="ops", why="its library is installed", at=0.0)
    unfit = own_ledger.read_now(lambda conn: models.get(conn, "boston", 2))
    assert unfit is not None
    own_ledger.write_now(lambda conn: models.force(conn, unfit, again))
    promote(own_ledger, "boston", taken.version)
    await served_models.refresh()
    served_models.approve([ref("boston", 2)])
    await served_models.refresh()
    assert state_of(own_ledger, "boston", 2) == (Fitness.FIT, None)


async def test_what_was_unfit_and_loads_is_fit(own_ledger: BlockingLedger) -> None:
    """A library was missing, and is installed by now."""
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "boston")
    take_in(own_ledger, "boston")
    promote(own_ledger, "boston", 2)
    await served_models.refresh()
    for find, state in (
        (lambda: served_models.condemn(ref("boston", 2), "it needs a library"), Fitness.UNFIT),
        (lambda: served_models.approve([ref("boston", 2)]), Fitness.FIT),
    ):
        find()
        await served_models.refresh()
        assert state_of(own_ledger, "boston", 2)[0] is state


async def test_a_version_that_was_tried_is_not_judged_by_one_host(
    own_ledger: BlockingLedger,
) -> None:
    """What keeps it from loading there, a full disk perhaps, is no fault of the version's."""
    served_models = ServedModels(own_ledger, {})
    publish(own_ledger, "boston")
    await served_models.refresh()
    served_models.condemn(ref("boston", 1), "killed")
    await served_models.refresh()
    assert state_of(own_ledger, "boston", 1) == (Fitness.FIT, None)
