"""``skipper up --reload``: saved files are followed, and nobody notices but by the answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from tests.acceptance.conftest import PLAIN
from tests.acceptance.events import metrics
from tests.acceptance.test_statuses import problem
from tests.acceptance.tree import Gate, Tree, lent, project, until, write

ANSWER = """
import skipper

@skipper.data
def answer() -> int:
    return {}
"""
HOLD = """
import time
from pathlib import Path

import skipper

VERSION = {version}

def stay(gate: str) -> int:
    Path(f"{{gate}}.in-{{time.monotonic_ns()}}").touch()
    while not Path(gate).exists():
        time.sleep(0.01)
    return VERSION

@skipper.data
def direct(gate: str) -> int:
    return stay(gate)

@skipper.training
def task(gate: str) -> int:
    return stay(gate)

@skipper.data
def version() -> int:
    return VERSION
"""
SET_UP = """
import skipper

@skipper.data
class Thing:
    def __init__(self) -> None:
        {}

    def __call__(self) -> str:
        return {}
"""
BROKEN = "import skipper\n\nx = np.zeros(3)\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("reload"), bystander=ANSWER.format(1))
    with lent(Tree(folder, "--reload")) as tree:
        yield tree.ready()
        tree.end()


_names = itertools.count(1)


@pytest.fixture
def name(tree: Tree) -> str:
    """The stem of a new file with a function that answers 1, which is served and warm."""
    stem = f"file{next(_names)}"
    tree.save(f"functions/{stem}.py", ANSWER.format(1))
    wait_for(tree, f"{stem}.answer", 1)
    return stem


def code_of(tree: Tree, function: str) -> str:
    told = tree.function(function)
    assert told is not None
    return str(told["code"])


def wait_for(tree: Tree, function: str, value: object) -> None:
    def answers() -> bool:
        response = tree.invoke(function)
        return response.status_code == 200 and response.json() == value

    until(answers, what=f"{function} answering {value}")


def reloads(tree: Tree) -> dict[str, float]:
    _, samples = metrics(tree.get("/metrics").text)["skipper_reloads_total"]
    return {labels["outcome"]: count for labels, count in samples}


def test_a_saved_file_answers_with_its_new_code(tree: Tree, name: str) -> None:
    before = tree.invoke(f"{name}.answer").headers["x-skipper-code"]
    tree.save(f"functions/{name}.py", ANSWER.format(2))
    wait_for(tree, f"{name}.answer", 2)
    response = tree.invoke(f"{name}.answer")
    assert response.headers["x-skipper-code"] != before
    assert code_of(tree, f"{name}.answer") == response.headers["x-skipper-code"]


def test_the_deadline_of_a_call_holds_when_its_code_has_been_replaced(
    tree: Tree, gate: Gate
) -> None:
    hold = HOLD.replace("@skipper.data\ndef direct", "@skipper.data(timeout=10)\ndef direct")
    tree.save("functions/late.py", hold.format(version=1))
    wait_for(tree, "late.version", 1)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(tree.invoke, "late.direct", gate.body)
        gate.wait_for()
        tree.save("functions/late.py", hold.format(version=2))
        wait_for(tree, "late.version", 2)
        problem(call.result(), 504, "deadline-passed")
    until(lambda: tree.pool("cpu")["busy"] == 0, what="the slot of the call that was late")


def test_calls_under_way_end_on_the_code_they_began_with(tree: Tree, gate: Gate) -> None:
    tree.save("functions/hold.py", HOLD.format(version=1))
    wait_for(tree, "hold.version", 1)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(tree.invoke, "hold.direct", gate.body)
        task_id = tree.submit("hold.task", gate.body)
        gate.wait_for(2)
        old = code_of(tree, "hold.direct")
        tree.save("functions/hold.py", HOLD.format(version=2))
        wait_for(tree, "hold.version", 2)
        new = code_of(tree, "hold.direct")
        gate.open()
        assert (call.result().json(), call.result().headers["x-skipper-code"]) == (1, old)
    assert tree.result(task_id) == 1
    assert tree.task(task_id)["code"] == old
    assert tree.value("hold.direct", gate.body) == 2
    again = tree.submit("hold.task", gate.body)
    assert tree.result(again) == 2
    assert tree.task(again)["code"] == new != old


def test_ten_reloads_under_load_fail_no_call(tree: Tree, name: str) -> None:
    function, stop = f"{name}.answer", Event()

    def ask() -> list[tuple[int, int]]:
        answers = []
        while not stop.is_set():
            response = tree.invoke(function)
            answers.append((response.status_code, response.json()))
        return answers

    with ThreadPoolExecutor(3) as callers:
        asking = [callers.submit(ask) for _ in range(3)]
        for version in range(2, 12):
            tree.save(f"functions/{name}.py", ANSWER.format(version))
            wait_for(tree, function, version)
        stop.set()
        answers = [caller.result() for caller in asking]
    for mine in answers:
        assert {status for status, _ in mine} == {200}
        values = [value for _, value in mine]
        assert values == sorted(values), "an answer of older code after one of newer"
        assert values[0] == 1
    assert max(value for mine in answers for _, value in mine) == 11


def test_a_reload_restarts_nothing_else(tree: Tree, name: str) -> None:
    tree.value("bystander.answer")
    processes, bystanders = tree.pids(), tree.instances("bystander.answer")
    for version in (2, 3):
        tree.save(f"functions/{name}.py", ANSWER.format(version))
        wait_for(tree, f"{name}.answer", version)
    assert tree.pids() == processes
    assert bystanders
    assert tree.instances("bystander.answer") == bystanders
    until(lambda: len(tree.instances(f"{name}.answer")) == 1, what="the end of old instances")


def test_a_save_of_the_settings_is_told_once_and_restarts_nothing(tree: Tree) -> None:
    text, processes = (tree.folder / "skipper.toml").read_text("utf-8"), tree.pids()
    write(tree.folder, "skipper.toml", text + "\n[models.told]\npromote = 'never'\n")
    until(lambda: "models.told.promote = 'never': Input should be" in tree.output)
    write(tree.folder, "skipper.toml", text + "\n[plugins.told]\ntoken = 'SESAME'\n")
    warning = "skipper.toml has changed: plugins.told."
    until(lambda: warning in tree.output, what="the warning")
    write(tree.folder, "skipper.toml", text)
    until(lambda: "skipper.toml says again what this tree was started with" in tree.output)
    assert tree.output.count(warning) == 1
    assert "SESAME" not in tree.output
    assert tree.pids() == processes


@pytest.mark.parametrize(
    "broken",
    [BROKEN, "import skipper\n\ndef (:\n", "import sys\n\nsys.exit(1)\n", "import os\nos._exit(3)"],
)
def test_a_broken_save_leaves_the_last_good_version(tree: Tree, name: str, broken: str) -> None:
    file, function = f"functions/{name}.py", f"{name}.answer"
    good = code_of(tree, function)
    tree.save(file, broken)
    tree.wait_for_broken(file)
    until(lambda: tree.broken()[file]["functions"] == [function], what="what stays as it was")
    assert tree.function(function)["state"] == "stale"
    response = tree.invoke(function)
    assert (response.json(), response.headers["x-skipper-code"]) == (1, good)
    assert tree.result(tree.submit(function)) == 1
    tree.save(file, ANSWER.format(2))
    wait_for(tree, function, 2)
    until(lambda: file not in tree.broken(), what="the end of the report by either pool")
    assert tree.function(function)["state"] == "live"


def test_undoing_a_broken_save_makes_it_live_again(tree: Tree, name: str) -> None:
    file, function = f"functions/{name}.py", f"{name}.answer"
    tree.save(file, BROKEN)
    tree.wait_for_broken(file)
    until(lambda: tree.broken()[file]["functions"] == [function], what="what stays as it was")
    tree.save(file, ANSWER.format(1))
    until(lambda: file not in tree.broken(), what="the end of the report")
    assert tree.function(function)["state"] == "live"
    assert tree.value(function) == 1


def test_code_whose_set_up_fails_never_takes_over(tree: Tree) -> None:
    file, function = "functions/thing.py", "thing.Thing"
    tree.save(file, SET_UP.format("pass", "'good'"))
    wait_for(tree, function, "good")
    tree.save(file, SET_UP.format("raise RuntimeError('no set-up')", "'bad'"))
    told = tree.wait_for_broken(file)
    assert "no set-up" in told["error"]
    assert tree.value(function) == "good"
    tree.save(file, SET_UP.format("pass", "'better'"))
    wait_for(tree, function, "better")


def test_a_new_file_is_served_and_a_deleted_one_is_not(tree: Tree, name: str) -> None:
    (tree.folder / f"functions/{name}.py").unlink()
    until(lambda: tree.function(f"{name}.answer") is None, what="the end of the function")
    problem(tree.invoke(f"{name}.answer"), 404, "unknown-function")
    assert f"/v1/functions/{name}.answer/invoke" not in tree.json("/openapi.json")["paths"]
    tree.save(f"functions/{name}.py", ANSWER.format(5))
    wait_for(tree, f"{name}.answer", 5)


def test_a_deleted_broken_file_is_no_longer_told(tree: Tree, name: str) -> None:
    file = f"functions/{name}.py"
    tree.save(file, BROKEN)
    tree.wait_for_broken(file)
    (tree.folder / file).unlink()

    def is_gone() -> bool:
        # Either pool may be the last to forget it: the host that served it answers 404 by then.
        return file not in tree.broken() and tree.invoke(f"{name}.answer").status_code == 404

    until(is_gone, what="the end of the function")
    problem(tree.invoke(f"{name}.answer"), 404, "unknown-function")


def test_functions_come_and_go_within_a_file(tree: Tree, name: str) -> None:
    tree.save(f"functions/{name}.py", ANSWER.format(2).replace("answer", "renamed"))
    wait_for(tree, f"{name}.renamed", 2)
    problem(tree.invoke(f"{name}.answer"), 404, "unknown-function")


def test_a_task_whose_function_is_gone_ends_failed_with_that_reason(
    tree: Tree, name: str, gate: Gate
) -> None:
    tree.save("functions/full.py", HOLD.format(version=1))
    wait_for(tree, "full.version", 1)
    slots = tree.pool("cpu")["task_slots"]
    holding = [tree.submit("full.task", gate.body) for _ in range(slots)]
    gate.wait_for(slots)
    task_id = tree.submit(f"{name}.answer")
    (tree.folder / f"functions/{name}.py").unlink()
    until(lambda: tree.function(f"{name}.answer") is None, what="the end of the function")
    gate.open()
    assert [tree.result(other) for other in holding] == [1] * slots
    task = tree.ended(task_id)
    assert task["state"] == "failed"
    assert f"{name}.answer" in task["error"]["detail"]


def test_the_same_text_saved_again_changes_nothing(tree: Tree, name: str) -> None:
    before, warm = reloads(tree), tree.instances(f"{name}.answer")
    tree.save(f"functions/{name}.py", ANSWER.format(1))
    tree.save("functions/marker.py", ANSWER.format(next(_names)))
    until(lambda: tree.function("marker.answer"), what="the next change being followed")
    assert reloads(tree) == before
    assert tree.instances(f"{name}.answer") == warm


def test_of_a_burst_of_saves_the_last_one_counts(tree: Tree, name: str) -> None:
    for version in range(2, 22):
        tree.save(f"functions/{name}.py", ANSWER.format(version))
    wait_for(tree, f"{name}.answer", 21)


def test_a_module_of_a_package_is_followed(tree: Tree) -> None:
    tree.save("functions/pack/__init__.py", "from functions.pack.inner import answer\n")
    tree.save("functions/pack/inner.py", ANSWER.format(1))
    wait_for(tree, "pack.answer", 1)
    tree.save("functions/pack/inner.py", ANSWER.format(2))
    wait_for(tree, "pack.answer", 2)
    tree.save("functions/pack/inner.py", "import skipper\n\n\ndef (:\n")
    told = tree.wait_for_broken("functions/pack/__init__.py")
    assert "inner.py" in told["error"]
    assert tree.value("pack.answer") == 2


def test_helpers_beside_the_functions_are_no_functions(tree: Tree, name: str) -> None:
    tree.save("functions/_helper.py", "NUMBER = 7\n")
    text = "from functions._helper import NUMBER\n" + ANSWER.format("NUMBER")
    tree.save(f"functions/{name}.py", text)
    wait_for(tree, f"{name}.answer", 7)


# --- what a file imports is its code ------------------------------------------------------------

USES = """
import skipper
{imported}

