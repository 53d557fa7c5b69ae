"""A task's input is checked before it is accepted, and that costs no serving process."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import Grow
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Gate, Tree, project, until

SLOW = """
import time
from pathlib import Path

import skipper

GATE = Path({gate!r})
if GATE.with_suffix(".shut").exists():
    while not GATE.exists():
        time.sleep(0.01)

@skipper.training
def train(x: int) -> int:
    return x

@skipper.data(mode="task")
def prepare(x: int) -> int:
    return x
"""
ODD = """
import os

import skipper
from pydantic import BaseModel, field_validator

class Odd(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def ends_the_process(cls, value: int) -> int:
        if value < 0:
            os._exit(3)
        return value

@skipper.training
def train(odd: Odd) -> int:
    return odd.x
"""


def test_a_training_gets_no_second_process_for_its_inputs(plain: Tree) -> None:
    task_ids = [plain.submit("work.adds", {"x": number}) for number in range(3)]
    problem(plain.invoke("work.adds", {"x": "?"}), 422, "invalid-input")
    assert [plain.result(task_id) for task_id in task_ids] == [1, 2, 3]
    found = [each for each in plain.pool("cpu")["instances"] if each["function"] == "work.adds"]
    assert {each["lane"] for each in found} == {"tasks"}


def test_where_nobody_can_tell_yet_the_task_says_so_and_later_inputs_are_checked(
    tmp_path: Path, grow: Grow, gate: Gate
) -> None:
    """The file loads for longer than an acceptance waits, as one of heavy libraries does."""
    tree = grow(project(tmp_path / "slow", slow=SLOW.format(gate=str(gate.path)))).ready()
    gate.path.with_suffix(".shut").touch()
    for name in ("slow.train", "slow.prepare"):
        accepted = tree.invoke(name, {"x": "?"})
        assert (accepted.status_code, accepted.json()["checked"]) == (202, False)
    gate.open()
    until(lambda: tree.invoke("slow.train", {"x": 1}).json()["checked"], what="a checked input")
    problem(tree.invoke("slow.train", {"x": "?"}), 422, "invalid-input")
    task = tree.ended(accepted.json()["id"])
    assert (task["state"], task["error"]["type"]) == ("failed", "/problems/invalid-input")


def test_a_validator_that_ends_its_process_keeps_nobody_from_being_accepted(
    tmp_path: Path, grow: Grow
) -> None:
    tree = grow(project(tmp_path / "odd", odd=ODD)).ready()
    accepted = tree.invoke("odd.train", {"x": -1})
    assert (accepted.status_code, accepted.json()["checked"]) == (202, False)
    problem(tree.invoke("odd.train", {"x": "?"}), 422, "invalid-input")
    assert tree.ended(accepted.json()["id"])["state"] == "crashed"
    assert tree.result(tree.submit("odd.train", {"x": 1})) == 1
