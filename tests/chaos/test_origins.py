"""What is found of tasks that nobody submitted: retries, schedules, deliveries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.origins import DELIVERY, RAN_NOW, TICKING
from tests.chaos.plan import Order
from tests.chaos.scenes import Scene, scene, task

__all__ = ["scene"]


def accepted(way: str, key: str, id_: str, **more: str) -> dict[str, Any]:
    return {"t": 0.2, "what": "ok", "op": way, "key": key, "id": id_, "status": 202} | more


def event(id_: str, task_id: str | None = None, state: str | None = None) -> dict[str, Any]:
    type_ = "ping" if task_id is None else f"task.{state}"
    return {"t": 4.0, "what": "event", "id": id_, "type": type_, "task": task_id, "state": state}


@pytest.fixture
def busy(scene: Scene) -> Scene:
    """Beside the others a retry, a run, two ticks, a delivery and a ping, all well."""
    scene.others = [
        Order(key="key-r", way="retry"),
        Order(key="key-n", way="run"),
        Order(key="key-p", way="test"),
        Order(key="key-o", function="chaos.once", nonce="o", body={"nonce": "o"}),
    ]
    scene.add("3", task("chaos.work"), {"nonce": "w"})
    scene.add("4", task("chaos.work", schedule=RAN_NOW), {"nonce": RAN_NOW})
    for id_, minute in (("5", "01"), ("6", "02")):
        tick = {"schedule": TICKING, "request_id": f"2026-11-26T12:{minute}:00Z"}
        scene.add(id_, task("chaos.work", **tick), {"nonce": TICKING})
    scene.add("7", task("chaos.once"), {"nonce": "o"})
    scene.add("8", task(DELIVERY, parent_id="7"))
    scene.add("9", task(DELIVERY))
    scene.entries += [
        accepted("retry", "key-r", "3", of="1"),
        accepted("run", "key-n", "4"),
        accepted("test", "key-p", "9"),
        accepted("submit", "key-o", "7"),
        event("7-receiver", "7", "succeeded"),
        event("ping-receiver"),
    ]
    return scene


def test_a_round_in_which_all_went_well_has_no_fault(busy: Scene) -> None:
    assert busy.found() == set()


def test_an_event_may_arrive_twice(busy: Scene) -> None:
    busy.entries.append(event("7-receiver", "7", "succeeded"))
    assert busy.found() == set()


def test_a_ping_is_tried_once_and_may_die_with_its_process(busy: Scene) -> None:
    busy.add("9", task(DELIVERY, state="crashed"))
    busy.entries.pop()
    assert busy.found() == set()


def lose_a_retry(scene: Scene) -> None:
    for part in (scene.tasks, scene.values, scene.by_task, scene.later):
        del part["3"]


def never_accept_a_run(scene: Scene) -> None:
    scene.entries = [entry for entry in scene.entries if entry.get("op") != "run"]


def retry_twice_as_one(scene: Scene) -> None:
    scene.others.append(Order(key="key-r2", way="retry"))
    scene.entries.append(accepted("retry", "key-r2", "3", of="1"))


def retry_something_else(scene: Scene) -> None:
    scene.values["3"] = {"nonce": "another"}


def run_on_another_input(scene: Scene) -> None:
    scene.values["4"] = {"nonce": TICKING}


def run_for_no_schedule(scene: Scene) -> None:
    scene.tasks["4"]["schedule"] = None


def tick_twice(scene: Scene) -> None:
    scene.tasks["6"]["request_id"] = scene.tasks["5"]["request_id"]


def leave_a_tick_out(scene: Scene) -> None:
    scene.tasks["6"]["request_id"] = "2026-11-26T12:03:00Z"


def keep_an_end_to_itself(scene: Scene) -> None:
    scene.entries = [entry for entry in scene.entries if entry.get("task") != "7"]


def pretend_to_deliver(scene: Scene) -> None:
    scene.add("8", task(DELIVERY, parent_id="1"))


def deliver_another_end(scene: Scene) -> None:
    scene.entries[-2]["state"] = "cancelled"


def deliver_an_end_that_never_was(scene: Scene) -> None:
    scene.entries[-2] |= {"task": "unknown"}


def deliver_twice(scene: Scene) -> None:
    scene.add("10", task(DELIVERY, parent_id="7"))


def forge(scene: Scene) -> None:
    scene.entries.append({"t": 4.0, "what": "forged", "error": "no", "body": "{}"})


def pretend_to_ping(scene: Scene) -> None:
    scene.entries.pop()


def fail_a_delivery(scene: Scene) -> None:
    scene.add("8", task(DELIVERY, parent_id="7", state="crashed"))


@pytest.mark.parametrize(
    ("harm", "kind"),
    [
        (lose_a_retry, "lost"),
        (never_accept_a_run, "unanswered"),
        (retry_twice_as_one, "doubled"),
        (retry_something_else, "crossed"),
        (run_on_another_input, "crossed"),
        (run_for_no_schedule, "crossed"),
        (tick_twice, "doubled"),
        (leave_a_tick_out, "lost"),
        (keep_an_end_to_itself, "lost"),
        (pretend_to_deliver, "unseen"),
        (deliver_another_end, "crossed"),
        (deliver_an_end_that_never_was, "crossed"),
        (deliver_twice, "doubled"),
        (forge, "crossed"),
        (pretend_to_ping, "unseen"),
        (fail_a_delivery, "failed"),
    ],
)
def test_finds(harm: Callable[[Scene], None], kind: str, busy: Scene) -> None:
    harm(busy)
    assert kind in busy.found()