@skipper.data
def answer() -> int:
    return {value}

@skipper.training
def task() -> int:
    return {value}

@skipper.inference
def late() -> int:
    {imported}
    return {value}
"""
IMPORTS = {
    "beside": ("functions/_{}.py", "from functions import _{}", "_{}.NUMBER"),
    "beside-by-its-own-name": ("functions/_{}.py", "import _{}", "_{}.NUMBER"),
    "relative": ("functions/_{}.py", "from ._{} import NUMBER", "NUMBER"),
    "module-of-the-project": ("{}.py", "import {}", "{}.NUMBER"),
    "package-of-the-project": ("pack_{}/inner.py", "import pack_{}.inner as i", "i.NUMBER"),
    "by-a-text": (
        "functions/_{}.py",
        "import importlib; m = importlib.import_module('functions._{}')",
        "m.NUMBER",
    ),
}


@pytest.mark.parametrize("how", IMPORTS)
def test_a_module_that_a_file_imports_is_its_code(tree: Tree, how: str) -> None:
    """apache/airflow#39975: edits of imported modules were served by some processes only."""
    stem = f"uses{next(_names)}"
    helper, imported, value = (text.format(stem + "h") for text in IMPORTS[how])
    tree.save(helper, "NUMBER = 0\n")
    tree.save(f"functions/{stem}.py", USES.format(imported=imported, value=value))
    codes = {}
    for number in range(3):
        tree.save(helper, f"NUMBER = {number}\n")
        wait_for(tree, f"{stem}.answer", number)
        replies = [tree.invoke(f"{stem}.{name}") for name in ("answer", "late") for _ in range(8)]
        assert {reply.json() for reply in replies} == {number}
        (codes[number],) = {reply.headers["x-skipper-code"] for reply in replies}
        task = tree.submit(f"{stem}.task")
        assert (tree.result(task), tree.task(task)["code"]) == (number, codes[number])
    assert len(set(codes.values())) == 3


