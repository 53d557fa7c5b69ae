"""The checker finds what it is there to find: each broken promise, and nothing in a clean round."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import get_args

import pytest

from skipper.failpoints import POINTS
from tests.chaos.look import ending
from tests.chaos.plan import Round, Way, faults, hits, orders
from tests.chaos.points import PROVOKED_BY, REACHED, every, may_raise
from tests.chaos.scenes import Scene, called, ran, scene, task

__all__ = ["scene"]


def test_a_round_in_which_all_went_well_has_no_fault(scene: Scene) -> None:
    assert scene.found() == set()


def lose(scene: Scene) -> None:
    for part in (scene.tasks, scene.values, scene.by_task, scene.later):
        del part["1"]


def get_stuck(scene: Scene) -> None:
    scene.tasks["1"]["state"] = "running"


def fail(scene: Scene) -> None:
    scene.tasks["1"] |= {"state": "crashed", "error": {"detail": "died"}}
    scene.later["1"] = ending(scene.tasks["1"])


def accept_twice(scene: Scene) -> None:
    scene.entries.append(scene.entries[0] | {"id": "2"})


def run_an_attempt_twice(scene: Scene) -> None:
    scene.by_task["1"] *= 2


def run_after_the_end(scene: Scene) -> None:
    scene.by_task["1"] += ran("1", 2, "w")


def run_at_once(scene: Scene) -> None:
    scene.tasks["1"]["attempt"] = 2
    scene.later["1"] = ending(scene.tasks["1"])
    first, second = ran("1", 1, "w"), ran("1", 2, "w")
    scene.by_task["1"] = [first[0], second[0], first[1], second[1]]


def begin_anew(scene: Scene) -> None:
    scene.tasks["1"]["attempt"] = 2
    scene.later["1"] = ending(scene.tasks["1"])
    start, end = ran("1", 2, "w")
    whats = ("from:0", "kept:1", "kept:2"), ("from:1",)
    first, second = (
        [start._replace(attempt=n, what=what) for what in told] for n, told in enumerate(whats, 1)
    )
    scene.by_task["1"] = [*first, start, *second, end]


def call_twice(scene: Scene) -> None:
    scene.direct["d0"] *= 2


def cross(scene: Scene) -> None:
    scene.values["1"] = {"nonce": "another"}


def cross_a_call(scene: Scene) -> None:
    scene.entries[3]["body"] = '{"nonce": "another"}'


def pretend(scene: Scene) -> None:
    scene.by_task["1"].pop()


def pretend_a_call(scene: Scene) -> None:
    del scene.direct["d0"]


def change(scene: Scene) -> None:
    scene.later["1"] = ending(task("chaos.work", state="failed"))


def publish_twice(scene: Scene) -> None:
    scene.versions.append({"version": 2, "task_id": "2"})


def serve_an_old_model(scene: Scene) -> None:
    scene.entries[5]["newest"] = 2


def never_accept(scene: Scene) -> None:
    scene.entries[0]["key"] = "somebody else's"


def never_answer(scene: Scene) -> None:
    del scene.entries[3]


def break_a_connection(scene: Scene) -> None:
    scene.entries[3] = called(1.1, "info", "echo", "d0", error="ReadError")


def refuse_a_connection(scene: Scene) -> None:
    scene.entries.insert(4, called(1.2, "info", "submit", "w", error="ConnectError()"))


def answer_500(scene: Scene) -> None:
    scene.entries[3]["status"] = 500


def stay_away(scene: Scene) -> None:
    scene.entries.append({"t": 3.0, "what": "recovery", "name": "gateway", "seconds": None})


def stay_behind(scene: Scene) -> None:
    scene.entries.append({"t": 3.0, "what": "left", "processes": ["7 python"]})


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (lose, "lost"),
        (get_stuck, "stuck"),
        (fail, "failed"),
        (accept_twice, "doubled"),
        (run_an_attempt_twice, "doubled"),
        (run_after_the_end, "doubled"),
        (run_at_once, "doubled"),
        (begin_anew, "resumed"),
        (call_twice, "doubled"),
        (cross, "crossed"),
        (cross_a_call, "crossed"),
        (pretend, "unseen"),
        (pretend_a_call, "unseen"),
        (change, "changed"),
        (publish_twice, "models"),
        (serve_an_old_model, "models"),
        (never_accept, "unanswered"),
        (never_answer, "unanswered"),
        (break_a_connection, "unanswered"),
        (refuse_a_connection, "unanswered"),
        (answer_500, "unanswered"),
        (stay_away, "stuck"),
        (stay_behind, "orphans"),
    ],
)
def test_finds(harm: Callable[[Scene], None], kind: str, scene: Scene) -> None:
    harm(scene)
    assert kind in scene.found()


def test_a_connection_may_break_when_its_gateway_dies(scene: Scene) -> None:
    break_a_connection(scene)
    scene.entries.append({"t": 1.05, "what": "fault", "role": "gateway", "how": "kill"})
    assert scene.found() == set()


def test_connections_may_be_refused_between_two_trees(scene: Scene) -> None:
    refuse_a_connection(scene)
    scene.entries.insert(2, {"t": 0.2, "what": "fault", "role": "launcher", "how": "kill"})
    scene.entries.append(
        {"t": 5.0, "what": "recovery", "role": "launcher", "name": "launcher", "seconds": 4.8}
    )
    assert scene.found() == set()


def test_what_has_one_attempt_may_crash(scene: Scene) -> None:
    fail(scene)
    scene.tasks["1"]["function"] = "chaos.once"
    del scene.values["1"]
    scene.entries.append(
        {"t": 4.0, "what": "event", "id": "e", "type": "x", "task": "1", "state": "crashed"}
    )
    assert scene.found() == set()


def cancel(scene: Scene, told: str, ended: str) -> None:
    """The driver's cancel of the first task was answered ``told``; the task ended ``ended``."""
    scene.cancel_s = 0.1
    facts = {"op": "cancel", "key": "key-w", "id": "1", "status": 200}
    scene.entries.append({"t": 3.0, "what": "ok", "state": told} | facts)
    scene.tasks["1"]["state"] = ended
    scene.later["1"] = ending(scene.tasks["1"])
    if ended != "succeeded":
        del scene.values["1"]


