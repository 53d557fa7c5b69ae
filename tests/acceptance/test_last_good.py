"""What a caller gets of code that does not load, and of functions that do not start.

The last good code serves on, from its text and not from the folder, whatever becomes of the
processes; what is said of a function is what a call would get; what was mended is noticed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.tree import CPU_ALONE, Tree, lent, project, until

RATES = "RATE = 2.0\n"
PRICE = """
import os
import skipper
from functions import _rates

@skipper.inference(idle="1s", recycle=3)
def price(x: float) -> float:
    return x * _rates.RATE

@skipper.inference(idle="1s")
def pid() -> int:
    return os.getpid()

@skipper.training
def train(x: float) -> float:
    return x * _rates.RATE
"""
PLACE = "{place}"
"""What each of these needs is a file at this place."""
NEEDY = {
    "module": f"""
import skipper
if not os.path.exists("{PLACE}"):
    raise RuntimeError("no table")

@skipper.data(idle="1s")
def ask() -> str:
    return "fine"
""",
    "state": f"""
import skipper

@skipper.data(idle="1s")
class ask:
    def __init__(self) -> None:
        self.text = open("{PLACE}").read()

    def __call__(self) -> str:
        return "fine"
""",
    "variable": f"""
import skipper
TOKEN = (os.environ | dict(line.split("=") for line in open("{PLACE}")))["TOKEN"]

@skipper.training(idle="1s")
def ask() -> str:
    return "fine"
""",
}
BROKEN = {
    "helper": ("functions/_rates.py", "RATE = 2.0 +\n"),
    "name": ("functions/_rates.py", "RATE = two\n"),
    "file": ("functions/prices.py", "import skipper\n\ndef (:\n"),
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folder = project(tmp_path_factory.mktemp("good"), _rates=RATES, prices=PRICE)
    with lent(Tree(folder, "--reload", *CPU_ALONE)) as tree:
        yield tree.ready()


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, tree: Tree) -> Iterator[str]:
    """The tree's one file does not load any more; the code that did."""
    good = tree.invoke("prices.price", {"x": 3.0}).headers["x-skipper-code"]
    file, text = BROKEN[request.param]
    before = (tree.folder / file).read_text()
    tree.save(file, text)
    tree.wait_for_broken("functions/prices.py")
    until(lambda: tree.function("prices.price")["state"] == "stale", what="a stale function")
    yield good
    tree.save(file, before)
    until(lambda: tree.function("prices.price")["state"] == "live", what="a live function")


def answer(tree: Tree) -> tuple[Any, str]:
    response = tree.invoke("prices.price", {"x": 3.0})
    assert response.status_code == 200, response.text
    return response.json(), response.headers["x-skipper-code"]


def test_the_last_good_code_serves_on_whatever_becomes_of_its_processes(
    tree: Tree, broken: str
) -> None:
    assert answer(tree) == (6.0, broken)
    until(lambda: not tree.instances("prices.price"), what="the end of an idle instance")
    assert [answer(tree) for _ in range(8)] == [(6.0, broken)] * 8, "recycled after three"
    os.kill(tree.value("prices.pid"), signal.SIGKILL)
    assert answer(tree) == (6.0, broken)
    assert tree.result(tree.submit("prices.train", {"x": 3.0})) == 6.0
    os.kill(host := tree.pids()["cpu"], signal.SIGKILL)
    until(lambda: tree.pids()["cpu"] not in (host, None), what="the next host")
    until(lambda: tree.pool("cpu")["reachable"] and tree.function("prices.price"), what="a link")
    assert answer(tree) == (6.0, broken)
    assert tree.result(tree.submit("prices.train", {"x": 3.0})) == 6.0
    assert tree.function("prices.price")["state"] == "stale"
    verbose = tree.get("/readyz", params={"verbose": "1"})
    assert verbose.status_code == 200
    assert "stale: prices.price" in verbose.text


def test_a_new_tree_serves_the_folder_as_it_is(tmp_path: Path) -> None:
    folder = project(tmp_path, _rates=RATES, prices=PRICE)
    with lent(Tree(folder, "--reload", *CPU_ALONE)) as first:
        first.ready()
        first.end()
    (folder / "functions/_rates.py").write_text("RATE = two\n")
    with lent(Tree(folder, *CPU_ALONE)) as second:
        second.ready()
        assert second.invoke("prices.price", {"x": 3.0}).status_code == 503
        second.end()