def test_what_an_imported_module_imports_is_code_too(tree: Tree) -> None:
    tree.save("outer_part/__init__.py", "")
    tree.save("outer_part/deep.py", "NUMBER = 1\n")
    tree.save("functions/_between.py", "from outer_part.deep import NUMBER\n")
    tree.save("functions/chain.py", USES.format(imported="import _between as b", value="b.NUMBER"))
    wait_for(tree, "chain.answer", 1)
    before = code_of(tree, "chain.answer")
    tree.save("outer_part/deep.py", "NUMBER = 2\n")
    wait_for(tree, "chain.answer", 2)
    assert code_of(tree, "chain.answer") != before


def test_a_broken_module_leaves_the_last_good_code_of_those_that_import_it(
    tree: Tree, name: str
) -> None:
    """Also in instances that start later, and for what is imported only within a call."""
    tree.save("functions/_frail.py", "NUMBER = 5\n")
    text = USES.format(imported="from functions import _frail", value="_frail.NUMBER")
    tree.save("functions/frail.py", text)
    wait_for(tree, "frail.answer", 5)
    good = code_of(tree, "frail.late")
    tree.save("functions/_frail.py", "NUMBER = (\n")
    tree.wait_for_broken("functions/frail.py")
    reply = tree.invoke("frail.late")  # its first instance
    assert (reply.json(), reply.headers["x-skipper-code"]) == (5, good)
    assert tree.result(tree.submit("frail.task")) == 5
    assert f"{name}.answer" not in tree.broken()["functions/frail.py"]["functions"]
    tree.save("functions/_frail.py", "NUMBER = 6\n")
    wait_for(tree, "frail.answer", 6)


