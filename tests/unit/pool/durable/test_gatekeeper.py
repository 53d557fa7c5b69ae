"""Who is asked whether a version may serve, and what counts where there is no answer."""

import json
from typing import Any

import pytest

from skipper.errors import UnavailableError
from skipper.ledger.records import Fitness, ModelVersion, ModelVersionNew
from skipper.outcomes import Outcome
from skipper.pool.durable.gatekeeper import Gatekeeper, kept_out
from skipper.settings.models import ModelSettings
from skipper.spec import Mode
from skipper.wire import calls
from tests.unit.gateway.played import SPEC, PlayedDirectory, PlayedLink

NEW = ModelVersionNew(
    name="boston",
    digest="d",
    format="keras",
    task_id="t",
    attempt=1,
    host="h",
    function="boston.train",
    created_at=7.0,
    metrics={"rmse": 3.1},
)


def held(version: int = 7) -> ModelVersion:
    return ModelVersion(
        name="boston",
        version=version,
        digest="d",
        format="keras",
        metrics={"rmse": 3.0},
        params=None,
        code=None,
        task_id="t0",
        function="boston.train",
        created_at=1.0,
        seq=1,
        size=None,
        state=Fitness.FIT,
        reason=None,
        gate=None,
    )


def keeper(directory: Any, limit_s: float = 5.0, **settings: Any) -> Gatekeeper:
    tables = {"boston": ModelSettings.model_validate(settings)}
    return Gatekeeper(tables, directory, limit_s=limit_s)


def answering(*replies: bytes) -> tuple[PlayedDirectory, PlayedLink]:
    link = PlayedLink(*replies)
    return PlayedDirectory(link, SPEC.model_copy(update={"name": "boston.gate"})), link


async def test_without_settings_every_version_serves_and_nothing_is_kept() -> None:
    directory: Any = answering()[0]
    admit = await Gatekeeper({}, directory).admit(NEW, held())
    decided = admit(held())
    assert decided is not None
    assert (decided.serves, decided.percent, decided.gate) == (True, 0.0, None)


async def test_rules_are_of_what_is_in_production_when_it_is_published() -> None:
    admit = await keeper(None, gate={"rmse": {"max_ratio_to_production": 1.02}}).admit(NEW, None)
    first, second = admit(None), admit(held())
    assert first is not None
    assert second is not None
    assert (first.serves, second.serves) == (True, False)
    assert second.gate is not None
    assert second.gate["against"] == 7


async def test_by_hand_nothing_serves_by_itself_and_a_canary_begins_with_a_part() -> None:
    decided = (await keeper(None, promote="manual").admit(NEW, None))(None)
    assert decided is not None
    assert not decided.serves
    decided = (await keeper(None, canary={"percent": 10}).admit(NEW, None))(held())
    assert decided is not None
    assert (decided.serves, decided.percent) == (True, 10)


@pytest.mark.parametrize("value", [True, False])
async def test_a_function_is_given_both_versions_and_decides(value: bool) -> None:
    directory, link = answering(calls.reply(Outcome.OK, b"", json.dumps(value).encode()))
    decided = (await keeper(directory, gate="boston.gate").admit(NEW, held()))(held())
    assert decided is not None
    assert decided.serves is value
    head, at = calls.parse_call(link.payloads[0])
    given = json.loads(link.payloads[0][at:])
    assert head.name == "boston.gate"
    assert given["version"]["metrics"] == {"rmse": 3.1}
    assert (given["production"]["version"], given["production"]["metrics"]) == (7, {"rmse": 3.0})


async def test_what_a_function_said_of_another_version_decides_nothing() -> None:
    directory, _ = answering(calls.reply(Outcome.OK, b"", b"true"))
    admit = await keeper(directory, gate="boston.gate").admit(NEW, held())
    assert admit(held(8)) is None
    assert admit(None) is None


async def reason(gatekeeper: Gatekeeper) -> str:
    decided = (await gatekeeper.admit(NEW, None))(None)
    assert decided is not None
    assert decided.gate is not None
    assert not decided.serves
    return str(decided.gate["why"])


async def test_a_function_that_raises_keeps_the_version_out() -> None:
    failure = calls.problem(Outcome.FAILED, "ZeroDivisionError: division by zero")
    said = await reason(keeper(answering(failure)[0], gate="boston.gate"))
    assert said == "boston.gate ended failed: ZeroDivisionError: division by zero"


async def test_a_function_that_hangs_keeps_the_version_out() -> None:
    directory, link = answering()
    said = await reason(keeper(directory, 0.05, gate="boston.gate"))
    assert said == "boston.gate did not answer within 0.05 s"
    assert len(link.cancelled) == 1, "its host stops it"


async def test_a_function_that_answers_neither_keeps_the_version_out() -> None:
    directory, _ = answering(calls.reply(Outcome.OK, b"", b"0.97"))
    assert "'0.97', which is neither" in await reason(keeper(directory, gate="boston.gate"))


async def test_a_function_that_there_is_not_keeps_the_version_out() -> None:
    said = await reason(keeper(answering()[0], gate="boston.other"))
    assert said == "boston.other could not be asked: there is no function 'boston.other'"


async def test_a_function_that_is_a_task_is_not_asked() -> None:
    directory, _ = answering()
    directory.spec = directory.spec.model_copy(update={"mode": Mode.TASK})
    assert "make it a function of data" in await reason(keeper(directory, gate="boston.gate"))


async def test_a_function_whose_pool_is_away_keeps_the_version_out() -> None:
    class Away(PlayedLink):
        def call(self, *_: Any, **__: Any) -> Any:
            raise UnavailableError("pool cpu is not reachable at the moment")

    spec = SPEC.model_copy(update={"name": "boston.gate"})
    said = await reason(keeper(PlayedDirectory(Away(), spec), gate="boston.gate"))
    assert said == "boston.gate could not be asked: pool cpu is not reachable at the moment"


def test_production_that_changes_again_and_again_keeps_the_version_out() -> None:
    decided = kept_out(held())
    assert not decided.serves
    assert decided.gate is not None
    assert decided.gate["against"] == 7
