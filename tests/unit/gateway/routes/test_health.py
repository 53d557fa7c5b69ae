"""Whether the scheduler is at work, as its heartbeats show; and the consumers."""

from types import SimpleNamespace
from typing import cast

import pytest

from skipper.gateway.context import Context
from skipper.gateway.routes.health import STILL_S, Readiness, Rounds, consumer_problem, unfit_models
from skipper.ledger.records import Beat
from skipper.spec import BrokenFile
from skipper.wire.messages import FunctionState, ListedFunction
from tests.unit.pool.played import spec_of
from tests.unit.wire.stand_in import POOL


def beat(counter: int, id_: str = "scheduler-1") -> list[Beat]:
    return [Beat("cpu-1", "cpu", counter), Beat(id_, "scheduler", counter)]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nobody_is_at_work_before_the_first_heartbeats() -> None:
    assert Rounds().problem == "not heard of yet"


def test_a_heartbeat_that_stands_still_may_be_that_of_a_dead_scheduler() -> None:
    rounds = Rounds()
    rounds.observe(beat(7))
    rounds.observe(beat(7))
    assert rounds.problem == "not heard of yet"
    rounds.observe(beat(8))
    assert rounds.problem == ""


def test_a_new_scheduler_is_known_at_its_first_heartbeat() -> None:
    rounds = Rounds()
    rounds.observe(beat(7, "scheduler-dead"))
    rounds.observe(beat(0))
    assert rounds.problem == ""


def test_heartbeats_of_hosts_are_not_a_schedulers() -> None:
    rounds = Rounds()
    for counter in range(3):
        rounds.observe([Beat("cpu-1", "cpu", counter)])
    assert rounds.problem == "not heard of yet"


def test_a_scheduler_that_stops_at_work_is_a_problem() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    rounds.observe(beat(1))
    rounds.observe(beat(2))
    clock.now += STILL_S + 5
    rounds.observe(beat(2))
    assert rounds.problem == "has done no round for 15 s"


@pytest.mark.parametrize(
    ("is_linked", "problem", "shown"),
    [
        (True, "", ""),
        (True, "it was of another version", ""),
        (False, "", "not connected yet"),
        (False, "it is of another version", "it is of another version"),
    ],
)
def test_a_consumer_that_is_not_linked_is_shown_with_the_reason(
    is_linked: bool, problem: str, shown: str
) -> None:
    state = POOL.model_copy(update={"consumer": is_linked, "consumer_problem": problem})
    assert consumer_problem(state) == shown


@pytest.mark.parametrize(
    ("functions", "broken", "told"),
    [
        ([ListedFunction(spec=spec_of("a.f"))], [], {}),
        (
            [ListedFunction(spec=spec_of("a.f"), state=FunctionState.FAILING, problem="no disk")],
            [],
            {"functions": "failing: a.f: no disk"},
        ),
        (
            [ListedFunction(spec=spec_of("a.f"), state=FunctionState.STALE)],
            [BrokenFile(file="functions/a.py", error="SyntaxError")],
            {"functions": "not loaded: functions/a.py: SyntaxError; stale: a.f"},
        ),
    ],
)
def test_what_callers_of_single_functions_would_meet_is_told(
    functions: list[ListedFunction], broken: list[BrokenFile], told: dict[str, str]
) -> None:
    directory = SimpleNamespace(functions=lambda: functions, broken=lambda: broken)
    context = cast(Context, SimpleNamespace(directory=directory))
    assert Readiness(context).faults() == told


def test_a_version_in_production_that_does_not_load_is_told_with_its_pool_and_why() -> None:
    assert unfit_models(POOL) == ["boston@7 on cpu: a file is damaged"]
    assert unfit_models(POOL.model_copy(update={"unfit": ()})) == []
