"""What tasks have of the machine, and of each other: threads, turns, and a common end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Grow
from tests.acceptance.tree import Gate, Tree, lent, project, until

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="signals and affinity as on Linux"
)
TOML = """
[pools.cpu]
task_slots = 6
slots = 8
"""
BESIDE = """
import os
import pathlib
import time

import joblib
import numpy as np
import skipper
from threadpoolctl import threadpool_info


def _wait(gate):
    # Not its process id alone: an instance runs one after the other.
    pathlib.Path(f"{gate}.in-{os.getpid()}-{time.time_ns()}").touch()
    while not pathlib.Path(gate).exists():
        time.sleep(0.01)


def _threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    native = [pool["num_threads"] for pool in threadpool_info()]
    omp = int(os.environ["OMP_NUM_THREADS"])
    return {"native": native, "joblib": joblib.cpu_count(), "omp": omp}


@skipper.training
def threads() -> dict:
    return _threads()


@skipper.training(threads=1)
def one_thread() -> dict:
    return _threads()


@skipper.training
def threads_before_and_after(gate: str, seconds: float = 20.0) -> list:
    '''On how many it computes while others run, and once they have ended.'''
    before = _threads()["omp"]
    pathlib.Path(f"{gate}.in-{os.getpid()}").touch()
    ends = time.monotonic() + seconds
    while (now := _threads()["omp"]) == before and time.monotonic() < ends:
        np.ones((50, 50)) @ np.ones((50, 50))
    return [before, now]


@skipper.training
def hold(gate: str) -> str:
    _wait(gate)
    return "through"


@skipper.training(concurrency=1, concurrency_key="customer")
def bounded(gate: str, customer: str = "ann") -> str:
    _wait(gate)
    return customer


@skipper.data
def between(gate: str) -> str:
    '''A direct call in the middle of a family.'''
    return hold.spawn(gate).id


@skipper.training
def parent(gate: str) -> None:
    hold.spawn(gate)
    hold.spawn_detached(gate)
    between.remote(gate)
    middle.remote(gate)


@skipper.training
def middle(gate: str) -> None:
    hold.remote(gate)


tries = []


@skipper.data(retries=2, backoff="10ms", retry_on=KeyError)
def unsure(error: str = "KeyError", fails: int = 2) -> int:
    tries.append(error)
    if len(tries) <= fails:
        raise {"KeyError": KeyError, "ValueError": ValueError}[error]("not yet")
    done = len(tries)
    tries.clear()
    return done


@skipper.data
def asks_unsure() -> int:
    return unsure.remote()
"""
REFUSED = """
import skipper


@skipper.training(max=1)
def train() -> None: ...
"""


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(
        tmp_path_factory.mktemp("beside") / "project", TOML, beside=BESIDE, refused=REFUSED
    )
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


CORES = len(os.sched_getaffinity(0))


def children(tree: Tree, parent: str) -> list[Any]:
    items = tree.json("/v1/tasks", params={"limit": 200})["items"]
    return [item for item in items if item["parent_id"] == parent]


# --- threads ---


def test_a_task_alone_has_all_cores_and_every_library_agrees(beside: Tree) -> None:
    found = beside.result(beside.submit("beside.threads"))
    assert set(found["native"]) == {CORES}
    assert (found["joblib"], found["omp"]) == (CORES, CORES)


def test_a_function_says_on_how_many_threads_it_computes(beside: Tree) -> None:
    found = beside.result(beside.submit("beside.one_thread"))
    assert set(found["native"]) == {1}
    assert (found["joblib"], found["omp"]) == (1, 1)


@pytest.mark.skipif(CORES < 2, reason="one core cannot be shared")
def test_a_task_that_is_left_alone_gets_the_other_cores(beside: Tree, gate: Gate) -> None:
    others = [beside.submit("beside.hold", gate.body) for _ in range(CORES - 1)]
    gate.wait_for(CORES - 1)
    task = beside.submit("beside.threads_before_and_after", gate.body)
    gate.wait_for(CORES)
    gate.open()
    assert [beside.result(each) for each in others] == ["through"] * len(others)
    assert beside.result(task) == [1, CORES]


@pytest.mark.skipif(CORES < 2, reason="one core cannot be held to fewer")
def test_a_tree_that_may_use_one_core_has_slots_and_threads_for_one(
    tmp_path: Path, grow: Grow
) -> None:
    """https://github.com/thatmattlove/hyperglass/issues/356: as many as the machine has."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        tree = grow(project(tmp_path / "project", beside=BESIDE)).ready()
    finally:
        os.sched_setaffinity(0, cores)
    capacity = tree.pool("cpu")
    assert (capacity["slots"], capacity["task_slots"]) == (2, 1)
    assert tree.result(tree.submit("beside.threads"))["joblib"] == 1
    assert f"pool cpu may use 1 of {os.cpu_count()} cores" in tree.output


# --- turns ---


def test_one_task_of_a_key_runs_at_a_time(beside: Tree, gate: Gate) -> None:
    first, second = [beside.submit("beside.bounded", gate.body) for _ in range(2)]
    other = beside.submit("beside.bounded", gate.body | {"customer": "bob"})
    gate.wait_for(2)
    for running in (first, other):
        beside.wait_for_state(running, "running")
    assert beside.task(second)["state"] == "queued"
    gate.open()
    assert [beside.result(each) for each in (first, second, other)] == ["ann", "ann", "bob"]
    assert beside.task(second)["started_at"] >= beside.task(first)["finished_at"]


def test_a_bound_that_would_bound_nothing_is_refused(beside: Tree) -> None:
    broken = beside.wait_for_broken("functions/refused.py")
    assert "max= counts for direct calls" in broken["error"]
    assert broken["line"] == 5


# --- families ---


def test_a_cancelled_task_takes_with_it_what_it_has_started(beside: Tree, gate: Gate) -> None:
    parent = beside.submit("beside.parent", gate.body)
    gate.wait_for(4)
    found = children(beside, parent)
    middle = next(each for each in found if each["function"] == "beside.middle")
    below = children(beside, middle["id"])
    beside.post(f"/v1/tasks/{parent}/cancel")

    ended = beside.ended(parent)
    family = {each["id"] for each in (*found, *below)}
    assert (len(found), len(below), ended["state"]) == (4, 1, "cancelled")
    (alone,) = ended["error"]["detached"]
    assert set(ended["error"]["cancelled"]) == family - {alone}
    for task_id in family - {alone}:
        assert beside.ended(task_id)["state"] == "cancelled"
    assert beside.task(alone)["state"] == "running"
    gate.open()
    assert beside.result(alone) == "through"


def test_a_task_that_ends_by_itself_leaves_what_it_has_started(beside: Tree, gate: Gate) -> None:
    started = beside.value("beside.between", gate.body)
    gate.wait_for()
    gate.open()
    assert beside.result(started) == "through"


# --- retries of direct calls ---


def test_a_direct_call_is_tried_again_whoever_makes_it(beside: Tree) -> None:
    assert beside.value("beside.unsure", {}) == 3
    assert beside.value("beside.asks_unsure", {}) == 3
    until(lambda: "run 2 of 3 failed" in beside.output, what="a line for each")


def test_what_is_not_to_be_tried_again_is_answered_at_once(beside: Tree) -> None:
    response = beside.invoke("beside.unsure", {"error": "ValueError", "fails": 1})
    assert (response.status_code, response.json()["retryable"]) == (500, False)
    assert beside.value("beside.unsure", {"fails": 0}) == 2