def test_only_those_that_import_a_module_are_exchanged(tree: Tree) -> None:
    tree.value("bystander.answer")
    bystanders, code = tree.instances("bystander.answer"), code_of(tree, "bystander.answer")
    tree.save("functions/_single.py", "NUMBER = 1\n")
    tree.save("functions/single.py", USES.format(imported="import _single as s", value="s.NUMBER"))
    wait_for(tree, "single.answer", 1)
    tree.save("functions/_single.py", "NUMBER = 2\n")
    wait_for(tree, "single.answer", 2)
    assert tree.instances("bystander.answer") == bystanders
    assert code_of(tree, "bystander.answer") == code


def test_a_module_that_nobody_names_is_refused_before_it_can_change_unseen(tree: Tree) -> None:
    tree.save("hidden_part.py", "NUMBER = 1\n")
    imported = "import importlib; m = importlib.import_module('hidden' + '_part')"
    tree.save("functions/hidden.py", USES.format(imported=imported, value="m.NUMBER"))
    told = tree.wait_for_broken("functions/hidden.py")
    assert "write `import hidden_part` in one" in told["error"]


CODEC = """
import skipper
from {module} import NUMBER

NUMBERS = {{"number": NUMBER}}
"""


def test_plugins_are_code_of_all_functions(grow: Callable[..., Tree], tmp_path: Path) -> None:
    """They run in every instance: an edit of one, or of what it imports, is new code."""
    text = USES.format(imported="import numbers_plugin as p", value="p.NUMBERS['number']")
    folder = project(tmp_path / "project", uses=text, other=ANSWER.format(1))
    (folder / "plugins").mkdir()
    tree = grow(folder, "--reload")
    tree.save("_amount.py", "NUMBER = 1\n")
    tree.save("plugins/numbers_plugin.py", CODEC.format(module="_amount"))
    tree.ready()
    processes, seen = tree.pids(), set()
    for number in (1, 2, 3):
        tree.save("_amount.py", f"NUMBER = {number}\n")
        wait_for(tree, "uses.answer", number)
        seen |= {code_of(tree, "uses.answer"), code_of(tree, "other.answer")}
    tree.save("plugins/numbers_plugin.py", CODEC.format(module="_amount") + "NUMBERS['number'] = 9")
    wait_for(tree, "uses.answer", 9)
    assert tree.result(tree.submit("uses.task")) == 9
    assert len(seen) == 6
    assert tree.pids() == processes


SHARES = """
from typing import Annotated
import skipper

@skipper.training
def train() -> skipper.Model:
    return skipper.Model("shared", {"calls": 0})

@skipper.inference
def count(*, model: Annotated[dict[str, int], skipper.Loaded("shared")]) -> int:
    model["calls"] += 1
    return model["calls"]
"""
STATE = """
import json
import skipper

@skipper.hook
def skipper_model_state(format: str, model: object) -> bytes:
    return json.dumps(model).encode()
"""


def test_in_development_a_call_that_changes_what_others_share_is_told_of(
    grow: Callable[..., Tree], tmp_path: Path
) -> None:
    folder = project(tmp_path / "project", shares=SHARES)
    write(folder, "plugins/tinyjson.py", (PLAIN / "plugins" / "tinyjson.py").read_text())
    write(folder, "plugins/states.py", STATE)
    tree = grow(folder, "--reload").ready()
    tree.result(tree.submit("shares.train"))
    assert [tree.value("shares.count") for _ in range(4)] == [1, 2, 3, 4]
    until(lambda: "a call has changed the model shared" in tree.output, what="a line about it")