@pytest.mark.parametrize(
    ("told", "ended", "found"),
    [
        ("cancelled", "cancelled", set()),
        ("succeeded", "succeeded", set()),
        ("running", "succeeded", set()),
        ("running", "cancelled", set()),
        ("cancelled", "succeeded", {"changed"}),
        ("succeeded", "cancelled", {"changed"}),
        ("running", "crashed", {"failed"}),
    ],
)
def test_a_cancel_is_answered_with_the_truth(
    told: str, ended: str, found: set[str], scene: Scene
) -> None:
    cancel(scene, told, ended)
    assert scene.found() == found


def test_nobody_elses_task_is_cancelled(scene: Scene) -> None:
    cancel(scene, "cancelled", "cancelled")
    scene.cancel_s = None
    assert scene.found() == {"failed"}


def test_a_round_is_the_same_for_the_same_seed() -> None:
    round_ = Round(seed=7, tasks=50, kills=2)
    assert orders(round_) == orders(round_)
    assert faults(round_) == faults(round_)
    assert faults(round_) != faults(Round(seed=8, tasks=50, kills=2))


def test_a_round_has_tasks_of_every_way_in() -> None:
    assert {order.way for order in orders(Round(seed=7, tasks=500))} == set(get_args(Way))


def test_every_point_of_a_round_is_armed_as_often_as_it_stands_there() -> None:
    round_ = Round(seed=7, points=every(2, with_stops=True))
    assert Counter(hit.point for hit in hits(round_)) == dict.fromkeys(REACHED, 2)
    assert hits(round_) == hits(round_)


def test_no_point_is_armed_to_raise_where_nothing_can() -> None:
    armed = [hit for seed in range(50) for hit in hits(Round(seed=seed, points=every()))]
    assert {hit.how for hit in armed} == {"kill", "stall", "raise"}
    assert all(may_raise(hit.point) for hit in armed if hit.how == "raise")


def test_every_point_that_must_be_provoked_exists() -> None:
    assert PROVOKED_BY.keys() <= POINTS.keys()
