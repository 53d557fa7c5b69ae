"""Pools of a project's own beside cpu and gpu, and trees with some of them only."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Grow
from tests.acceptance.tree import Gate, Tree, lent, project, until

TOML = """
[run]
reload = false

[pools.big]
slots = 1
task_slots = 1
queue = 1

[pools.cards]
devices = true
"""
WHERE = """
import os
import pathlib
import time

import skipper


def _seen():
    return {"pid": os.getpid(), "devices": os.environ["CUDA_VISIBLE_DEVICES"]}


@skipper.data
def on_cpu():
    return _seen()


@skipper.data(pool="gpu")
def on_gpu():
    return _seen()


@skipper.data(pool="big")
def on_big():
    return _seen()


@skipper.data(pool="cards")
def on_cards():
    return _seen()


@skipper.data(pool="big")
def hold(gate: str) -> str:
    pathlib.Path(f"{gate}.in-{os.getpid()}").touch()
    while not pathlib.Path(gate).exists():
        time.sleep(0.01)
    return "through"


@skipper.data
def across() -> int:
    return on_big.remote()["pid"]
"""
LOST = """
import skipper


@skipper.data(pool="bog")
def f():
    return 1
"""
POOLS = ("cpu", "gpu", "big", "cards")


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("pools"), TOML, where=WHERE, lost=LOST)
    with lent(Tree(folder)) as tree:
        yield tree.ready()
        tree.end()


def test_each_pool_is_a_part_of_the_tree_like_any_other(pools: Tree) -> None:
    names = set(pools.pids())
    assert {name for pool in POOLS for name in (pool, f"{pool}-consumer")} <= names
    assert [each["pool"] for each in pools.json("/v1/pools")["items"]] == [*POOLS]
    assert pools.pool("big")["slots"] == pools.pool("big")["task_slots"] == 1
    ready = pools.get("/readyz", params={"verbose": ""}).text
    assert "[+]consumer big ok" in ready
    assert 'skipper_queue_depth{pool="big"' in pools.get("/metrics").text


@pytest.mark.parametrize("pool", POOLS)
def test_a_function_runs_in_its_pool_directly_and_as_a_task(pools: Tree, pool: str) -> None:
    direct = pools.value(f"where.on_{pool}")
    task_id = pools.submit(f"where.on_{pool}")
    assert pools.result(task_id)["pid"] != direct["pid"]  # tasks have instances of their own
    assert pools.task(task_id)["pool"] == pool
    assert f"where.on_{pool}" in {each["function"] for each in pools.pool(pool)["instances"]}


@pytest.mark.parametrize("pool", ["cpu", "big"])
def test_a_pool_without_devices_gives_none(pools: Tree, pool: str) -> None:
    assert pools.value(f"where.on_{pool}")["devices"] == "-1"


def test_a_pool_with_devices_says_what_it_has(pools: Tree) -> None:
    devices = pools.pool("cards")["devices"]
    assert devices == pools.pool("gpu")["devices"]
    assert pools.pool("big")["devices"] == []
    assert devices or "(no GPU found: cards functions run on the CPU)" in pools.output


def test_functions_call_each_other_across_pools(pools: Tree) -> None:
    assert pools.value("where.across") == pools.value("where.on_big")["pid"]


def test_a_full_pool_takes_no_place_of_the_others(pools: Tree, gate: Gate) -> None:
    task_id = pools.submit("where.hold", gate.body)
    gate.wait_for()
    waiting = [pools.submit("where.on_big") for _ in range(3)]
    assert pools.result(pools.submit("where.on_cpu"))["pid"] not in (0, os.getpid())
    assert pools.value("where.on_big")["pid"]  # direct calls have slots of their own
    assert {pools.task(each)["state"] for each in waiting} == {"queued"}
    gate.open()
    assert pools.result(task_id) == "through"
    for each in waiting:
        pools.result(each)


def test_a_function_of_a_pool_that_is_not_there_is_named_with_its_place(pools: Tree) -> None:
    (broken,) = pools.json("/v1/functions")["broken"]
    assert (broken["file"], broken["line"]) == ("functions/lost.py", 5)
    assert broken["error"].endswith("pool='bog': write 'cpu' or 'gpu' or 'big' or 'cards'.")


def test_a_tree_may_do_without_any_of_them(grow: Grow, pools: Tree) -> None:
    folder = project(pools.folder / "part", TOML, where=WHERE)
    tree = grow(folder, "--only", "gateway,scheduler,pool:big").ready()
    assert [each["pool"] for each in tree.json("/v1/pools")["items"]] == ["big"]
    assert tree.value("where.on_big")["pid"]
    assert tree.invoke("where.on_cpu").status_code == 404
    until(lambda: "Pools      big " in tree.output, what="the banner")
    assert "cpu" not in {name.partition("-")[0] for name in tree.pids()}
    tree.end()
