"""The plan: which children, in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from skipper.errors import StartError
from skipper.launcher.plan import BROKER, GATEWAY, GUARD, HOSTS, LISTEN, SOURCES, guard, plan
from skipper.settings.model import Settings

VALKEY = Path("/opt/valkey-server")
EMBEDDED = Settings(project_dir=Path("/p"))
ELSEWHERE = Settings.model_validate({"project_dir": "/p", "broker": {"url": "amqp://rabbit"}})


def names(settings: Settings = EMBEDDED, only: frozenset[str] | None = None) -> list[str]:
    valkey = VALKEY if settings.broker_is_embedded else None
    return [child.name for child in plan(settings, only, valkey=valkey)]


def test_the_whole_tree() -> None:
    roles = ["gateway", "scheduler", "cpu", "cpu-consumer", "gpu", "gpu-consumer"]
    assert names() == ["broker", *roles]
    assert names(ELSEWHERE) == roles


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({"pool:gpu"}, ["gpu", "gpu-consumer"]),
        ({"gateway", "pool:cpu"}, ["gateway", "cpu", "cpu-consumer"]),
        ({"scheduler"}, ["scheduler"]),
        ({"broker"}, []),
    ],
)
def test_only_some_parts(only: set[str], expected: list[str]) -> None:
    assert names(ELSEWHERE, frozenset(only)) == expected
    assert names(EMBEDDED, frozenset(only)) == ["broker", *expected]


def test_an_unknown_part_is_told_with_the_nearest_one() -> None:
    with pytest.raises(StartError, match=r"no part 'pool:gpus'; did you mean 'pool:gpu'\?") as seen:
        names(only=frozenset({"pool:gpus"}))
    assert seen.value.code == 2


def test_a_pool_of_the_projects_own_is_a_part_like_any_other() -> None:
    settings = Settings.model_validate({"project_dir": "/p", "pools": {"big": {}}})
    assert names(settings)[-2:] == ["big", "big-consumer"]
    assert names(settings, frozenset({"pool:big"})) == ["broker", "big", "big-consumer"]
    with pytest.raises(StartError, match="add pool:cpu, pool:gpu, pool:big or all, or leave"):
        names(settings, frozenset({"gateway"}))
    with pytest.raises(StartError, match="did you mean 'pool:big'"):
        names(settings, frozenset({"pool:bog"}))


def test_a_gateway_without_a_pool_beside_it_is_refused() -> None:
    with pytest.raises(StartError, match="add pool:cpu, pool:gpu or both") as seen:
        names(only=frozenset({"gateway", "scheduler"}))
    assert seen.value.code == 2


def test_several_gateways_share_the_listening_socket() -> None:
    settings = Settings.model_validate({"project_dir": "/p", "gateway": {"workers": 2}})
    gateways = [child for child in plan(settings, valkey=VALKEY) if LISTEN in child.command]
    assert [child.name for child in gateways] == ["gateway-1", "gateway-2"]


def test_what_answers_the_first_call_starts_before_the_rest() -> None:
    stages = {child.name: child.stage for child in plan(EMBEDDED, valkey=VALKEY)}
    assert stages["broker"] < stages["gateway"] == stages["cpu"] < stages["scheduler"]
    assert stages["scheduler"] == stages["gpu"] == stages["cpu-consumer"] == stages["gpu-consumer"]


def test_the_first_pool_that_there_is_serves_first() -> None:
    only = frozenset({"gateway", "pool:gpu", "scheduler"})
    stages = {child.name: child.stage for child in plan(ELSEWHERE, only)}
    assert stages["gpu"] == stages["gateway"] < stages["scheduler"]


def test_a_drain_goes_from_the_sources_of_work_to_the_broker() -> None:
    levels = {child.name: child.level for child in plan(EMBEDDED, valkey=VALKEY)}
    assert levels["cpu-consumer"] == levels["scheduler"] == SOURCES
    assert SOURCES > levels["gateway"] == GATEWAY > levels["cpu"] == HOSTS
    assert HOSTS > levels["broker"] == BROKER > guard("t").level == GUARD


def test_only_the_guard_goes_without_the_trees_mark() -> None:
    assert not guard("t").is_marked
    assert all(child.is_marked for child in plan(EMBEDDED, valkey=VALKEY))


def test_a_broker_that_cannot_start_has_its_own_exit_code() -> None:
    codes = {child.name: child.failure_code for child in plan(EMBEDDED, valkey=VALKEY)}
    assert codes.pop("broker") == 9
    assert set(codes.values()) == {1}