def write_needy(folder: Path, *, is_met: bool) -> Path:
    place = folder / "needed"
    texts = {name: "import os\n" + text.replace(PLACE, str(place)) for name, text in NEEDY.items()}
    project(folder, **texts)
    if is_met:
        place.write_text("TOKEN=1\n")
    return place


def until_idle(tree: Tree, function: str) -> None:
    until(lambda: not tree.instances(function), what="the end of an idle instance")


def until_state(tree: Tree, function: str, state: str) -> None:
    until(lambda: tree.function(function)["state"] == state, what=f"{function} {state}")


def until_served(tree: Tree, function: str) -> None:
    until(lambda: tree.invoke(function).status_code == 200, 10.0, f"an answer of {function}")


def test_functions_whose_processes_do_not_start_are_failing_until_they_do(tmp_path: Path) -> None:
    place = write_needy(tmp_path, is_met=True)
    with lent(Tree(tmp_path, *CPU_ALONE)) as tree:
        tree.ready()
        assert [tree.invoke(f"{name}.ask").status_code for name in ("module", "state")] == [200] * 2
        place.unlink()
        for name in ("module", "state"):
            until_idle(tree, f"{name}.ask")
            refused = tree.invoke(f"{name}.ask")
            assert (refused.status_code, "tried at" in refused.text) == (503, True)
        assert tree.ended(tree.submit("variable.ask"))["state"] == "failed"
        for name in NEEDY:
            until_state(tree, f"{name}.ask", "failing")
            assert tree.function(f"{name}.ask")["problem"]
        verbose, metrics = tree.get("/readyz?verbose").text, tree.get("/metrics").text
        for name in NEEDY:
            assert f"failing: {name}.ask: " in verbose
            assert f'skipper_functions{{function="{name}.ask",pool="cpu",state="failing"}} 1' in (
                metrics
            )
        place.write_text("TOKEN=1\n")
        for name in ("module", "state"):
            until_served(tree, f"{name}.ask")
        assert tree.ended(tree.submit("variable.ask"))["state"] == "succeeded"
        for name in NEEDY:
            until_state(tree, f"{name}.ask", "live")
        tree.end()


@pytest.mark.parametrize("flags", [(), ("--reload",)], ids=["plain", "reload"])
def test_what_a_file_lacked_is_noticed_within_ten_seconds_of_a_call(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Pylons/hupper#24: a package installed, a table or a variable created meanwhile."""
    place = write_needy(tmp_path, is_met=False)
    # What `pip install` does, as far as Python sees it: a package appears where it looks.
    installed = tmp_path / "installed"
    installed.mkdir()
    library = "import sys\nsys.path.append({!r})\nimport skipper\nimport newly_installed\n"
    body = "\n@skipper.data\ndef ask() -> int:\n    return newly_installed.ONE\n"
    project(tmp_path, library=library.format(str(installed)) + body)
    wanted = ("module", "library")
    with lent(Tree(tmp_path, *flags, *CPU_ALONE)) as tree:
        tree.ready()
        for name in wanted:
            refused = tree.invoke(f"{name}.ask")
            assert (refused.status_code, "tried at" in refused.text) == (503, True)
        assert tree.broken()["functions/library.py"]["tried_at"]
        place.write_text("TOKEN=1\n")
        (installed / "newly_installed.py").write_text("ONE = 1\n")
        for name in wanted:
            until_served(tree, f"{name}.ask")
        assert tree.invoke("variable.ask").status_code == 202
        until(lambda: not tree.broken(), what="the end of the reports")
        tree.end()


def test_a_stale_function_that_is_called_learns_that_its_file_loads_now(tree: Tree) -> None:
    table = tree.folder / "rates.csv"
    tree.value("prices.price", {"x": 3.0})
    tree.save("functions/_rates.py", f"RATE = float(open({str(table)!r}).read())\n")
    tree.wait_for_broken("functions/prices.py")
    table.write_text("5\n")
    until(lambda: tree.value("prices.price", {"x": 3.0}) == 15.0, 12.0, "the new rate")
    tree.save("functions/_rates.py", RATES)
    until(lambda: tree.value("prices.price", {"x": 3.0}) == 6.0, what="the old rate")
